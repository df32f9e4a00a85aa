package settlement

import (
	"fmt"
	"slices"
	"strings"
)

// onPath reports, from the node's own state, whether requests of an intent still fit.
func (w *world) onPath(intent Entry) bool {
	s, base := w.session, *intent.BaseVersion
	return s.Open && (s.Version == base || s.Version == base+1 && sameAllocation(s.Current, intent.Allocation))
}

// accepts returns nil if a versioned node would carry the request out, else its error.
func (w *world) accepts(f flight) error {
	s := w.session
	switch {
	case !s.Open:
		return fmt.Errorf("app session is already closed")
	case f.version != s.Version+1:
		return fmt.Errorf("invalid app session version: expected %d, got %d", s.Version+1, f.version)
	case f.closes && !sameAllocation(s.Current, f.plan.Allocations):
		return fmt.Errorf("close intent requires allocations to match current state")
	case f.plan.conserves(s.Balance()) != nil:
		return fmt.Errorf("operate intent allocation mismatch")
	}
	return nil
}

func (w *world) commitVersioned(f flight) error {
	if err := w.accepts(f); err != nil {
		return err
	}
	if f.closes {
		w.close(f.plan)
		w.session.Current = nil
		return nil
	}
	w.operate(f.plan.Allocations)
	return nil
}

// operate is a state update by any party.
func (w *world) operate(split []Allocation) {
	w.session.Version++
	w.session.Current = nil
	for _, a := range split {
		a.Participant = strings.ToLower(a.Participant) // as nitronode spells it
		w.session.Current = append(w.session.Current, a)
	}
	slices.Reverse(w.session.Current) // in the node's own order
}

// allTo is an allocation that no outcome of these tests plans.
func (w *world) allTo(at int) []Allocation {
	var split []Allocation
	for _, t := range w.session.Balance() {
		split = append(split, Allocation{Participant: w.session.Participants[at].Spelling, Asset: t.Asset, Amount: t.Amount})
	}
	return split
}

// landZombies executes the late requests that are due.
func (w *world) landZombies() {
	if w.kind != versioned {
		return
	}
	for i, f := range w.inFlight {
		if f.landOp > 0 && w.ops >= f.landOp {
			w.inFlight[i].landOp = 0
			_ = w.commit(f)
		}
	}
}

// lawfulDrive checks that a request follows from the standing intent alone, which was
// recorded before.
func (w *world) lawfulDrive(f flight) {
	for _, e := range w.entries {
		if e.State != EntryClosing || !sameAllocation(e.Allocation, f.plan.Allocations) {
			continue
		}
		if base := *e.BaseVersion; f.version == base+1 || f.version == base+2 && f.closes {
			return
		}
	}
	w.t.Errorf("sent without an intent: %+v", f)
}
