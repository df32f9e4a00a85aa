package ledger_test

import (
	"errors"
	"testing"

	"settled/ledger"
	"settled/ledger/ledgertest"
)

// TestWalkEnds at what was the last entry when it began, however fast others append.
func TestWalkEnds(t *testing.T) {
	mem := &ledgertest.Stream{}
	l := ledger.New(mem, config())
	fill(t, l, 1, 40)
	mem.Remove(7)
	next := 100
	var seen []uint64
	last, err := l.Walk(t.Context(), 3, func(s ledger.Stored) error {
		seen = append(seen, s.Sequence)
		fill(t, l, next, next+1)
		next += 2
		return s.Err
	})
	if err != nil || last != 40 || len(seen) != 37 || seen[0] != 3 || seen[4] != 8 || seen[36] != 40 {
		t.Errorf("walked to %d over %v: %v", last, seen, err)
	}
}

func TestWalkStops(t *testing.T) {
	mem := &ledgertest.Stream{}
	l := ledger.New(mem, config())
	if last, err := l.Walk(t.Context(), 0, nil); last != 0 || err != nil {
		t.Errorf("an empty ledger: %d, %v", last, err)
	}
	fill(t, l, 1, 3)
	enough := errors.New("enough")
	calls := 0
	if _, err := l.Walk(t.Context(), 0, func(ledger.Stored) error { calls++; return enough }); !errors.Is(err, enough) || calls != 1 {
		t.Errorf("%d calls, %v", calls, err)
	}
	if last, err := l.Walk(t.Context(), 4, func(ledger.Stored) error { calls++; return nil }); err != nil || last != 3 || calls != 1 {
		t.Errorf("from beyond the end: %d, %v, %d calls", last, err, calls)
	}
}
