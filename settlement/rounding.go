package settlement

import (
	"math/big"
	"slices"
	"sort"
)

// roundLargestRemainder turns exact quotas, in units, into whole units by largest remainder; on
// equal remainders the earlier participant comes first. The sum is kept.
func roundLargestRemainder(quotas []*big.Rat, unit int32) rounding {
	units := make([]*big.Int, len(quotas))
	remainders := make([]*big.Rat, len(quotas))
	left := new(big.Rat)
	order := make([]int, len(quotas))
	for i, q := range quotas {
		units[i] = new(big.Int).Quo(q.Num(), q.Denom())
		remainders[i] = new(big.Rat).Sub(q, new(big.Rat).SetInt(units[i]))
		left.Add(left, remainders[i])
		order[i] = i
	}
	sort.SliceStable(order, func(a, b int) bool {
		return remainders[order[a]].Cmp(remainders[order[b]]) > 0
	})
	// The quotas sum to a whole number of units, so what is left is one, and
	// smaller than the number of participants.
	extra := int(left.Num().Int64())
	for _, i := range order[:extra] {
		units[i].Add(units[i], big.NewInt(1))
	}
	amounts := make([]Amount, len(quotas))
	for i, u := range units {
		amounts[i] = AmountOfUnits(u, unit)
	}
	return rounding{amounts, remainders, order, extra}
}

// rounding is the result of rounding, and how it came about.
type rounding struct {
	amounts    []Amount   // in the order of the quotas
	remainders []*big.Rat // in the same order
	order      []int      // the quotas by remainder, the largest first
	roundedUp  int        // how many of them, from the first on, got a unit more
}

// whole reports whether no quota has to be rounded.
func whole(quotas []*big.Rat) bool {
	return !slices.ContainsFunc(quotas, func(q *big.Rat) bool { return !q.IsInt() })
}
