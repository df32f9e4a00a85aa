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
