package settlement

import (
	"bytes"
	"cmp"
	"slices"
	"time"
)

// payoutKey is one account and asset.
type payoutKey struct {
	wallet Address
	asset  Asset
}

// sumPayouts sums payouts by account and asset; what is 0 is left out.
func sumPayouts(transfers []Transfer) map[payoutKey]Amount {
	m := map[payoutKey]Amount{}
	for _, t := range transfers {
		if !t.Amount.IsZero() {
			m[payoutKey{t.Wallet, t.Asset}] = m[payoutKey{t.Wallet, t.Asset}].Add(t.Amount)
		}
	}
	return m
}

// sumAllocations is the same for allocations. ok is false where a participant is no address.
func sumAllocations(allocations []Allocation) (m map[payoutKey]Amount, ok bool) {
	m = map[payoutKey]Amount{}
	for _, a := range allocations {
		wallet, err := ParseAddress(a.Participant)
		if err != nil {
			return nil, false
		}
		if !a.Amount.IsZero() {
			m[payoutKey{wallet, a.Asset}] = m[payoutKey{wallet, a.Asset}].Add(a.Amount)
		}
	}
	return m, true
}

// paysOut reports whether these payouts are exactly these allocations.
func paysOut(transfers []Transfer, allocations []Allocation) bool {
	want, ok := sumAllocations(allocations)
	return ok && sameAmounts(sumPayouts(transfers), want)
}

// sameAmounts compares amounts none of which is 0.
func sameAmounts(a, b map[payoutKey]Amount) bool {
	if len(a) != len(b) {
		return false
	}
	for at, amount := range a {
		if other, found := b[at]; !found || !other.Equal(amount) {
			return false
		}
	}
	return true
}

// possibleCloses are what the close of a versioned session may have paid, where the node
// shows payouts and not which of them are the close's: the close is the last thing that
// happens to a session, so that they are the last rows, from some instant on. None
// elsewhere.
//
// Rows that are left out are withdrawals, for which the session's version must have room.
// All rows are transfers out of this session. Where the version has room, a close that paid
// these rows as well, seconds before the others, looks the same as a withdrawal. Both moved
// the same money to the same participants by the same quorum, so that the outcome counts
// as settled either way; what it records is the rows that the policy explains.
func (s Session) possibleCloses() (closes []Session) {
	if !s.Versioned || s.Open || !s.Undisclosed.Payouts {
		return nil
	}
	for i, p := range s.Payouts {
		if i == 0 || p.At.After(s.Payouts[i-1].At) && s.Version >= withdrawnVersion {
			one := s
			one.Payouts, one.Undisclosed.Payouts = s.Payouts[i:], false
			closes = append(closes, one)
		}
	}
	return closes
}

// withdrawnVersion is the least version of a closed session from which something was
// withdrawn before: its creation, a deposit, the withdrawal and the close.
const withdrawnVersion = 4

// mayHavePaid reports whether these allocations are what one of the possible closes paid.
func (s Session) mayHavePaid(allocations []Allocation) bool {
	return slices.ContainsFunc(s.possibleCloses(), func(one Session) bool { return paysOut(one.Payouts, allocations) })
}

// PaidAs reports whether the close of this session paid what a recorded intent
// had planned. Withdrawals before the close write the same kind of rows, so only
// the rows from the request's timestamp on are compared; and, since a timestamp
// is set back a little, also the last rows alone, as many as the plan has: a
// close writes one for each line of its allocations, and it is the last thing
// that happens to a session (recorded from ClearNode 0.5.2). The payouts of a
// versioned session are the close's alone, and all are compared.
func (s Session) PaidAs(intent Entry) bool {
	switch {
	case s.Versioned:
		return !s.Open && len(s.Payouts) > 0 && paysOut(s.Payouts, intent.Allocation) || s.mayHavePaid(intent.Allocation)
	case s.Undisclosed.Payouts:
		return false
	case intent.Request == nil:
		return false
	}
	since := time.UnixMilli(int64(intent.Request.Timestamp)) // #nosec G115 -- milliseconds since 1970
	from := len(s.Payouts)
	for from > 0 && !s.Payouts[from-1].At.Before(since) {
		from--
	}
	if paysOut(s.Payouts[from:], intent.Allocation) {
		return true
	}
	last := len(s.Payouts) - len(intent.Allocation)
	return last >= 0 && paysOut(s.Payouts[last:], intent.Allocation)
}

// sameSplit compares by account and asset; rows of 0 count for nothing.
func sameSplit(a, b []Allocation) bool {
	x, readable := sumAllocations(a)
	y, readableToo := sumAllocations(b)
	return readable && readableToo && sameAmounts(x, y)
}

// IsSplit reports whether the split that a versioned session has now is this one.
func (s Session) IsSplit(allocations []Allocation) bool { return sameSplit(s.Current, allocations) }

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
