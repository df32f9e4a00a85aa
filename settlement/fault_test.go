package settlement

import (
	"slices"
	"testing"
)

// fates are the ways in which an operation can fail. Only a send can be late; for any other
// operation late is the same as failed.
var fates = []fate{failed, failedButDone, late, crashBefore, crashAfter}

// strike sets the fate of the operations at these positions.
func (w *world) strike(f fate, at ...int) {
	w.zombie = 1 + at[0]%7
	w.fault = func(n int, name string) fate {
		switch {
		case !slices.Contains(at, n):
			return works
		case f == late && name != "send":
			return failed
		}
		return f
	}
}

// everyFault runs for every kind of node with every fate of an operation, at every position
// of the run and, again, some operations later. It ends at the first run that violates an
// invariant.
func everyFault(t *testing.T, ops int, again []int, run func(w *world)) {
	for _, k := range kinds {
		for _, f := range fates {
			for op := 1; op <= ops; op++ {
				for _, later := range again {
					for _, first := range []bool{false, true} {
						w := newWorldOf(t, k)
						w.first = first
						w.strike(f, op, op+later)
						run(w)
						if t.Failed() {
							t.Fatalf("at a node %s, first delivery %v, with fate %d at operation %d and %d later: %s", k, first, f, op, later, w.states())
						}
					}
				}
			}
		}
	}
}

// partial is an outcome that states what this kind of node doesn't show.
func (w *world) partial(sequence uint64) Outcome {
	if w.kind != legacy {
		return partial(w.t, sequence)
	}
	return outcome(w.t, "partial_service", `"parties":{"provider":"`+addrB+`","funder":"`+addrA+`"},"completion":"0.3333333","expect":{"totals":[{"asset":"usdc","amount":"15"}]}`, sequence)
}

// settled compares the result of an outcome with what was paid.
func (w *world) settled(o Outcome) {
	w.t.Helper()
	if _, err := w.run(o); err != nil {
		w.t.Fatal(err)
	}
	if len(w.landed) != 1 {
		w.t.Errorf("landed %d times", len(w.landed))
	}
	if last := w.entries[len(w.entries)-1]; last.State != EntryClosed || !w.paidAs(last.Allocation) {
		w.t.Errorf("ends with %s %v, paid %v", last.State, last.Allocation, w.session.Payouts)
	}
}

func TestSettleSurvivesEveryFault(t *testing.T) {
	everyFault(t, 20, []int{0, 1, 3, 6, 7}, func(w *world) { w.settled(w.partial(1)) })
}

// A second replica gets the same message at any point of the first one's run, and both have
// faults.
func TestReplicasSurviveEveryFault(t *testing.T) {
	for at := 1; at <= 19; at += 3 {
		everyFault(t, 16, []int{0, 5}, func(w *world) {
			o := w.partial(1)
			w.events[at] = func() { _, _ = w.deliver(o) }
			w.settled(o)
		})
	}
}

// Another party updates a versioned session at any point of the run: a new plan is made, and
// what is paid is what was recorded last.
func TestUpdatesSurviveEveryFault(t *testing.T) {
	for name, update := range map[string]func(w *world){
		"operates":           func(w *world) { w.operate(w.allTo(2)) },
		"operates twice":     func(w *world) { w.operate(w.allTo(2)); w.operate(w.allTo(0)) },
		"operates as it was": func(w *world) { w.operate(w.session.Current) },
		"deposits":           func(w *world) { w.deposit(0, amount("1.000001")) },
	} {
		for at := 1; at <= 16; at++ {
			for _, f := range fates {
				for op := 1; op <= 18; op += 2 {
					w := newWorldOf(t, versioned)
					w.strike(f, op, op+5)
					w.events[at] = func() {
						if w.session.Open {
							update(w)
						}
					}
					w.settled(w.partial(1))
					if t.Failed() {
						t.Fatalf("somebody %s before operation %d, fate %d at %d: %s", name, at, f, op, w.states())
					}
				}
			}
		}
	}
}

// The same for an outcome that fails: one failed entry, one dead letter.
func TestFailSurvivesEveryFault(t *testing.T) {
	everyFault(t, 6, []int{0, 2}, func(w *world) {
		w.fails(outcome(t, "payment_completed", `"parties":{"provider":"`+addrX+`"},"expect":{"totals":[{"asset":"usdc","amount":"15"}]}`, 1), NotAParticipant)
		w.want("failed(not_a_participant) ", 0)
		if len(w.letters) != 1 {
			t.Errorf("%d dead letters", len(w.letters))
		}
	})
}
