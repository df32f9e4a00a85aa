package settlement

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// waits delivers once and checks that the outcome waits for that reason.
func (w *world) waits(o Outcome, reason Reason) *Waiting {
	w.t.Helper()
	_, err := w.deliver(o)
	var waiting *Waiting
	if !errors.As(err, &waiting) || waiting.Reason != reason {
		w.t.Fatalf("err = %v, want waiting (%s)", err, reason)
	}
	return waiting
}

func TestOperateThenClose(t *testing.T) {
	w := newWorldOf(t, versioned)
	s, err := w.run(partial(t, 1))
	if err != nil || *s.Entry.Recovered || *s.Entry.SessionVersion != 3 || s.Entry.Attempt != 1 {
		t.Errorf("%+v, %v", s.Entry, err)
	}
	w.want("closing closed ", 2)
	closing := w.entries[0]
	if closing.ValidUntil != nil || closing.BaseVersion == nil || *closing.BaseVersion != 1 || closing.Request == nil {
		t.Errorf("until %v, base %v, request %v", closing.ValidUntil, closing.BaseVersion, closing.Request)
	}
	for range 3 {
		if s, err := w.run(partial(t, 1)); err != nil || !s.Duplicate {
			t.Error(err)
		}
	}
	w.want("closing closed ", 2)
}

// A session whose allocation is already as planned needs no state update; and a session may
// be at version 0.
func TestCloseAlone(t *testing.T) {
	w := newWorldOf(t, versioned)
	w.session.Version = 0
	s, err := w.run(outcome(t, "cancellation", "", 1))
	if err != nil || *s.Entry.SessionVersion != 1 || *w.entries[0].BaseVersion != 0 {
		t.Errorf("%+v, %v", s.Entry, err)
	}
	w.want("closing closed ", 1)
}

// The process is killed at each point between the two requests: what is observed says how
// to continue, and no second intent is needed.
func TestKilledBetweenOperateAndClose(t *testing.T) {
	for _, f := range []fate{crashAfter, failedButDone, failed, late} {
		for nth := 1; nth <= 2; nth++ {
			w := newWorldOf(t, versioned)
			w.fault = func(_ int, name string) fate {
				if name == "send" && w.sent == nth {
					return f
				}
				return works
			}
			start := w.now
			w.settled(partial(t, 1))
			if got := w.states(); got != "closing closed " {
				t.Errorf("fate %d of send %d: %s", f, nth, got)
			}
			if waited := w.now.Sub(start); waited > 2*time.Second {
				t.Errorf("fate %d of send %d: waited %s, and no fence stands", f, nth, waited)
			}
		}
	}
}

// The close was answered, and the append of closed failed: the answer is recorded once the
// ledger is available again.
func TestAnswerOutlivesALostAppend(t *testing.T) {
	for _, k := range kinds {
		w := newWorldOf(t, k)
		o := w.partial(1)
		w.fault = func(_ int, name string) fate {
			if name == "append closed" {
				w.fault = func(int, string) fate { return works }
				_, _ = w.deliver(outcome(t, "cancellation", "", 2)) // another outcome's entry comes first
			}
			return works
		}
		s, err := w.deliver(o)
		if err != nil || *s.Entry.Recovered {
			t.Errorf("%s: %+v %v", k, s.Entry, err)
		}
		if got := w.states(); got != "closing failed(outcome_conflict) closed " {
			t.Errorf("%s: %s", k, got)
		}
	}
}

// Another party's update between the state update and the close takes the session off the
// path: a new plan is made from its new state, and the old intent is not continued.
func TestUpdateInBetween(t *testing.T) {
	w := newWorldOf(t, versioned)
	w.fault = func(_ int, name string) fate {
		if name == "send" && w.sent == 1 {
			return crashAfter
		}
		return works
	}
	o := partial(t, 1)
	w.unanswered(o)
	w.operate(w.allTo(0))
	w.settled(o)
	w.want("closing closing closed ", 3)
	if base := *w.entries[1].BaseVersion; base != 3 || w.entries[1].Attempt != 2 {
		t.Errorf("base %d, attempt %d", base, w.entries[1].Attempt)
	}
}

// Another party's update to exactly the planned allocation keeps the session on the path.
func TestUpdateToThePlan(t *testing.T) {
	w := newWorldOf(t, versioned)
	w.sends(failed, 1)
	o := partial(t, 1)
	w.waits(o, InDoubt)
	w.operate(w.entries[0].Allocation)
	w.settled(o)
	w.want("closing closed ", 2)
}

// No refusal fails an outcome while the session is on the path: another party may hold the
// request and send it again.
func TestNeverFailedOnPath(t *testing.T) {
	for _, nth := range []int{1, 2} {
		w := newWorldOf(t, versioned)
		o := partial(t, 1)
		if nth == 2 {
			w.sends(crashAfter, 1)
			_, _ = w.deliver(o)
		}
		w.refuse = Fail(QuorumNotReached, "quorum not met: achieved 50, required 100")
		for range 20 {
			waiting := w.waits(o, NodeRefused)
			if text := waiting.Error(); !strings.Contains(text, "permanent") || !strings.Contains(text, "quorum not met") {
				t.Errorf("nobody is paged by %q", text)
			}
		}
		if got := w.states(); got != "closing " {
			t.Errorf("%s", got)
		}
		// The request that was refused is executed after all.
		for _, f := range w.inFlight {
			_ = w.commit(f)
		}
		w.refuse = nil
		w.settled(o)
	}
}

// After refusals the outcome fails only once the session has moved on.
func TestRefusedOffPath(t *testing.T) {
	w := newWorldOf(t, versioned)
	w.refuse = errors.New("failed to lock user state")
	o := partial(t, 1)
	for range 8 {
		w.waits(o, NodeRefused)
		w.operate(w.allTo(2))
	}
	w.fails(o, AttemptsExhausted)
	if w.sent != 8 || w.entries[8].Standing.State != Free {
		t.Errorf("%d sent, %+v", w.sent, w.entries[8].Standing)
	}
}

// A refusal with a reason to wait keeps that reason.
func TestEscrowPending(t *testing.T) {
	w := newWorldOf(t, versioned)
	w.refuse = &Waiting{Reason: EscrowPending, Delay: time.Minute, Err: errors.New("cannot issue release receiver state: escrow still ongoing")}
	o := partial(t, 1)
	if waiting := w.waits(o, EscrowPending); waiting.Delay != time.Minute {
		t.Errorf("%+v", waiting)
	}
	w.refuse = nil
	w.settled(o)
	w.want("closing closed ", 3)
}

// A request that can't be made fails an outcome before its intent is recorded; afterwards the
// outcome waits.
func TestPrepareFails(t *testing.T) {
	w := newWorldOf(t, versioned)
	w.unpreparable = Fail(QuorumNotReached, "0x12 refuses")
	w.fails(partial(t, 1), QuorumNotReached)
	w.want("failed(quorum_not_reached) ", 0)
	w.unpreparable = nil
	w.sends(crashAfter, 1)
	o := partial(t, 2)
	w.unanswered(o)
	w.unpreparable = Fail(QuorumNotReached, "0x12 refuses")
	w.waits(o, NodeRefused)
	w.unpreparable = &Waiting{Reason: CosignersUnavailable, Err: errors.New("nobody answers")}
	w.waits(o, CosignersUnavailable)
	w.unpreparable = errors.New("connection lost")
	w.waits(o, NodeUnavailable)
	w.unpreparable = nil
	w.settled(o)
	w.want("failed(quorum_not_reached) closing closed ", 2)
}

// A policy or an expectation that no longer fits changes nothing on the path.
func TestPathIsLaw(t *testing.T) {
	w := newWorldOf(t, versioned)
	w.sends(crashAfter, 1)
	o := outcome(t, "partial_service", `"parties":{"provider":"`+addrB+`"},"completion":"0.3333333","expect":{"version":1}`, 1)
	w.unanswered(o)
	s := w.settler()
	s.Policies = Policies{}
	if _, err := s.Settle(t.Context(), o); err != nil {
		t.Error(err)
	}
	w.want("closing closed ", 2)
}

func TestVersionedClosedByAnother(t *testing.T) {
	for _, c := range []struct {
		it     string
		at     int
		states string
	}{
		{"as planned", 1, "closed "},
		{"otherwise", 0, "failed(closed_elsewhere) "},
	} {
		w := newWorldOf(t, versioned)
		w.operate(w.allTo(c.at))
		w.close(Plan{Allocations: w.session.Current})
		w.session.Current = nil
		o := outcome(t, "payment_completed", `"parties":{"provider":"`+addrB+`"}`, 1)
		_, err := w.run(o)
		if c.at == 0 {
			wantCode(t, err, ClosedElsewhere)
		} else if err != nil {
			t.Error(c.it, err)
		}
		w.want(c.states, 0)
	}
	t.Run("after our operate", func(t *testing.T) {
		w := newWorldOf(t, versioned)
		w.sends(crashAfter, 1)
		o := partial(t, 1)
		_, _ = w.deliver(o)
		w.operate(w.allTo(0))
		w.close(Plan{Allocations: w.session.Current})
		w.fails(o, ClosedElsewhere)
		w.want("closing failed(closed_elsewhere) ", 1)
	})
}

// A request with the fence of the other generation of node is never recorded.
func TestRequestWithAnotherFence(t *testing.T) {
	for _, k := range kinds {
		w := newWorldOf(t, k)
		w.wrongFence = true
		if text := w.waits(w.partial(1), NodeUnavailable).Error(); !strings.Contains(text, "internal error") {
			t.Errorf("%s", text)
		}
		w.want("", 0)
	}
}

// If a node reports success of an update and does nothing, it refuses the close.
func TestUpdateThatHadNoEffect(t *testing.T) {
	w := newWorldOf(t, versioned)
	w.idle = true
	w.waits(partial(t, 1), NodeRefused)
	if got := w.states(); got != "closing " || w.sent != 2 {
		t.Errorf("%s, %d sent", got, w.sent)
	}
	w.idle = false
	w.settled(partial(t, 1))
}

// After an update the node's answer says how the session is: it is read once, and the permit
// is held until the close is answered.
func TestUpdateAndCloseAfterOneRead(t *testing.T) {
	w, p := newWorldOf(t, versioned), newPermits(1)
	w.permits = p
	w.settled(partial(t, 1))
	if len(w.looks) != 1 || w.sent != 2 || p.acquired != 1 {
		t.Errorf("%d reads, %d requests, %d permits, want 1, 2 and 1", len(w.looks), w.sent, p.acquired)
	}
}

// An answered update says nothing about the session of another intent: the session is read.
func TestUpdateOfAnotherIntent(t *testing.T) {
	w := newWorldOf(t, versioned)
	o := partial(t, 1)
	if _, err := w.deliverTo(&supersededUpdate{world: w, o: o}, o); err != nil {
		t.Fatal(err)
	}
	if len(w.looks) != 4 || w.sent != 3 { // the other replica reads twice, the second time with the funding
		t.Errorf("%d reads and %d requests, want 4 and 3", len(w.looks), w.sent)
	}
}

// supersededUpdate is a node at which a party updates the session after our first update.
// Another replica then records an intent for that version, and dies.
type supersededUpdate struct {
	*world
	o    Outcome
	done bool
}

func (n *supersededUpdate) Send(ctx context.Context, r Request) (Answer, error) {
	a, err := n.world.Send(ctx, r)
	if !n.done {
		n.done = true
		n.operate(n.allTo(0))
		_, _ = n.deliverTo(dyingNode{n.world}, n.o)
	}
	return a, err
}

// dyingNode is the node of a replica that dies before it sends.
type dyingNode struct{ *world }

func (dyingNode) Send(context.Context, Request) (Answer, error) { panic(crashed{}) }

// A session that changes between every read and action does not occupy a worker for ever.
func TestStepsAreBounded(t *testing.T) {
	for _, k := range kinds {
		w := newWorldOf(t, k)
		s := w.settler()
		s.Ledger = movingHead{w}
		_, err := s.Settle(t.Context(), partial(t, 1))
		wantReason(t, err, LedgerUnavailable)
		if len(w.looks) != maxSteps || w.sent != 0 {
			t.Errorf("%s: %d reads and %d requests, want %d and 0", k, len(w.looks), w.sent, maxSteps)
		}
	}
}

// movingHead is a ledger in which another entry always comes first.
type movingHead struct{ *world }

func (movingHead) Append(context.Context, Head, Entry) (Head, error) { return Head{}, ErrHeadMoved }
