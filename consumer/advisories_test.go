package consumer

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"settled/ledger/natstest"
	"settled/settlement"
)

// terminate starts the consumer after another client has fetched a message, which that
// client then terminates.
func (r *rig) terminate(reason string) {
	r.t.Helper()
	c := natstest.Must(r.js.CreateConsumer(r.t.Context(), OutcomesStream(r.cfg.Prefix), DurableConfig(r.cfg)))
	m := natstest.Must(c.Next())
	r.start()
	r.until("the consumer runs", func() bool { return r.c.Status().State == OK && r.c.Status().Paused == (r.cfg.Ready != nil) })
	natstest.OK(r.t, m.TermWithReason(reason))
}

// A message that another client terminated is settled like any other: with a log event and
// a result.
func TestATerminatedMessageIsSettled(t *testing.T) {
	r := newRig(t, nil)
	seq := r.publish("1")
	r.terminate("")
	if res := r.result(); res.Disposition != Acked || res.Outcome.Ref.Sequence != seq || res.Published.IsZero() {
		t.Errorf("got %+v", res)
	}
	r.until("logged", func() bool { return len(r.log.Events(t, "outcome settled")) == 1 })
	if n := r.durable().NumAckPending; n != 0 {
		t.Errorf("%d unanswered", n)
	}
}

// If it can't be settled at once, it is published again, and the server delivers that as
// often as necessary.
func TestATerminatedMessageThatWaits(t *testing.T) {
	r := newRig(t, nil)
	r.settler.do = func(_ context.Context, o settlement.Outcome, nth int) (settlement.Settlement, error) {
		if o.Ref.Sequence == 1 || nth == 1 {
			return settlement.Settlement{}, &settlement.Waiting{Reason: settlement.NodeUnavailable}
		}
		return closedBy(o), nil
	}
	r.publish("1")
	r.terminate("by mistake")
	for _, want := range []struct {
		sequence    uint64
		disposition Disposition
	}{{1, Returned}, {2, Returned}, {2, Acked}} {
		if res := r.result(); res.Outcome.Ref.Sequence != want.sequence || res.Disposition != want.disposition {
			t.Errorf("got %+v, want %+v", res, want)
		}
	}
	r.settledAll(2)
}

// While fetching is paused it is published again without being tried.
func TestATerminatedMessageDuringAPause(t *testing.T) {
	var ready atomic.Bool
	r := newRig(t, func(c *Config) {
		c.Ready = func() error {
			if ready.Load() {
				return nil
			}
			return errors.New("not yet")
		}
	})
	r.publish("1")
	r.terminate("")
	r.until("published again", func() bool {
		return len(r.log.Events(t, "a terminated outcome can't be settled yet and was published again")) == 1
	})
	ready.Store(true)
	if res := r.result(); res.Disposition != Acked || res.Outcome.Ref.Sequence != 2 {
		t.Errorf("got %+v", res)
	}
}

// Terminations by settled have a result: they are not processed again.
func TestOwnTerminationsAreIgnored(t *testing.T) {
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

// A durable consumer that was given a MaxDeliver stops delivering a message that was only
// returned.
func TestMaxDeliverLosesNothing(t *testing.T) {
	r := newRig(t, nil)
	r.settler.do = func(_ context.Context, o settlement.Outcome, nth int) (settlement.Settlement, error) {
		if o.Ref.Sequence == 1 && nth < 4 {
			return settlement.Settlement{}, &settlement.Waiting{Reason: settlement.ReadFailed}
		}
		return closedBy(o), nil
	}
	cfg := DurableConfig(r.cfg)
	natstest.Must(r.js.CreateConsumer(t.Context(), OutcomesStream(r.cfg.Prefix), cfg))
	r.start()
	r.until("the consumer runs", func() bool { return r.c.Status().State == OK })
	cfg.MaxDeliver = 2
	natstest.Must(r.js.UpdateConsumer(t.Context(), OutcomesStream(r.cfg.Prefix), cfg))
	r.publish("1")
	r.until("it has its result", func() bool {
		r.settler.mu.Lock()
		defer r.settler.mu.Unlock()
		_, first := r.settler.done[1]
		_, again := r.settler.done[2]
		return first || again
	})
}

// A message that was deleted too is logged, and nothing waits for it.
func TestATerminatedMessageThatWasDeleted(t *testing.T) {
	r := newRig(t, nil)
	c := natstest.Must(New(r.js, r.settler, r.cfg))
	if d, err := c.readTerminated(t.Context(), 99, nil); d != nil || err != nil {
		t.Error(d, err)
	}
	if len(r.log.Events(t, "a terminated outcome was also deleted: ask its publisher for it")) != 1 {
		t.Errorf("not logged: %s", r.log)
	}
	natstest.OK(t, r.js.DeleteStream(t.Context(), OutcomesStream(r.cfg.Prefix)))
	if _, err := c.readTerminated(t.Context(), 1, nil); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("err = %v", err)
	}
}

// A terminated message that can't be read or published again now is tried again later. Only
// one that was deleted is given up.
func TestATerminatedMessageIsTriedAgain(t *testing.T) {
	var requeueErr error
	r := newRig(t, func(c *Config) {
		c.RequeueFunc = func(context.Context, uint64, string) (uint64, error) { return 7, requeueErr }
	})
	c := natstest.Must(New(r.js, r.settler, r.cfg))
	f := newFetcher(c, newStreamMonitor(c))
	seq := r.publish("1")
	retries := 0
	retry := func() { retries++ }
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if f.enqueueTerminated(ended, seq, retry); retries != 1 {
		t.Errorf("not read: %d retries, want 1", retries)
	}
	d, err := c.readTerminated(t.Context(), seq, retry)
	if err != nil || d == nil || d.outcome.Ref.Sequence != seq {
		t.Fatalf("%+v, %v", d, err)
	}
	requeueErr = errors.New("no answer")
	if err := d.requeue(t.Context()); !errors.Is(err, requeueErr) || retries != 2 {
		t.Errorf("not published again: %v, %d retries, want 2", err, retries)
	}
	requeueErr = nil
	if err := d.requeue(t.Context()); err != nil || retries != 2 {
		t.Errorf("published again: %v, %d retries", err, retries)
	}
	natstest.OK(t, natstest.Must(r.js.Stream(t.Context(), OutcomesStream(r.cfg.Prefix))).DeleteMsg(t.Context(), seq))
	if f.enqueueTerminated(t.Context(), seq, retry); retries != 2 || len(r.log.Events(t, "a terminated outcome was also deleted: ask its publisher for it")) != 1 {
		t.Errorf("deleted: %d retries; log:\n%s", retries, r.log)
	}
}
