package consumer

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"settled/settlement"
)

// takenRig has a consumer that fetches nothing, and hears what others do, until the
// test lets it.
func takenRig(t *testing.T) (r *rig, letIt func()) {
	var ready atomic.Bool
	r = newRig(t, func(c *Config) {
		c.Ready = func() error {
			if ready.Load() {
				return nil
			}
			return errors.New("not yet")
		}
	})
	r.start()
	r.until("it listens", func() bool { return r.c.Status().State == OK })
	return r, func() { ready.Store(true) }
}

// term takes a message as another client would, and terminates it.
func (r *rig) term(reason string) {
	r.t.Helper()
	c, err := r.js.Consumer(r.t.Context(), OutcomesStream(r.cfg.Prefix), "settled")
	if err != nil {
		r.t.Fatal(err)
	}
	m, err := c.Next()
	if err == nil {
		err = m.TermWithReason(reason)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

func TestATerminatedMessageIsSettled(t *testing.T) {
	r, _ := takenRig(t)
	seq := r.publish("1")
	r.term("")
	r.until("it is settled", func() bool { return r.settler.count(seq) == 1 })
	r.until("it is told", func() bool {
		return len(r.log.events(t, "the outcome that was taken out of our hands has its result")) == 1
	})
	if n := r.durable().NumAckPending; n != 0 {
		t.Errorf("%d unanswered", n)
	}
}

// What can't be settled at once is published again, for the broker to deliver as
// often as it takes.
func TestATerminatedMessageThatWaits(t *testing.T) {
	r, letIt := takenRig(t)
	r.settler.do = func(_ context.Context, o settlement.Outcome, nth int) (settlement.Settlement, error) {
		if o.Ref.Sequence == 1 || nth == 1 {
			return settlement.Settlement{}, &settlement.Waiting{Reason: settlement.NodeUnavailable}
		}
		return closedBy(o), nil
	}
	r.publish("1")
	r.term("by mistake")
	r.until("it is published again", func() bool {
		return len(r.log.events(t, "the outcome that was taken out of our hands waits: it is published again")) == 1
	})
	letIt()
	r.until("it is settled", func() bool { return r.settler.count(2) == 2 })
	if res := r.result(); res.Outcome.Ref.ID != "1" || res.Outcome.Ref.Sequence != 2 {
		t.Errorf("%+v", res.Outcome.Ref)
	}
	r.settledAll(2)
}

// Our own terminations have a result: nobody looks at them again.
func TestOurOwnTerminationsAreLeftAlone(t *testing.T) {
	r := newRig(t, nil)
	r.settler.do = func(_ context.Context, o settlement.Outcome, _ int) (settlement.Settlement, error) {
		if o.Ref.ID == "bad" {
			return settlement.Settlement{}, failedWith(settlement.NodeRejected)
		}
		return closedBy(o), nil
	}
	r.start()
	r.publish("bad")
	last := r.publish("good")
	r.settledAll(last)
	if err := r.end(); err != nil {
		t.Error(err)
	}
	if n := r.settler.count(1); n != 1 {
		t.Errorf("settled %d times", n)
	}
}

// A durable that somebody gave a MaxDeliver lets go of a message that we only gave
// back.
func TestMaxDeliverLosesNothing(t *testing.T) {
	r := newRig(t, nil)
	r.settler.do = func(_ context.Context, o settlement.Outcome, nth int) (settlement.Settlement, error) {
		if o.Ref.Sequence == 1 && nth < 4 {
			return settlement.Settlement{}, &settlement.Waiting{Reason: settlement.ReadFailed}
		}
		return closedBy(o), nil
	}
	cfg := DurableConfig(r.cfg)
	if _, err := r.js.CreateConsumer(t.Context(), OutcomesStream(r.cfg.Prefix), cfg); err != nil {
		t.Fatal(err)
	}
	r.start()
	r.until("it listens", func() bool { return r.c.Status().State == OK })
	cfg.MaxDeliver = 2
	if _, err := r.js.UpdateConsumer(t.Context(), OutcomesStream(r.cfg.Prefix), cfg); err != nil {
		t.Fatal(err)
	}
	r.publish("1")
	r.until("it has its result", func() bool {
		r.settler.mu.Lock()
		defer r.settler.mu.Unlock()
		_, first := r.settler.done[1]
		_, again := r.settler.done[2]
		return first || again
	})
}

// A message that is gone is told of, and nothing hangs on it.
func TestATakenMessageThatIsGone(t *testing.T) {
	r := newRig(t, nil)
	c, err := New(r.js, r.settler, r.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := (taken{c}).settle(t.Context(), 99); err != nil {
		t.Error(err)
	}
	if len(r.log.events(t, "an outcome was taken out of our hands and deleted: look for it at its publisher")) != 1 {
		t.Errorf("not told: %s", r.log)
	}
	if err := r.js.DeleteStream(t.Context(), OutcomesStream(r.cfg.Prefix)); err != nil {
		t.Fatal(err)
	}
	if err := (taken{c}).settle(t.Context(), 1); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("err = %v", err)
	}
}
