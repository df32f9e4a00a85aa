package server

import (
	"errors"
	"fmt"
	"slices"

	"github.com/shopspring/decimal"
)

// Check reports every violation of the node's laws; see Node.Check in clearnodetest.
func (n *State) Check() error {
	n.Lock()
	defer n.Unlock()
	found := n.Ledger.check()
	for _, s := range n.Sessions.All {
		found = append(found, s.check(n.Ledger)...)
		found = append(found, n.protocol.CheckSession(s)...)
	}
	return errors.Join(found...)
}

// check compares the sum of all entries with what came from outside.
func (l *Ledger) check() []error {
	sums := map[string]decimal.Decimal{}
	for _, e := range l.Entries {
		sums[e.Part.Asset] = sums[e.Part.Asset].Add(e.Credit).Sub(e.Debit)
	}
	for asset := range l.Funded {
		sums[asset] = sums[asset].Add(decimal.Zero)
	}
	var found []error
	for _, asset := range SortedKeys(sums) {
		switch excess := sums[asset].Sub(l.Funded[asset]); excess.Sign() {
		case 1:
			found = append(found, fmt.Errorf("created %s %s", excess, asset))
		case -1:
			found = append(found, fmt.Errorf("destroyed %s %s", excess.Neg(), asset))
		}
	}
	return found
}

func (s *Session) check(l *Ledger) []error {
	var found []error
	report := func(format string, args ...any) {
		found = append(found, fmt.Errorf("session %s: "+format, append([]any{s.ID}, args...)...))
	}
	if len(s.Closes) > 1 {
		report("closed %d times", len(s.Closes))
	}
	for _, signers := range s.Closes {
		if weight, unknown := s.Weight(signers); unknown != "" || weight < int64(s.Definition.Quorum) {
			report("closed with weight %d of %d", weight, s.Definition.Quorum)
		}
	}
	in, out := SumByAsset(s.Deposits), SumByAsset(s.Payouts)
	for _, asset := range SortedKeys(out) {
		if out[asset].GreaterThan(in[asset]) {
			report("paid out %s of %s %s put in", out[asset], in[asset], asset)
		}
	}
	for _, a := range s.Payouts {
		if !a.Amount.IsZero() && !slices.Contains(s.Definition.Participants, a.Participant) {
			report("paid %s %s to %s, which is no participant's account", a.Amount, a.Asset, a.Participant)
		}
	}
	if s.Status != "closed" {
		return found
	}
	seen := map[Part]bool{}
	for _, e := range l.EntriesOf[s.ID] {
		if balance := l.Balances[e.Part]; !seen[e.Part] && !balance.IsZero() {
			report("%s %s of %s left in the account", balance, e.Part.Asset, e.Part.Wallet)
		}
		seen[e.Part] = true
	}
	return found
}

// SumByAsset sums the rows of each asset.
func SumByAsset(rows []Allocation) map[string]decimal.Decimal {
	sums := map[string]decimal.Decimal{}
	for _, a := range rows {
		sums[a.Asset] = sums[a.Asset].Add(a.Amount)
	}
	return sums
}
