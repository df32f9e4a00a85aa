package settlement

import (
	"context"
	"errors"
	"testing"
	"time"
)

func partial(t *testing.T, sequence uint64) Outcome {
	return outcome(t, "partial_service", `"parties":{"provider":"`+addrB+`"},"completion":"0.3333333"`, sequence)
}

func (w *world) states() string {
	var s string
	for _, e := range w.entries {
		s += string(e.State)
		if e.Error != nil {
			s += "(" + string(e.Error.Code) + ")"
		}
		s += " "
	}
	return s
}

func (w *world) want(states string, sent int) {
	w.t.Helper()
	if got := w.states(); got != states {
		w.t.Errorf("entries %q, want %q", got, states)
	}
	if w.sent != sent {
		w.t.Errorf("%d requests were sent, want %d", w.sent, sent)
	}
}

func wantCode(t *testing.T, err error, code Code) {
	t.Helper()
	var f *Failed
	if !errors.As(err, &f) || f.Code != code {
		t.Errorf("err = %v, want %s", err, code)
	}
}

// fails delivers the outcome until it fails, with that code.
func (w *world) fails(o Outcome, code Code) error {
	w.t.Helper()
	_, err := w.run(o)
	wantCode(w.t, err, code)
	return err
}

// unanswered delivers the outcome once, without a result.
func (w *world) unanswered(o Outcome) {
	w.t.Helper()
	if _, err := w.deliver(o); err == nil {
		w.t.Fatal("there is a result")
	}
}

func TestSettleStraight(t *testing.T) {
	w := newWorld(t)
	s, err := w.run(partial(t, 1))
	if err != nil || *s.Entry.Recovered || *s.Entry.SessionVersion != 2 || s.Entry.Attempt != 1 {
		t.Errorf("%+v, %v", s.Entry, err)
	}
	w.want("closing closed ", 1)
	closing, closed := w.entries[0], w.entries[1]
	if closing.Standing.State != Closing || closing.Standing.Sequence != 0 || closed.Standing.State != Closed || closed.Standing.ID != "o1" {
		t.Errorf("%+v, %+v", closing.Standing, closed.Standing)
	}
	if *closing.BaseVersion != 1 || closing.ValidUntil.Sub(w.now) != validity+margin {
		t.Errorf("base %d, until %s", *closing.BaseVersion, closing.ValidUntil)
	}
	// Once more, and ten times more: nothing new.
	for range 10 {
		if s, err := w.run(partial(t, 1)); err != nil || !s.Duplicate {
			t.Error(err)
		}
	}
	w.want("closing closed ", 1)
}

func TestLostAnswerIsFoundClosed(t *testing.T) {
	w := newWorld(t)
	w.sends(failedButDone, always)
	start := w.now
	s, err := w.run(partial(t, 1))
	if err != nil || !*s.Entry.Recovered {
		t.Errorf("%+v, %v", s.Entry, err)
	}
	if waited := w.now.Sub(start); waited > 2*time.Second {
		t.Errorf("waited %s of the node's time for what a read shows", waited)
	}
	w.want("closing closed ", 1)
}

// A close is delayed in the network, and its sender is disconnected: nothing is sent before
// the close has expired, and then a new plan is made from a fresh read.
func TestHeldUpCloseIsWaitedOut(t *testing.T) {
	w := newWorld(t)
	w.sends(failed, 1)
	start := w.now
	w.settled(partial(t, 1))
	w.want("closing closing closed ", 2)
	if waited := w.now.Sub(start); waited < validity+margin {
		t.Errorf("sent again after %s, the first could take effect for %s", waited, validity+margin)
	}
	if w.entries[2].Attempt != 2 || *w.entries[2].Recovered {
		t.Errorf("%+v", w.entries[2])
	}
}

func TestTroubledReadWaitsAMargin(t *testing.T) {
	w := newWorld(t)
	w.sends(failed, 1)
	w.troubled = 8
	start := w.now
	w.settled(partial(t, 1))
	if waited := w.now.Sub(start); waited < validity+2*margin {
		t.Errorf("sent again after %s although the reads were troubled", waited)
	}
}

// Another outcome, or an invalid one with the same session id, never shortens the fence and
// never turns the result of the first into a failure.
func TestStrangersDontLiftTheFence(t *testing.T) {
	w := newWorld(t)
	w.sends(late, 1)
	a := partial(t, 1)
	w.unanswered(a)
	w.fails(outcome(t, "cancellation", "", 2), OutcomeConflict)
	garbage, _ := ParseOutcome(Envelope{Subject: "outcome.cancellation", Source: "/shop", ID: "o1", Data: []byte(`{"session_id":"` + sessionHex + `","awards":1}`), Type: "outcome.cancellation", Stream: "OUTCOMES", Sequence: 3})
	w.fails(garbage, InvalidOutcome)
	for _, e := range w.entries[1:] {
		if e.Standing.State != Closing || e.Standing.ID != "o1" || e.Standing.Sequence != 1 {
			t.Errorf("standing %+v, want closing by o1, entry 1", e.Standing)
		}
	}
	w.settled(a)
	w.want("closing failed(outcome_conflict) failed(invalid_outcome) closed ", 1)
}

func TestSameIDOtherDataIsAnotherOutcome(t *testing.T) {
	w := newWorld(t)
	w.settled(partial(t, 1))
	other := outcome(t, "partial_service", `"parties":{"provider":"`+addrB+`"},"completion":"0.4"`, 1)
	other.Ref.Sequence = 2
	w.fails(other, OutcomeConflict)
	// Another type with the same data is another outcome as well.
	retyped := partial(t, 1)
	retyped.Ref.Type, retyped.Scenario, retyped.Ref.Sequence = "outcome.no_show", "no_show", 3
	w.fails(retyped, OutcomeConflict)
	w.want("closing closed failed(outcome_conflict) failed(outcome_conflict) ", 1)
	if st := w.entries[3].Standing; st.State != Closed || st.Sequence != 2 {
		t.Errorf("%+v", st)
	}
}

func TestReplayAfterFailure(t *testing.T) {
	w := newWorld(t)
	w.missing = true
	o := partial(t, 1)
	w.fails(o, SessionNotFound)
	_, err := w.run(o) // redelivered: no entry, no second dead letter
	var f *Failed
	if !errors.As(err, &f) || !f.Duplicate {
		t.Errorf("%v", err)
	}
	w.missing = false
	o.Ref.Sequence = 9 // replayed under a new sequence
	w.settled(o)
	w.want("failed(session_not_found) closing closed ", 1)
}

// between runs a function once, after a dead letter is stored and before its entry is.
type between struct {
	DeadLetters
	do func()
}

func (b *between) Store(ctx context.Context, o Outcome, f Failure, attempts int) (uint64, error) {
	sequence, err := b.DeadLetters.Store(ctx, o, f, attempts)
	if do := b.do; do != nil {
		b.do = nil
		do()
	}
	return sequence, err
}

// Two messages of one outcome that fail at the same moment leave two dead letters and one
// entry. If both are replayed the session is closed once.
func TestTwoMessagesFailAtOnce(t *testing.T) {
	w := newWorld(t)
	w.missing = true
	first, second := partial(t, 1), partial(t, 1)
	second.Ref.Sequence = 2
	s := w.settler()
	s.DeadLetters = &between{w, func() {
		_, err := w.deliver(second)
		wantCode(t, err, SessionNotFound)
	}}
	_, err := s.Settle(t.Context(), first)
	var f *Failed
	if !errors.As(err, &f) || !f.Duplicate || f.Code != SessionNotFound {
		t.Errorf("%v", err)
	}
	w.want("failed(session_not_found) ", 0)
	if len(w.letters) != 2 {
		t.Errorf("%d dead letters", len(w.letters))
	}
	w.missing = false
	for _, sequence := range []uint64{8, 9} {
		first.Ref.Sequence = sequence
		if s, err := w.run(first); err != nil || s.Duplicate != (sequence == 9) {
			t.Errorf("%+v, %v", s, err)
		}
	}
	w.want("failed(session_not_found) closing closed ", 1)
}

// beforeRead runs a function once, before the node is read.
type beforeRead struct {
	Node
	do func()
}

func (b *beforeRead) Session(ctx context.Context, id SessionID, options ReadOptions) (Session, error) {
	if do := b.do; do != nil {
		b.do = nil
		do()
	}
	return b.Node.Session(ctx, id, options)
}

// A message whose outcome is settled meanwhile through another message sees the session
// closed, and leaves no dead letter.
func TestClosedMeanwhileByAnotherMessage(t *testing.T) {
	w := newWorldOf(t, legacy) // it doesn't show what was paid
	first := outcome(t, "payment_completed", `"expect":{"totals":[{"asset":"usdc","amount":"15"}]},"parties":{"provider":"`+addrB+`"}`, 1)
	second := first
	second.Ref.Sequence = 2
	s := w.settler()
	s.Node = &beforeRead{w, func() {
		w.settled(first)
	}}
	got, err := s.Settle(t.Context(), second)
	if err != nil || !got.Duplicate {
		t.Errorf("%+v, %v", got, err)
	}
	w.want("closing closed ", 1)
	if len(w.letters) != 0 {
		t.Errorf("dead letters: %v", w.letters)
	}
}

func TestNotFoundWithAnIntentIsWaiting(t *testing.T) {
	w := newWorld(t)
	w.sends(failedButDone, always)
	o := partial(t, 1)
	w.unanswered(o)
	w.missing = true
	w.waits(o, NodeUnavailable)
	w.missing = false
	w.settled(o)
}

// Withdrawals before the close write the same kind of rows as the close.
func TestWithdrawalsAreNotTheClose(t *testing.T) {
	for _, gap := range []time.Duration{time.Hour, time.Second} {
		w := newWorld(t)
		one, _ := ParseAmount("1")
		w.session.Payouts = []Transfer{{Wallet: w.session.Participants[0].Address, Asset: "usdc", Amount: one, At: w.now}}
		w.now = w.now.Add(gap)
		w.sends(failedButDone, always)
		if s, err := w.run(partial(t, 1)); err != nil || !*s.Entry.Recovered {
			t.Errorf("%s: %v", gap, err)
		}
	}
}

// The node may show a paid session as open again.
func TestReopenedAfterPayment(t *testing.T) {
	w := newWorld(t)
	w.sends(failedButDone, always)
	o := partial(t, 1)
	w.unanswered(o)
	w.session.Open = true
	if s, err := w.run(o); err != nil || s.Entry.State != EntryClosed {
		t.Errorf("%v", err)
	}
	w.want("closing closed ", 1)
}

func TestUnknownSession(t *testing.T) {
	w := newWorld(t)
	o, _ := ParseOutcome(Envelope{Subject: "outcome.cancellation", Payload: []byte("garbage"), Data: []byte("garbage"), Stream: "OUTCOMES", Sequence: 4})
	w.fails(o, InvalidOutcome)
	w.wantUnknown(InvalidOutcome)
	w.want("", 0)
}

// The outcomes of a session that can never be read fail, except one whose request may still
// take effect.
func TestUnreadableSession(t *testing.T) {
	w := newWorld(t)
	w.unreadable = Fail(AllocationRejected, "participant \"foo\" is no address")
	w.fails(partial(t, 1), AllocationRejected)
	w.unreadable = nil
	w.sends(failedButDone, always)
	o := partial(t, 2)
	w.unanswered(o)
	w.unreadable = Fail(AllocationRejected, "participant \"foo\" is no address")
	_, err := w.deliver(o)
	var waiting *Waiting
	if !errors.As(err, &waiting) {
		t.Errorf("%v", err)
	}
	w.unreadable = nil
	w.settled(o)
	w.want("failed(allocation_rejected) closing closed ", 1)
}

func TestTooManyRows(t *testing.T) {
	w := newWorld(t)
	for i := range MaxRows {
		w.session.Participants = append(w.session.Participants, Participant{Address: Address{1, byte(i), byte(i >> 8)}})
	}
	w.fails(partial(t, 1), AllocationRejected)
}

func TestUnknownScenarioAndUnfunded(t *testing.T) {
	w := newWorld(t)
	w.fails(outcome(t, "no_such", "", 1), UnknownScenario)
	w.session.Deposits = nil
	w.fails(outcome(t, "cancellation", "", 2), SessionUnfunded)
	w.want("failed(unknown_scenario) failed(session_unfunded) ", 0)
}

// A policy that is removed from the configuration while its request may take effect
// changes nothing until the fence has expired.
func TestPolicyRemovedInDoubt(t *testing.T) {
	w := newWorld(t)
	w.sends(late, always)
	o := partial(t, 1)
	w.unanswered(o)
	w.fault = func(int, string) fate { return works }
	s := w.settler()
	s.Policies = Policies{}
	for range 60 {
		_, err := s.Settle(context.Background(), o)
		if err == nil {
			w.want("closing closed ", 1)
			return
		}
		w.now = w.now.Add(time.Second)
	}
	t.Error("never found closed")
}

func TestStandingOfHead(t *testing.T) {
	free := Standing{State: Free}
	for name, c := range map[string]struct {
		last *Entry
		want Standing
	}{
		"no entry":           {nil, free},
		"failed, never held": {&Entry{State: EntryFailed, Sequence: 5, Standing: &Standing{State: Free}}, free},
		"failed, was held":   {&Entry{State: EntryFailed, Sequence: 5, Attempt: 1, Standing: &Standing{State: Free}}, Standing{State: Free, Sequence: 5}},
		"failed, copied":     {&Entry{State: EntryFailed, Sequence: 6, Standing: &Standing{State: Closing, ID: "a", Sequence: 3}}, Standing{State: Closing, ID: "a", Sequence: 3}},
		"closing":            {&Entry{State: EntryClosing, Sequence: 7, Standing: &Standing{State: Closing, ID: "a"}}, Standing{State: Closing, ID: "a", Sequence: 7}},
	} {
		if got := (Head{Last: c.last}).Standing(); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

// Another party's close is seen after a doubt, by reads that are not confirmed: a request of
// ours may still be running, so nothing fails before a confirmed read.
func TestTroubledReadOfAForeignCloseWaitsAMargin(t *testing.T) {
	w := newWorld(t)
	w.sends(failed, 1)
	o := partial(t, 1)
	w.unanswered(o)
	w.close(Plan{Allocations: w.allTo(2)})
	w.troubled = 8
	start := w.now
	w.fails(o, ClosedElsewhere)
	if waited := w.now.Sub(start); waited < validity+2*margin {
		t.Errorf("failed after %s although the reads were troubled", waited)
	}
}

// TestFirstDelivery: a message's first delivery does not read the head, and settles as any
// other. Where the session has entries nothing follows from the assumption that it has none.
func TestFirstDelivery(t *testing.T) {
	for _, k := range kinds {
		t.Run(string(k), func(t *testing.T) {
			w := newWorldOf(t, k)
			w.first = true
			s, err := w.deliver(w.partial(1))
			if reads := map[kind]int{versioned: 1}[k]; err != nil || s.Duplicate || *s.Entry.Recovered || w.heads != reads {
				t.Errorf("%+v, %v, the head was read %d times", s, err, w.heads)
			}
			sent := w.sent
			for range 3 { // a copy, and another delivery that passes for the first
				if again, err := w.deliver(w.partial(1)); err != nil || !again.Duplicate || again.Entry.Sequence != s.Entry.Sequence {
					t.Errorf("%+v, %v", again, err)
				}
			}
			other := w.partial(2)
			w.fails(other, OutcomeConflict)
			w.want("closing closed failed(outcome_conflict) ", sent)
		})
	}
}

// TestWrongAssumption: after a wrong assumption the next first deliveries read the head.
func TestWrongAssumption(t *testing.T) {
	w := newWorld(t)
	w.settled(partial(t, 1))
	w.first = true
	settler := w.settler()
	deliver := func() (reads int) {
		o := partial(t, 1)
		o.FirstDelivery = true
		before := len(w.looks)
		if s, err := settler.Settle(t.Context(), o); err != nil || !s.Duplicate {
			t.Errorf("%+v, %v", s, err)
		}
		return len(w.looks) - before
	}
	if n := deliver(); n != 1 {
		t.Errorf("%d reads of the node after an assumption, want 1", n)
	}
	for range readAfterWrong {
		if n := deliver(); n != 0 {
			t.Fatalf("%d reads of the node soon after a wrong assumption, want 0", n)
		}
	}
	if n := deliver(); n != 1 {
		t.Errorf("%d reads of the node later, want 1", n)
	}
}

// A session that was closed as planned is recorded only after the head was read: subscribers
// would receive the message of an append that the stream rejects as a result.
func TestNoResultIsAppendedOnAnAssumption(t *testing.T) {
	for _, k := range kinds {
		w := newWorldOf(t, k)
		w.settled(w.partial(1))
		w.first = true
		tried := &triedAppends{world: w}
		s := w.settler()
		s.Ledger = tried
		o := w.partial(1)
		o.Ref.ID, o.Ref.Sequence, o.FirstDelivery = "another", 2, true
		_, err := s.Settle(t.Context(), o)
		wantCode(t, err, OutcomeConflict)
		if len(tried.states) != 1 || tried.states[0] != EntryFailed {
			t.Errorf("%s: entries %v were tried, want failed alone", k, tried.states)
		}
	}
}

// triedAppends is a ledger that keeps which entries were tried to be appended.
type triedAppends struct {
	*world
	states []EntryState
}

func (l *triedAppends) Append(ctx context.Context, h Head, e Entry) (Head, error) {
	l.states = append(l.states, e.State)
	return l.world.Append(ctx, h, e)
}
