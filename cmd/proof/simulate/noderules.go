package simulate

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"settled/settlement"
)

// refusal is the reason why the node refuses a request; nil: it accepts it.
func (n *node) refusal(r *nodeRequest) error {
	switch {
	case n.w.dialect == Nitronode:
		return checkNitronode(r)
	case r.expired(n):
		return errors.New("invalid message timestamp")
	case !r.session.open:
		return errors.New("an open app session not found: record not found")
	}
	return r.session.checkRedistribution(r.allocation, n.w.dialect)
}

// checkRedistribution is nil if the rows pay out all that is in the session.
func (s *appSession) checkRedistribution(rows []settlement.Allocation, dialect Dialect) error {
	split, err := s.split(rows)
	if err != nil {
		return err
	}
	if dialect == Legacy && len(rows) != len(s.participants) {
		return settlement.Fail(settlement.AllocationRejected, "allocations must be provided for every participant exactly once")
	}
	for asset, balance := range s.balances() {
		if sumOf(split, asset) != balance {
			return settlement.Fail(settlement.AllocationRejected, "asset %s not fully redistributed", assets[asset].name)
		}
	}
	return nil
}

// checkNitronode is nil if a nitronode would execute the request now.
func checkNitronode(r *nodeRequest) error {
	s := r.session
	if !s.open {
		return errors.New("app session is already closed")
	}
	if r.version != s.version+1 {
		return fmt.Errorf("invalid app session version: expected %d, got %d", s.version+1, r.version)
	}
	split, err := s.split(r.allocation)
	if err != nil {
		return err
	}
	for i := range split {
		for asset, units := range split[i] {
			switch current := s.current[i][asset]; {
			case r.closes && units != current:
				return fmt.Errorf("close intent requires allocations to match current state: current %d, provided %d", current, units)
			case !r.closes && current > 0 && !s.hasRow(i, asset, r.allocation):
				return fmt.Errorf("operate intent missing allocation for participant %d", i)
			}
		}
	}
	for asset := range s.assets {
		if sum, balance := sumOf(split, asset), sumOf(s.current, asset); sum != balance {
			return fmt.Errorf("operate intent allocation mismatch for asset %s: total allocations %d, session balance %d", assets[asset].name, sum, balance)
		}
	}
	return nil
}

func sumOf(split [][]int64, asset int) (sum int64) {
	for i := range split {
		sum += split[i][asset]
	}
	return sum
}

func (s *appSession) hasRow(participant, asset int, rows []settlement.Allocation) bool {
	return slices.ContainsFunc(rows, func(r settlement.Allocation) bool {
		return r.Asset == assets[asset].name && strings.EqualFold(r.Participant, s.participants[participant].Spelling)
	})
}

// operate executes a nitronode's state update.
func (s *appSession) operate(rows []settlement.Allocation) {
	if split, err := s.split(rows); err == nil {
		s.current = split
	}
	s.version++
}
