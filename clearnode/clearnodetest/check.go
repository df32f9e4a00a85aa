package clearnodetest

import (
	"errors"
	"fmt"

	"github.com/shopspring/decimal"
)

// Check tells whether the node's money is where it belongs: none created or destroyed, none left in a closed session, no
// session paid more than once or more than was put in, every close signed by the quorum. The error lists all that is wrong,
// in the same order for the same history.
func (n *Node) Check() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := n.book.check()
	for _, s := range n.sessions.all {
		all = append(all, s.check(n.book)...)
		all = append(all, s.checkV1()...)
	}
	return errors.Join(all...)
}

// check compares all rows with what came from outside.
func (b *book) check() []error {
	sums := map[string]decimal.Decimal{}
	for _, e := range b.entries {
		sums[e.part.asset] = sums[e.part.asset].Add(e.credit).Sub(e.debit)
	}
	for asset := range b.funded {
		sums[asset] = sums[asset].Add(decimal.Zero)
	}
	var all []error
	for _, asset := range sorted(sums) {
		switch more := sums[asset].Sub(b.funded[asset]); more.Sign() {
		case 1:
			all = append(all, fmt.Errorf("created %s %s", more, asset))
		case -1:
			all = append(all, fmt.Errorf("destroyed %s %s", more.Neg(), asset))
		}
	}
	return all
}

func (s *session) check(b *book) []error {
	var all []error
	report := func(format string, args ...any) {
		all = append(all, fmt.Errorf("session %s: "+format, append([]any{s.id}, args...)...))
	}
	if len(s.closes) > 1 {
		report("closed %d times", len(s.closes))
	}
	for _, wallets := range s.closes {
		if weight, unknown := s.weight(wallets); unknown != "" || weight < int64(s.def.Quorum) {
			report("closed with weight %d of %d", weight, s.def.Quorum)
		}
	}
	in, out := total(s.deposits), total(s.payouts)
	for _, asset := range sorted(out) {
		if out[asset].GreaterThan(in[asset]) {
			report("paid out %s of %s %s put in", out[asset], in[asset], asset)
		}
	}
	for _, a := range s.payouts {
		if !a.Amount.IsZero() && !contains(s.def.Participants, a.Participant) {
			report("paid %s %s to %s, which is no participant's account", a.Amount, a.Asset, a.Participant)
		}
	}
	for _, p := range s.leftovers(b) {
		report("%s %s of %s left in the account", b.sums[p], p.asset, p.wallet)
	}
	return all
}

// leftovers are the parts of a closed session's account that aren't zero.
func (s *session) leftovers(b *book) []part {
	if s.status != "closed" {
		return nil
	}
	var all []part
	seen := map[part]bool{}
	for _, e := range b.in[s.id] {
		if !seen[e.part] && !b.sums[e.part].IsZero() {
			all = append(all, e.part)
		}
		seen[e.part] = true
	}
	return all
}

func total(rows []Allocation) map[string]decimal.Decimal {
	sums := map[string]decimal.Decimal{}
	for _, a := range rows {
		sums[a.Asset] = sums[a.Asset].Add(a.Amount)
	}
	return sums
}
