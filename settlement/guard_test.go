package settlement

import (
	"errors"
	"testing"
)

// No decision fails an outcome while a request of it may land. Should one ever, nothing
// is recorded.
func TestNoFailureWhileARequestMayLand(t *testing.T) {
	w := newWorld(t)
	o := outcome(t, "partial_service", `"parties":{"provider":"`+addrB+`"},"completion":"0.3"`, 1)
	intent := Entry{State: EntryClosing, Sequence: 1, Outcome: o.Ref}
	c := call{Settler: w.settler(), o: o}
	_, err := c.fail(t.Context(), Head{Session: o.Session}, past{intention: &intent}, Fail(AttemptsExhausted, "a wrong decision"))
	var waits *Waiting
	if !errors.As(err, &waits) || waits.Reason != InDoubt {
		t.Errorf("%v, want a wait in doubt", err)
	}
	if len(w.entries) > 0 || len(w.letters) > 0 {
		t.Errorf("%d entries and %d dead letters are stored", len(w.entries), len(w.letters))
	}
}
