package simulate

import (
	"errors"
	"fmt"
	"strings"

	"settled/settlement"
)

// fits is nil where a versioned node would carry a request out now.
func (n *node) fits(f *flight) error {
	s := f.session
	if !s.open {
		return fmt.Errorf("app session is already closed")
	}
	if f.version != s.version+1 {
		return fmt.Errorf("invalid app session version: expected %d, got %d", s.version+1, f.version)
	}
	split, err := s.split(f.rows)
	if err != nil {
		return err
	}
	if f.closes {
		return s.restated(split)
	}
	return s.reallocated(split, f.rows)
}

// split is what rows leave to everybody, by participant and asset.
func (s *appSession) split(rows []settlement.Allocation) ([][]int64, error) {
	split := make([][]int64, len(s.participants))
	for i := range split {
		split[i] = make([]int64, s.assets)
	}
	for _, r := range rows {
		i := s.wallet(strings.ToLower(r.Participant))
		units, asset := unitsOf(r)
		if i < 0 || asset < 0 || asset >= s.assets {
			return nil, settlement.Fail(settlement.NotAParticipant, "allocation to non-participant %s", r.Participant)
		}
		split[i][asset] += units
	}
	return split, nil
}

func (s *appSession) restated(split [][]int64) error {
	for i := range split {
		for asset, units := range split[i] {
			if units != s.current[i][asset] {
				return fmt.Errorf("close intent requires allocations to match current state: current %d, provided %d", s.current[i][asset], units)
			}
		}
	}
	return nil
}

func (s *appSession) reallocated(split [][]int64, rows []settlement.Allocation) error {
	for asset := range s.assets {
		var sum, held int64
		for i := range split {
			sum += split[i][asset]
			held += s.current[i][asset]
			if s.current[i][asset] > 0 && !s.named(i, asset, rows) {
				return fmt.Errorf("operate intent missing allocation for participant %d", i)
			}
		}
		if sum != held {
			return fmt.Errorf("operate intent allocation mismatch for asset %s: total allocations %d, session balance %d", assets[asset].name, sum, held)
		}
	}
	return nil
}

func (s *appSession) named(wallet, asset int, rows []settlement.Allocation) bool {
	for _, r := range rows {
		if s.wallet(strings.ToLower(r.Participant)) == wallet && r.Asset == assets[asset].name {
			return true
		}
	}
	return false
}

// operate moves a versioned session on.
func (n *node) operate(s *appSession, rows []settlement.Allocation) {
	if split, err := s.split(rows); err == nil {
		s.current = split
	}
	s.version++
}

// refuse is why the node doesn't take a request; nil: it does.
func (n *node) refuse(f *flight) error {
	if n.w.dialect == Versioned {
		return n.fits(f)
	}
	if f.expired(n) {
		return errors.New("invalid message timestamp")
	}
	if !f.session.open {
		return errors.New("an open app session not found: record not found")
	}
	return f.session.redistributed(f.rows, n.w.dialect)
}

// redistributed is nil where the rows give out all that is in the session.
func (s *appSession) redistributed(rows []settlement.Allocation, dialect Dialect) error {
	sums := make([]int64, s.assets)
	for _, r := range rows {
		units, asset := unitsOf(r)
		if s.wallet(r.Participant) < 0 || asset < 0 || asset >= s.assets {
			return settlement.Fail(settlement.NotAParticipant, "allocation to non-participant %s", r.Participant)
		}
		sums[asset] += units
	}
	if dialect == Legacy && len(rows) != len(s.participants) {
		return settlement.Fail(settlement.AllocationRejected, "allocations must be provided for every participant exactly once")
	}
	for asset, sum := range sums {
		if sum != s.balance(asset) {
			return settlement.Fail(settlement.AllocationRejected, "asset %s not fully redistributed", assets[asset].name)
		}
	}
	return nil
}

// empty leaves nothing in a versioned session.
func (s *appSession) empty() {
	for i := range s.current {
		clear(s.current[i])
	}
}
