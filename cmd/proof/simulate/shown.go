package simulate

import (
	"slices"

	"settled/settlement"
)

// shown is the session as far as this kind of node shows it.
func (n *node) shown(s *appSession, options settlement.ReadOptions) settlement.Session {
	v := settlement.Session{
		ID: s.id, Open: s.open, Version: s.version, Participants: slices.Clone(s.participants), Quorum: 100, QuorumNeedsUs: s.ours,
		Decimals: map[settlement.Asset]int32{}, Evidence: evidence,
	}
	for asset := range s.assets {
		v.Decimals[assets[asset].name] = assets[asset].decimals
	}
	switch n.w.dialect {
	case Legacy:
		v.Undisclosed = settlement.Undisclosed{Balance: true, Funding: true, Payouts: true}
		v.Version = 1
	case Versioned:
		n.showVersioned(s, options, &v)
	default:
		v.Deposits, v.Payouts = s.transfers(s.deposits), s.transfers(s.payouts)
		if !options.Version && n.w.choices.pick(2) == 1 {
			v.Version = 0
		}
	}
	return v
}

// showVersioned: rows in an order of the node's own, what was put in only where it
// is asked for, and what a close paid without its zeros.
func (n *node) showVersioned(s *appSession, options settlement.ReadOptions, v *settlement.Session) {
	v.Versioned, v.Undisclosed.Funding = true, !options.Funding
	for i := range s.participants {
		for asset, units := range s.current[i] {
			if units != 0 || s.held(asset) && n.w.choices.pick(2) == 0 {
				v.Current = append(v.Current, settlement.Allocation{Participant: s.participants[i].Spelling, Asset: assets[asset].name, Amount: amountOf(units, asset)})
			}
		}
	}
	slices.Reverse(v.Current)
	if options.Funding {
		v.Deposits = s.transfers(s.deposits)
	}
	v.Undisclosed.Payouts = s.unseen && !s.open
	if !s.open && !s.unseen {
		v.Payouts = slices.DeleteFunc(s.transfers(s.payouts), func(t settlement.Transfer) bool { return t.Amount.IsZero() })
	}
}

func (s *appSession) transfers(moves []move) []settlement.Transfer {
	list := make([]settlement.Transfer, len(moves))
	for i, m := range moves {
		list[i] = settlement.Transfer{Wallet: s.participants[m.wallet].Address, Asset: assets[m.asset].name, Amount: amountOf(m.units, m.asset), At: m.at}
	}
	return list
}
