package ledger_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"settled/cmd/proof/benchcompare/calibrate"
	"settled/ledger"
	"settled/ledger/ledgertest"
	"settled/ledger/natstest"
	"settled/settlement"
)

func BenchmarkCalibration(b *testing.B) { calibrate.Run(b) }

// BenchmarkAppend is an append without a server: encoding, reading back, hashing.
func BenchmarkAppend(b *testing.B) {
	head, entry := settlement.Head{Session: session(1)}, closing(session(1), outcome("a"), 1)
	for b.Loop() {
		mustAppend(b, ledger.New(&ledgertest.Stream{}, config()), head, entry)
	}
}

// BenchmarkSettle is a whole settlement with a node and a stream in memory: the loop, the
// plan, the intent and the result.
func BenchmarkSettle(b *testing.B) {
	node := newFakeNode()
	o := published(b, "a", paysProvider, 1)
	s := settlement.Settler{Node: node, DeadLetters: &letters{}, EmergencyStop: released{}, Policies: settlement.BuiltIn(), MaxAttempts: 3, FenceMargin: time.Second}
	for b.Loop() {
		node.session.Open, node.session.Payouts, node.sent, s.Ledger = true, nil, 0, ledger.New(&ledgertest.Stream{}, config())
		if done, err := s.Settle(b.Context(), o); err != nil || done.Entry.State != settlement.EntryClosed {
			b.Fatal(done, err)
		}
	}
}

func BenchmarkParseEntry(b *testing.B) {
	m := story(b, "")[0]
	for b.Loop() {
		natstest.Must(ledger.ParseEntry(m.Subject, m.Payload, 1))
	}
}

// BenchmarkVerify is an audit of a whole ledger on a server, signatures aside.
func BenchmarkVerify(b *testing.B) {
	js := natstest.Connect(b, newServer(b))
	l := mustOpen(b, js, config())
	const sessions = 10_000
	pour(b, js, sessions)
	for b.Loop() {
		if r := mustVerify(b, l); r.Entries != 2*sessions || r.Closed != sessions {
			b.Fatalf("%+v", r)
		}
	}
	b.ReportMetric(float64(2*sessions*b.N)/b.Elapsed().Seconds(), "entries/s")
}

// far is a stream that is milliseconds away, as for an auditor in another place.
type far struct {
	ledger.Stream
	away time.Duration
}

func (f far) Get(ctx context.Context, filter string, from uint64) (ledger.Message, error) {
	select {
	case <-time.After(f.away):
		return f.Stream.Get(ctx, filter, from)
	case <-ctx.Done():
		return ledger.Message{}, ctx.Err()
	}
}

// BenchmarkVerifyFar is an audit over a line of 20 ms there and back.
func BenchmarkVerifyFar(b *testing.B) {
	mem := &ledgertest.Stream{}
	const entries = 4096
	fill(b, ledger.New(mem, config()), 1, entries)
	l := ledger.New(far{mem, 20 * time.Millisecond}, config())
	for b.Loop() {
		if r := mustVerify(b, l); r.Entries != entries {
			b.Fatalf("%+v", r)
		}
	}
	b.ReportMetric(float64(entries*b.N)/b.Elapsed().Seconds(), "entries/s")
}

// pour stores so many settled sessions as fast as the server takes them.
func pour(t testing.TB, js jetstream.JetStream, sessions int) {
	t.Helper()
	for n := range sessions {
		mem := &ledgertest.Stream{}
		l := ledger.New(mem, config())
		head := mustAppend(t, l, settlement.Head{Session: session(n)}, closing(session(n), outcome("a"), 1))
		mustAppend(t, l, head, closed(session(n), outcome("a"), 1))
		for _, m := range mem.Messages() {
			natstest.Must(js.PublishAsync(m.Subject, m.Payload))
		}
	}
	<-js.PublishAsyncComplete()
}

// BenchmarkHistory reads, from a server, what the settler reads in every round: the
// ordinary session, and sessions that a publisher floods with other outcomes,
// between others' entries and at one go.
func BenchmarkHistory(b *testing.B) {
	js := natstest.Connect(b, newServer(b))
	l := mustOpen(b, js, config())
	for i, c := range []struct{ entries, between int }{{2, 1}, {4, 1}, {20, 1}, {100, 9}, {1_000, 9}, {10_000, 1}, {10_000, 0}} {
		flood(b, js, l, session(i), c.entries, c.between)
		b.Run(fmt.Sprintf("entries=%d/between=%d", c.entries, c.between), func(b *testing.B) {
			for b.Loop() {
				if head, err := l.Head(b.Context(), session(i)); err != nil || len(head.Entries) != c.entries {
					b.Fatalf("%d entries, %v", len(head.Entries), err)
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
			natstest.Must(js.PublishAsync("settlement.failed.unknown", []byte("{}")))
		}
		e := failed(head, id, outcome(fmt.Sprint("stranger ", n)), 0)
		e.Reason, e.Evidence = "paid elsewhere", []string{"receipt 1", "receipt 2"}
		head = mustAppend(t, l, head, e)
	}
	return head
}

// BenchmarkClassify finds foreign messages, with and without decoding the entries.
func BenchmarkClassify(b *testing.B) {
	messages := story(b, "")[:3] // of one session
	for _, skim := range []bool{false, true} {
		b.Run(fmt.Sprintf("skim=%v", skim), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c := ledger.NewClassifier(&ledgertest.Stream{}, ledger.AllMessages)
				if skim {
					c.Skim()
				}
				for _, m := range messages {
					if s, err := c.Classify(b.Context(), c.Decode(m)); err != nil || s.Foreign != nil {
						b.Fatal(s.Foreign, err)
					}
				}
			}
		})
	}
}
