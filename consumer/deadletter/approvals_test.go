package deadletter

import (
	"errors"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"settled/consumer"
	"settled/ledger/natstest"
	"settled/settlement"
)

// A replay approves the message that it publishes, and a requeue of that message is
// approved too. A copy by others is not, and neither is an outcome that was discarded.
func TestApprovals(t *testing.T) {
	r := newLetterRig(t, consumer.Config{})
	approvals := NewApprovals(r.js, r.cfg)
	o := r.publish("outcome.cancellation", nil, natstest.EventOf("1"))
	l := r.store(o, settlement.Fail(settlement.Unauthorized, "x"))
	failed := []settlement.Entry{{Sequence: 1, Session: o.Session, Outcome: o.Ref, DeadLetter: l.Sequence, Error: settlement.Fail(settlement.Unauthorized, "x")}}
	refused := func(sequence uint64, why string) {
		t.Helper()
		err := approvals.Approved(t.Context(), r.outcome(sequence), failed)
		var f *settlement.Failure
		if !errors.As(err, &f) || f.Code != settlement.UntrustedOutcome || !strings.Contains(f.Message, why) {
			t.Errorf("message %d: %v, want it refused: %s", sequence, err, why)
		}
	}
	at := natstest.Must(r.letters.Replay(t.Context(), l.Sequence))
	again, err := r.letters.Requeue(t.Context(), at.Sequence, "lost")
	if err != nil || again.Origin != "OUTCOMES/2" || again.Sequence != 3 || again.Duplicate {
		t.Fatalf("%+v, %v", again, err)
	}
	if twice, err := r.letters.Requeue(t.Context(), at.Sequence, "lost"); err != nil || !twice.Duplicate || twice.Sequence != again.Sequence {
		t.Errorf("requeued twice: %+v, %v", twice, err)
	}
	if header := nats.Header(r.outcome(3).Envelope.Header); !WasRequeued(header) || header.Get(headerReplay) != "1" {
		t.Errorf("requeued with %v", header)
	}
	for _, sequence := range []uint64{at.Sequence, again.Sequence} {
		if err := approvals.Approved(t.Context(), r.outcome(sequence), failed); err != nil {
			t.Errorf("message %d: %v", sequence, err)
		}
	}
	refused(1, "settled deadletter replay 1")
	l = r.store(r.outcome(again.Sequence), settlement.Fail(settlement.Unauthorized, "x"))
	failed = append(failed, settlement.Entry{Sequence: 2, Session: o.Session, Outcome: settlement.OutcomeRef{Stream: "OUTCOMES", Sequence: 3}, DeadLetter: l.Sequence, Error: settlement.Fail(settlement.Unauthorized, "x")})
	natstest.OK(t, r.letters.Discard(t.Context(), l.Sequence, "an order for tests"))
	refused(again.Sequence, "discarded it at")
}
