package ledger_test

import (
	"fmt"
	"testing"

	"settled/ledger"
	"settled/settlement"

	"github.com/nats-io/nats.go/jetstream"
)

// BenchmarkHistory reads, from a server, what the settler reads in every round: the
// ordinary session, and sessions that a publisher floods with other outcomes,
// between others' entries and at one go.
func BenchmarkHistory(b *testing.B) {
	js := connect(b, runServer(b, serverOptions))
	l := mustOpen(b, js, config())
	for i, c := range []struct{ entries, between int }{{2, 1}, {4, 1}, {20, 1}, {100, 9}, {1_000, 9}, {10_000, 1}, {10_000, 0}} {
		head := flood(b, js, l, session(i), c.entries, c.between)
		b.Run(fmt.Sprintf("entries=%d/between=%d", c.entries, c.between), func(b *testing.B) {
			for b.Loop() {
				if history, err := l.History(b.Context(), head); err != nil || len(history) != c.entries {
					b.Fatalf("%d entries, %v", len(history), err)
				}
			}
		})
	}
}

// flood gives a session its first entry, then so many others' messages as it will
// have, each so many times, and its other entries between these.
func flood(t testing.TB, js jetstream.JetStream, l *ledger.Ledger, id settlement.SessionID, entries, between int) settlement.Head {
	t.Helper()
	head := mustAppend(t, l, settlement.Head{Session: id}, closing(id, outcome("a"), 1))
	for n := 1; n < entries; n++ {
		for range between {
			if _, err := js.PublishAsync("settlement.failed.unknown", []byte("{}")); err != nil {
				t.Fatal(err)
			}
		}
		e := failed(head, id, outcome(fmt.Sprint("stranger ", n)), 0)
		e.Reason, e.Evidence = "paid elsewhere", []string{"receipt 1", "receipt 2"}
		head = mustAppend(t, l, head, e)
	}
	return head
}
