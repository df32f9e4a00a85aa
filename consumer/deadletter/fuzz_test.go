package deadletter

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"settled/consumer"
	"settled/settlement"
)

// Whatever headers a message has, its dead letter keeps all of them, describes the failure,
// can be written, and restores on a replay those that don't instruct the server.
func FuzzLetter(f *testing.F) {
	f.Add("ce-id", "1", "Nats-Msg-Id", "2", "because")
	f.Add("Settled-Code", "closed", "settled-code", "x", "two\nlines")
	f.Add("a b", "\r\n", "Settled-Original-Escaped-a%20b", "", "\x00\xff")
	f.Add("NATS-Rollup", "all", "", "x", strings.Repeat("ü", 600))
	f.Add("Settled-Replay", "-7", "Settled-Truncated", "1", "")
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2, why string) {
		d := &Queue{cfg: consumer.Config{}}
		had := nats.Header{k1: {v1, v2}, k2: {v2}}
		o := settlement.Outcome{Scenario: "cancellation", Envelope: settlement.Envelope{Subject: "outcome.cancellation", Header: had, Payload: []byte(v1), Stream: "OUTCOMES", Sequence: 7}}
		m := d.newMessage(o, *settlement.Fail(settlement.InvalidOutcome, "%s", why), 3, time.Unix(1, 0))
		if kept := keptHeaders(had); len(kept) != len(had) {
			t.Fatalf("%q is kept as %q", had, kept)
		}
		for name := range m.Header {
			if !isWritable(name) {
				t.Fatalf("%q can't be written", name)
			}
		}
		l := d.parse(&jetstream.RawStreamMsg{Subject: m.Subject, Sequence: 1, Header: m.Header, Data: m.Data})
		if l.Code != settlement.InvalidOutcome || l.Attempts != 3 || l.Origin != "OUTCOMES/7" || l.Subject != "outcome.cancellation" || l.Session != "" || l.Replays < 0 || l.Replays > maxReplays {
			t.Fatalf("read as %+v", l)
		}
		if len(l.Error) > maxError || strings.ContainsAny(l.Error, "\r\n") {
			t.Fatalf("error %q", l.Error)
		}
		checkRestored(t, had, restoredHeaders(m.Header))
	})
}

func checkRestored(t *testing.T, had, restored nats.Header) {
	t.Helper()
	for name, values := range restored {
		if !slices.Equal(had[name], values) {
			t.Fatalf("%q comes back as %q, it was %q", name, values, had[name])
		}
	}
	for name := range had {
		if _, back := restored[name]; back != (keptName(name) == name) {
			t.Fatalf("%q comes back: %t", name, back)
		}
	}
}
