package settlement

import (
	"maps"
	"slices"
)

// Total is an amount of one asset.
type Total struct {
	Asset  Asset  `json:"asset"`
	Amount Amount `json:"amount"`
}

// totals sums amounts by asset.
type totals map[Asset]Amount

func (t totals) add(asset Asset, a Amount) { t[asset] = t[asset].Add(a) }

// assets returns the names in order, so that nothing depends on map iteration.
func (t totals) assets() []Asset {
	return slices.Sorted(maps.Keys(t))
}

// Balance returns what is in the session now, by asset name. An asset that was withdrawn
// completely has the amount 0; so has one of which more was paid out than put in (Overpaid).
// If the node does not show the balance, it is empty until an outcome states it.
func (s Session) Balance() []Total {
	held := s.totals()
	balance := make([]Total, 0, len(held))
	for _, asset := range held.assets() {
		balance = append(balance, Total{Asset: asset, Amount: held[asset]})
	}
	return balance
}

func (s Session) totals() totals {
	if s.Undisclosed.Balance {
		return s.statedBalance
	}
	held := totals{}
	if s.Versioned {
		for _, a := range s.Current {
			held.add(a.Asset, a.Amount)
		}
		return held
	}
	out := sums(s.Payouts)
	for asset, in := range sums(s.Deposits) {
		held[asset], _ = in.Sub(out[asset]) // 0 where it would be below
	}
	return held
}

// Unfunded reports whether the session holds nothing of any asset. It is false if the node
// doesn't show the balance.
func (s Session) Unfunded() bool {
	if !s.Undisclosed.Balance && !s.Versioned && len(s.Payouts) == 0 { // as most sessions that are read
		return !slices.ContainsFunc(s.Deposits, func(t Transfer) bool { return !t.Amount.IsZero() })
	}
	return !s.Undisclosed.Balance && !slices.ContainsFunc(s.Balance(), func(t Total) bool { return !t.Amount.IsZero() })
}

// AsFunded returns the session as it was before anything was paid out. A closed versioned
// session held what its close paid.
func (s Session) AsFunded() Session {
	if s.Versioned && !s.Open {
		s.Current = make([]Allocation, len(s.Payouts))
		for i, p := range s.Payouts {
			s.Current[i] = Allocation{Participant: p.Wallet.String(), Asset: p.Asset, Amount: p.Amount}
		}
	}
	s.Payouts = nil
	return s
}
