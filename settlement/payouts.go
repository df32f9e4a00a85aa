package settlement

import (
	"bytes"
	"cmp"
	"slices"
	"time"
)

// sums adds up transfers by asset.
func sums(transfers []Transfer) totals {
	t := totals{}
	for _, tr := range transfers {
		t.add(tr.Asset, tr.Amount)
	}
	return t
}

// Overpaid finds an asset of which the node paid out more than was deposited. It finds none
// if the node doesn't show both.
func (s Session) Overpaid() (asset Asset, in, out Amount, found bool) {
	if s.Undisclosed.Funding || s.Undisclosed.Payouts || len(s.Payouts) == 0 {
		return "", Amount{}, Amount{}, false
	}
	deposits, payouts := sums(s.Deposits), sums(s.Payouts)
	for _, a := range payouts.assets() {
		if payouts[a].Cmp(deposits[a]) > 0 {
			return a, deposits[a], payouts[a], true
		}
	}
	return "", Amount{}, Amount{}, false
}

// overpayment is the failure of a session that paid out more than was in it; nil for any
// other.
func (s Session) overpayment() *Failure {
	asset, in, out, found := s.Overpaid()
	if !found {
		return nil
	}
	return Fail(Overpaid, "the node paid out %s of %s, but only %s were deposited: an incident, stop the closers of this session and ask the node's operator", out, Quote(string(asset)), in)
}

// payoutKey is one account and asset.
type payoutKey struct {
	wallet Address
	asset  Asset
}

// sumPayouts sums payouts by account and asset. It leaves out sums of 0.
func sumPayouts(transfers []Transfer) map[payoutKey]Amount {
	m := map[payoutKey]Amount{}
	for _, t := range transfers {
		if !t.Amount.IsZero() {
			m[payoutKey{t.Wallet, t.Asset}] = m[payoutKey{t.Wallet, t.Asset}].Add(t.Amount)
		}
	}
	return m
}

// sumAllocations does the same for allocations. ok is false if a participant is no address.
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

// sameAmounts compares sums none of which is 0.
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

// possibleCloses returns the sessions that each have one possible close of a versioned
// session as their payouts, if the node shows payouts but not which of them the close made.
// The close is the last operation of a session, so its rows are the last ones, from some
// instant on. For any other session it returns none.
//
// The rows before them are withdrawals, for which the session's version must have room. If
// it does, a close that also paid these rows, seconds before the others, looks like a
// withdrawal. Both moved the same money to the same participants by the same quorum, so the
// outcome counts as settled either way. What it records is the rows that the policy explains.
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

// withdrawnVersion is the lowest version of a closed session with a withdrawal: creation,
// deposit, withdrawal and close each take one.
const withdrawnVersion = 4

// mayHavePaid reports whether one of the possible closes paid these allocations.
func (s Session) mayHavePaid(allocations []Allocation) bool {
	return slices.ContainsFunc(s.possibleCloses(), func(one Session) bool { return paysOut(one.Payouts, allocations) })
}

// PaidAs reports whether the close of this session paid what a recorded intent planned.
//
// Withdrawals before the close write the same kind of rows. So only rows from the request's
// timestamp on are compared; and, since a timestamp may be set a little earlier than the
// clock, also the last rows alone, as many as the plan has: a close writes one row for each
// row of its allocations, and it is the last operation of a session (recorded from ClearNode
// 0.5.2). The payouts of a versioned session are those of its close, and all are compared.
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

// sameAllocation compares allocations by account and asset, ignoring rows of 0.
func sameAllocation(a, b []Allocation) bool {
	x, readable := sumAllocations(a)
	y, readableToo := sumAllocations(b)
	return readable && readableToo && sameAmounts(x, y)
}

// HasAllocation reports whether a versioned session has exactly this allocation now.
func (s Session) HasAllocation(allocations []Allocation) bool {
	return sameAllocation(s.Current, allocations)
}

// PayoutDifference is an account and asset of which the node paid another amount than the
// ledger recorded. Either amount may be 0.
type PayoutDifference struct {
	Wallet         Address
	Asset          Asset
	Recorded, Paid Amount
}

// PaidOtherwise compares, row by row, what a closed entry recorded with what this read
// shows that the session's close paid. It returns the differences in the order of accounts
// and assets. comparable is false if the node doesn't show what a close paid and none of the
// possible closes agrees.
//
// The payouts of a session that isn't versioned include withdrawals before the close. Those
// of the close are the last, one for each row of its allocations; but a close that was
// found done without an intent was compared with all payouts when it was recorded. Either
// comparison may succeed.
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
