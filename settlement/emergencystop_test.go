package settlement

import (
	"context"
	"errors"
	"testing"
)

// Stopped and Stop implement EmergencyStop.
func (w *world) Stopped(context.Context) error { return w.stopped }

func (w *world) Stop(_ context.Context, _ Outcome, f Failure) error {
	return w.step("stop", func() { w.stops, w.stopped = append(w.stops, f), errors.New("stopped: "+f.Message) })
}

// overpay pays the session out twice, as two concurrent closes do.
func (w *world) overpay() {
	w.session.Open = false
	w.pay([]Allocation{{addrB, "usdc", amount("15")}, {addrB, "usdc", amount("15")}})
}

func wantReason(t *testing.T, err error, reason Reason) {
	t.Helper()
	var waiting *Waiting
	if !errors.As(err, &waiting) || waiting.Reason != reason {
		t.Errorf("err = %v, want waiting for %s", err, reason)
	}
}

// While stopped, no intent is recorded and nothing is sent; after a resume settling goes on.
func TestStoppedOutcomesWait(t *testing.T) {
	for _, k := range kinds {
		w := newWorldOf(t, k)
		w.stopped = errors.New("stopped by a test")
		o := w.partial(1)
		for range 3 {
			_, err := w.deliver(o)
			wantReason(t, err, Stopped)
		}
		w.want("", 0)
		if len(w.requests) > 0 {
			t.Errorf("at a node %s a request was made, and co-signers asked", k)
		}
		w.stopped = nil
		w.settled(o)
	}
}

// What needs no request is recorded while stopped: the failure of an outcome that can't be
// settled, and a close that was sent before and executed.
func TestStoppedReadsGoOn(t *testing.T) {
	w := newWorld(t)
	w.sends(failedButDone, 1)
	o := partial(t, 1)
	_, err := w.deliver(o)
	wantReason(t, err, InDoubt)
	w.stopped = errors.New("stopped by a test")
	if s, err := w.run(o); err != nil || !*s.Entry.Recovered {
		t.Errorf("%+v, %v", s.Entry, err)
	}
	w.fails(outcome(t, "cancellation", "", 2), OutcomeConflict)
	w.want("closing closed failed(outcome_conflict) ", 1)
}

// A stop between any two operations: from then on nothing is sent, also by a replica that was
// suspended between its append and its send.
func TestStopAtAnyPlace(t *testing.T) {
	for _, k := range kinds {
		for at := 1; at <= 20; at++ {
			w := newWorldOf(t, k)
			o := w.partial(1)
			w.events[at] = func() { w.stopped = errors.New("stopped by a test") }
			_, err := w.deliver(o)
			sent := w.sent
			if _, again := w.deliver(o); err != nil && again != nil {
				wantReason(t, again, map[bool]Reason{false: Stopped, true: InDoubt}[w.inDoubt()])
			}
			if w.sent != sent {
				t.Errorf("%s, stopped before operation %d: sent by the next call", k, at)
			}
			w.events, w.stopped = map[int]func(){}, nil
			w.settled(o)
			if t.Failed() {
				t.Fatalf("at a node %s, stopped before operation %d: %s", k, at, w.states())
			}
		}
	}
}

// inDoubt reports whether the ledger has an intent whose request may take effect.
func (w *world) inDoubt() bool {
	return w.kind != versioned && w.head(sessionHex).Standing().State == Closing
}

// A replica that reads a session that was paid twice stops every replica at once, however
// long the outcome itself has to wait for its fence before it fails.
func TestOverpaidStopsAtOnce(t *testing.T) {
	w := newWorld(t)
	w.sends(failed, 1)
	o := partial(t, 1)
	_, err := w.deliver(o)
	wantReason(t, err, InDoubt)
	w.overpay()
	_, err = w.deliver(o)
	wantReason(t, err, InDoubt)
	if len(w.stops) != 1 || w.stops[0].Code != Overpaid {
		t.Fatalf("stopped by %v", w.stops)
	}
	w.fails(o, Overpaid)
}

// The outcome does not fail before the stop is recorded, whatever fails.
func TestOverpaidSurvivesEveryFault(t *testing.T) {
	everyFault(t, 7, []int{0, 1, 3}, func(w *world) {
		if w.kind == legacy {
			return // it shows neither what was deposited nor what was paid
		}
		o := w.partial(1)
		w.overpay()
		w.fails(o, Overpaid)
		w.want("failed(overpaid) ", 0)
		if len(w.stops) == 0 {
			w.t.Error("nobody was stopped")
		}
	})
}
