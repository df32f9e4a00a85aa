package settlement

import (
	"context"
	"errors"
	"testing"
)

// While entries may be missing from the ledger no outcome fails, since the intent of one of
// its requests may be missing; afterwards it fails. What is found done is recorded.
func TestNoFailureWhileEntriesMayBeMissing(t *testing.T) {
	for name, c := range map[string]struct {
		outcome func(*testing.T) Outcome
		change  func(*world)
		code    Code
	}{
		"a limit":             {func(t *testing.T) Outcome { return partial(t, 1) }, func(w *world) { w.limits = most(w.t, PerSession, "0.000001") }, LimitExceeded},
		"an unknown scenario": {func(t *testing.T) Outcome { return outcome(t, "no_such", `"parties":{}`, 1) }, func(*world) {}, UnknownScenario},
		"a close by others":   {func(t *testing.T) Outcome { return partial(t, 1) }, func(w *world) { w.close(Plan{Allocations: w.allTo(0)}) }, ClosedElsewhere},
	} {
		w := newWorld(t)
		c.change(w)
		o := c.outcome(t)
		for _, missing := range []error{&Waiting{Reason: LedgerHeld, Err: errors.New("restored from an older copy")}, errors.New("no answer")} {
			w.incomplete = func(context.Context) error { return missing }
			_, err := w.deliver(o)
			var waits *Waiting
			if !errors.As(err, &waits) || waits.Reason != LedgerHeld && waits.Reason != LedgerUnavailable {
				t.Errorf("%s: %v, want to wait", name, err)
			}
		}
		if len(w.letters) > 0 {
			t.Errorf("%s: a dead letter was stored", name)
		}
		w.want("", 0)
		w.incomplete = nil
		w.fails(o, c.code)
	}
	w := newWorld(t)
	w.sends(failedButDone, 1)
	o := partial(t, 1)
	if _, err := w.deliver(o); err == nil {
		t.Error("the answer was not lost")
	}
	w.incomplete = func(context.Context) error {
		return &Waiting{Reason: LedgerHeld, Err: errors.New("restored from an older copy")}
	}
	w.settled(o)
	w.want("closing closed ", 1)
}

// A message whose session can't be read, or that is not trusted, fails only once its dead
// letter and its entry are stored. Until then it waits, and stays in the stream.
func TestAMessageWithoutSessionFailsOnlyOnRecord(t *testing.T) {
	for name, o := range map[string]Outcome{
		"unreadable": {Ref: OutcomeRef{Sequence: 1}, Invalid: Fail(InvalidOutcome, "garbage")},
		"untrusted":  partial(t, 1),
	} {
		for operation, reason := range map[string]Reason{"dead letter": DeadLetterUnavailable, "append unknown": LedgerUnavailable} {
			w := newWorld(t)
			w.trust = trusting
			w.fault = func(_ int, name string) fate { return map[string]fate{operation: failed}[name] }
			_, err := w.deliver(o)
			var waits *Waiting
			if !errors.As(err, &waits) || waits.Reason != reason || len(w.unknown) > 0 {
				t.Errorf("%s, no %s: %v and %d entries, want to wait with %s", name, operation, err, len(w.unknown), reason)
			}
			w.fault = func(int, string) fate { return works }
			var end *Failed
			if _, err := w.deliver(o); !errors.As(err, &end) || len(w.unknown) != 1 || len(w.letters) != 1 {
				t.Errorf("%s, after no %s: %v, %d entries, %d dead letters", name, operation, err, len(w.unknown), len(w.letters))
			}
			w.want("", 0)
		}
	}
}

// If the head says that an outcome holds or settled the session, and the entry by which it
// does is missing, nothing is decided: the missing entry may be the intent of a request
// that can still take effect.
func TestAMissingEntryDecidesNothing(t *testing.T) {
	for _, state := range []StandingState{Closing, Closed} {
		for name, o := range map[string]Outcome{"the holder": partial(t, 1), "another outcome": partial(t, 2)} {
			w := newWorld(t)
			standing := partial(t, 1).Ref.Standing(state)
			standing.Sequence = 7
			loser := partial(t, 3).entry(EntryFailed, 0)
			loser.Sequence, loser.N, loser.Standing, loser.Error = 1, 1, &standing, Fail(OutcomeConflict, "x")
			w.entries = []Entry{loser}
			_, err := w.deliver(o)
			var waits *Waiting
			if !errors.As(err, &waits) || waits.Reason != LedgerUnavailable || w.sent > 0 || len(w.letters) > 0 {
				t.Errorf("%s, %s: %v, %d sent, %d dead letters", name, state, err, w.sent, len(w.letters))
			}
			if _, err := w.settler().Preview(t.Context(), o); err == nil {
				t.Errorf("%s, %s: a preview decides", name, state)
			}
		}
	}
}
