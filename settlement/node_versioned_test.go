package settlement

import (
	"fmt"
	"slices"
	"strings"
)

// onPath says from the node's own state whether requests of an intent still fit.
func (w *world) onPath(intent Entry) bool {
	s, base := w.session, *intent.BaseVersion
	return s.Open && (s.Version == base || s.Version == base+1 && sameSplit(s.Current, intent.Allocation))
}

// accepts is nil where a versioned node would carry a request out, else its error.
func (w *world) accepts(f flight) error {
	s := w.session
	switch {
	case !s.Open:
		return fmt.Errorf("app session is already closed")
	case f.version != s.Version+1:
		return fmt.Errorf("invalid app session version: expected %d, got %d", s.Version+1, f.version)
	case f.closes && !sameSplit(s.Current, f.plan.Allocations):
		return fmt.Errorf("close intent requires allocations to match current state")
	case f.plan.conserves(s) != nil:
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

// operate is anybody's state update.
func (w *world) operate(split []Allocation) {
	w.session.Version++
	w.session.Current = nil
	for _, a := range split {
		a.Participant = strings.ToLower(a.Participant) // as nitronode spells it
		w.session.Current = append(w.session.Current, a)
	}
	slices.Reverse(w.session.Current) // in an order of its own
}

// allTo is a split that no outcome of these tests plans.
func (w *world) allTo(at int) []Allocation {
	var split []Allocation
	for _, t := range w.session.Balance() {
		split = append(split, Allocation{Participant: w.session.Participants[at].Spelling, Asset: t.Asset, Amount: t.Amount})
	}
	return split
}

// landZombies carries out the late requests whose time has come.
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

// lawfulDrive: what is sent follows from the standing intent alone, and was
// recorded before.
func (w *world) lawfulDrive(f flight) {
	for _, e := range w.entries {
		if e.State != EntryClosing || !sameSplit(e.Allocation, f.plan.Allocations) {
			continue
		}
		if base := *e.BaseVersion; f.version == base+1 || f.version == base+2 && f.closes {
			return
		}
	}
	w.t.Errorf("sent without an intent: %+v", f)
}
