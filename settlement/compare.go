package settlement

import (
	"bytes"
	"cmp"
	"slices"
)

// PayoutDifference is an account and asset of which the node paid another amount
// than the ledger recorded. Either may be 0.
type PayoutDifference struct {
	Wallet         Address
	Asset          Asset
	Recorded, Paid Amount
}

// PaidOtherwise compares, row by row, what a closed entry recorded with what this
// read of the session shows its close to have paid, in the order of accounts and
// assets; none where they agree. Comparable is false where the node doesn't show
// what a close paid, and none of the payouts that may be its own agree.
//
// The payouts of a session that isn't versioned hold withdrawals before the close
// as well. The close's own are the last, one for each line of its allocations; but
// one that was found done without an intent was compared with all of them when it
// was recorded. Either is good.
func (s Session) PaidOtherwise(closed Entry) (rows []PayoutDifference, comparable bool) {
	if s.Undisclosed.Payouts {
		return nil, s.mayHavePaid(closed.Allocation)
	}
	last := s.Payouts
	if !s.Versioned {
		if paysOut(s.Payouts, closed.Allocation) {
			return nil, true
		}
		last = s.Payouts[max(len(s.Payouts)-len(closed.Allocation), 0):]
	}
	recorded, ok := sumAllocations(closed.Allocation)
	if !ok {
		return nil, false
	}
	return differences(recorded, sumPayouts(last)), true
}

func differences(recorded, shown map[payoutKey]Amount) []PayoutDifference {
	var rows []PayoutDifference
	for at, amount := range recorded {
		if !shown[at].Equal(amount) {
			rows = append(rows, PayoutDifference{at.wallet, at.asset, amount, shown[at]})
		}
	}
	for at, amount := range shown {
		if _, found := recorded[at]; !found {
			rows = append(rows, PayoutDifference{at.wallet, at.asset, Amount{}, amount})
		}
	}
	slices.SortFunc(rows, func(a, b PayoutDifference) int {
		return cmp.Or(bytes.Compare(a.Wallet[:], b.Wallet[:]), cmp.Compare(a.Asset, b.Asset))
	})
	return rows
}
