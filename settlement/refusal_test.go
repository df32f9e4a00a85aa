package settlement

import (
	"errors"
	"testing"
	"time"
)

func TestRefusals(t *testing.T) {
	t.Run("for good", func(t *testing.T) {
		w := newWorld(t)
		w.refuse = Fail(Unauthorized, "signature from unknown participant wallet")
		w.fails(partial(t, 1), Unauthorized)
		w.want("closing failed(unauthorized) ", 1)
		if st := w.entries[1].Standing; st.State != Free {
			t.Errorf("%+v: the failed entry of the holder frees the session", st)
		}
		w.refuse = nil
		w.settled(outcome(t, "cancellation", "", 2))
	})
	t.Run("for good, but a deposit came in between", func(t *testing.T) {
		w := newWorld(t)
		w.refuse = Fail(AllocationRejected, "asset usdc not fully redistributed")
		w.refused = func() {
			w.refuse = nil
			one, _ := ParseAmount("1")
			w.deposit(0, one)
		}
		s, err := w.run(partial(t, 1))
		if err != nil || s.Entry.Attempt != 2 {
			t.Errorf("%+v %v", s.Entry, err)
		}
		w.want("closing closing closed ", 2)
	})
	t.Run("for now", func(t *testing.T) {
		w := newWorld(t)
		w.refuse = errors.New("an open app session not found: record not found")
		w.waits(partial(t, 1), NodeTransient)
		w.want("closing closing ", 2)
	})
	t.Run("for the state of the connection", func(t *testing.T) {
		for _, reason := range []Reason{NotReady, NodeTransient} {
			w := newWorld(t)
			w.refuse = &Waiting{Reason: reason, Err: errors.New("authentication required")}
			w.unpreparable = w.waits(partial(t, 1), reason) // as the node's client reports it until closes are accepted again
			w.want("closing ", 1)
			for range 100 {
				w.now = w.now.Add(time.Minute)
				w.waits(partial(t, 1), reason)
			}
			w.want("closing ", 1)
			w.refuse, w.unpreparable = nil, nil
			if s, err := w.run(partial(t, 1)); err != nil || s.Entry.Attempt != 2 {
				t.Errorf("%+v %v", s.Entry, err)
			}
			w.want("closing closing closed ", 2)
		}
	})
	t.Run("again and again", func(t *testing.T) {
		w := newWorld(t)
		w.refuse = errors.New("an open app session not found: record not found")
		w.fails(partial(t, 1), AttemptsExhausted)
		if w.sent != 8 {
			t.Errorf("sent %d times", w.sent)
		}
	})
}

func TestClosedByAnother(t *testing.T) {
	t.Run("as planned", func(t *testing.T) {
		w := newWorld(t)
		o := partial(t, 1)
		plan, f := BuiltIn()[PartialService].Plan(o, w.session)
		if f != nil {
			t.Fatal(f)
		}
		_ = w.commit(flight{plan: *plan})
		s, err := w.run(o)
		if err != nil || !*s.Entry.Recovered || s.Entry.Attempt != 0 {
			t.Errorf("%+v %v", s.Entry, err)
		}
		w.want("closed ", 0)
	})
	t.Run("otherwise", func(t *testing.T) {
		w := newWorld(t)
		plan, _ := BuiltIn()[Cancellation].Plan(outcome(t, "cancellation", "", 5), w.session)
		_ = w.commit(flight{plan: *plan})
		w.fails(partial(t, 1), ClosedElsewhere)
		w.want("failed(closed_elsewhere) ", 0)
	})
	t.Run("otherwise, while ours may take effect", func(t *testing.T) {
		w := newWorld(t)
		w.sends(failed, always)
		o := partial(t, 1)
		w.unanswered(o)
		plan, _ := BuiltIn()[Cancellation].Plan(outcome(t, "cancellation", "", 5), w.session)
		w.session.Open = false
		w.pay(plan.Allocations)
		start := w.now
		w.fails(o, ClosedElsewhere)
		if w.now.Sub(start) < validity+margin-2*time.Second {
			t.Error("failed before the fence expired")
		}
	})
}

func TestOverpaid(t *testing.T) {
	w := newWorld(t)
	plan, _ := BuiltIn()[Cancellation].Plan(outcome(t, "cancellation", "", 5), w.session)
	w.session.Open = false
	w.pay(plan.Allocations)
	w.pay(plan.Allocations)
	w.fails(outcome(t, "cancellation", "", 1), Overpaid)
}
