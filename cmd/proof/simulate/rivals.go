package simulate

import (
	"time"

	"settled/settlement"
)

// rival is somebody else who closes the session. On 0.x that is done while the node
// works on a close of ours only as an incident: nothing could prevent that both
// pay, and the product has to say so, also where the node is in a mire and works on
// ours for longer than the fence margin. Where nobody reaches the quorum without us, nobody does.
func (n *node) rival(s *appSession) {
	if s.running > 0 && s.open && n.w.weather.incidents && !s.ours {
		s.incident = true
	}
	if !s.incident && !n.still(s) || s.missing || !s.open || s.ours || s.unfunded() {
		return
	}
	rows := n.rivalRows(s)
	if n.w.dialect == Versioned {
		rows = s.restatement()
	}
	n.w.note("RIVAL", "closes %s, %s", s, rowText(rows))
	s.byRival = true
	s.pay(n.w, rows, nil)
	s.empty()
}

// tempt has a rival close a session just when we begin to, above all where we had
// planned otherwise before.
func (n *node) tempt(s *appSession, replanned bool) {
	likely := map[bool]int{false: 100, true: 600}[replanned]
	if n.w.weather.rivals > 0 && n.w.faulty(likely) {
		n.w.after(n.w.choices.between(0, []time.Duration{40 * time.Millisecond, 5 * time.Second}[n.w.choices.pick(2)]), func() { n.rival(s) })
	}
}

// rivalRows are everything to one participant, or what some outcome of the session
// would pay, or would have paid when it was last planned.
func (n *node) rivalRows(s *appSession) []settlement.Allocation {
	if rows := n.w.laws.onceRecorded(s); rows != nil && n.w.choices.pick(2) == 0 {
		return rows
	}
	if n.w.choices.pick(2) == 0 {
		for _, d := range n.w.scene.deals {
			if d.session != s {
				continue
			}
			if rows := d.due(n.w.scene.policies[0], s.sight(), n.w.dialect); rows != nil {
				return rows
			}
		}
	}
	to := n.w.choices.pick(len(s.participants))
	var rows []settlement.Allocation
	for i, p := range s.participants {
		for asset := range s.assets {
			units := int64(0)
			if i == to {
				units = s.balance(asset)
			}
			rows = append(rows, settlement.Allocation{Participant: p.Spelling, Asset: assets[asset].name, Amount: amountOf(units, asset)})
		}
	}
	return rows
}

func (s *appSession) restatement() []settlement.Allocation {
	var rows []settlement.Allocation
	for i, p := range s.participants {
		for asset, units := range s.current[i] {
			rows = append(rows, settlement.Allocation{Participant: p.Spelling, Asset: assets[asset].name, Amount: amountOf(units, asset)})
		}
	}
	return rows
}

// still: on 0.x the node is at work on nothing of it, so that what others do is done
// between two requests of ours. Versions need no such favour.
func (n *node) still(s *appSession) bool {
	return !s.missing && s.open && (s.running == 0 || n.w.dialect == Versioned)
}

// deposited is a player who puts more in.
func (n *node) deposited(s *appSession) {
	if !n.still(s) || n.w.dialect == Legacy {
		return
	}
	wallet, asset, units := n.w.choices.pick(len(s.participants)-1), n.w.choices.pick(s.assets), 1+n.w.choices.below(9)
	n.w.note("RIVAL", "participant %d puts %d of asset %d into %s", wallet, units, asset, s)
	s.moved = true
	s.put(n.w, wallet, asset, units)
	if n.w.dialect != Versioned {
		s.version++
	}
}

// withdrawn is a player who takes something out before the close. Nitronode takes
// what somebody has by the current split, 0.x what they put in.
func (n *node) withdrawn(s *appSession) {
	wallet, asset := n.w.choices.pick(len(s.participants)-1), n.w.choices.pick(s.assets)
	if !n.still(s) || n.w.dialect != Nitro || s.net(wallet, asset) < 2 {
		return
	}
	units := 1 + n.w.choices.below(s.net(wallet, asset)-1)
	n.w.note("RIVAL", "participant %d takes %d of asset %d out of %s", wallet, units, asset, s)
	s.moved = true
	s.payouts = append(s.payouts, move{wallet, asset, units, n.now()})
	s.version++
}

// operated is another party's state update, at a versioned node: the split moves.
func (n *node) operated(s *appSession) {
	if n.w.dialect != Versioned || s.missing || !s.open || s.ours {
		return
	}
	n.w.note("RIVAL", "moves %s on", s)
	s.moved = true
	n.operate(s, n.rivalRows(s))
}
