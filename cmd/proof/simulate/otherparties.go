package simulate

import (
	"time"

	"settled/settlement"
)

// rivalClose closes the session by another party, unless nobody reaches the quorum
// without us. On 0.x that happens while the node executes a close of ours only as a
// concurrent rival: nothing can prevent that both pay, and settled has to report it.
func (n *node) rivalClose(s *appSession) {
	if s.executing > 0 && s.open && n.w.faults.concurrentRivals && !s.quorumNeedsUs {
		s.concurrentRival = true
	}
	if !s.concurrentRival && !n.idle(s) || s.missing || !s.open || s.quorumNeedsUs || s.unfunded() {
		return
	}
	rows := n.rivalRows(s)
	if n.w.dialect == Nitronode {
		rows = s.allocation(s.current, nil)
	}
	n.w.tracef("RIVAL", "closes %s, %s", s, rowText(rows))
	s.byRival = true
	s.close(n.w, rows, nil)
}

// maybeRivalClose has a rival close a session just when we begin to, most often where
// our plan has changed.
func (n *node) maybeRivalClose(s *appSession, planChanged bool) {
	likely := 100
	if planChanged {
		likely = 600
	}
	if n.w.faults.rivalCloses > 0 && n.w.faultOccurs(likely) {
		n.w.after(n.w.choices.between(0, []time.Duration{40 * time.Millisecond, 5 * time.Second}[n.w.choices.pick(2)]), func() { n.rivalClose(s) })
	}
}

// rivalRows pay everything to one participant, or what an outcome of the session pays,
// now or when it was last planned.
func (n *node) rivalRows(s *appSession) []settlement.Allocation {
	if rows := n.w.checker.recordedAllocation(s); rows != nil && n.w.choices.pick(2) == 0 {
		return rows
	}
	if n.w.choices.pick(2) == 0 {
		for _, o := range n.w.outcomes {
			if o.session != s {
				continue
			}
			if rows := o.expectedPayouts(policySets[0], s.snapshot(), n.w.dialect); rows != nil {
				return rows
			}
		}
	}
	units := s.unitTable()
	units[n.w.choices.pick(len(units))] = s.balances()
	return s.allocation(units, nil)
}

// idle reports whether other parties may act on an open session. On 0.x they do so only
// while the node executes none of our requests; versions need no such restriction.
func (n *node) idle(s *appSession) bool {
	return !s.missing && s.open && (s.executing == 0 || n.w.dialect == Nitronode)
}

// rivalDeposit has a player deposit more.
func (n *node) rivalDeposit(s *appSession) {
	if !n.idle(s) || n.w.dialect == Legacy {
		return
	}
	participant, asset, units := n.w.choices.pick(len(s.participants)-1), n.w.choices.pick(s.assets), 1+n.w.choices.below(9)
	n.w.tracef("RIVAL", "participant %d deposits %d of asset %d into %s", participant, units, asset, s)
	s.balanceMoved = true
	s.deposit(n.w, participant, asset, units)
	if n.w.dialect != Nitronode {
		s.version++
	}
}

// rivalWithdraw has a player withdraw part of a deposit before the close. Only 0.x
// nodes allow that.
func (n *node) rivalWithdraw(s *appSession) {
	participant, asset := n.w.choices.pick(len(s.participants)-1), n.w.choices.pick(s.assets)
	if !n.idle(s) || n.w.dialect != Nitro || s.net(participant, asset) < 2 {
		return
	}
	units := 1 + n.w.choices.below(s.net(participant, asset)-1)
	n.w.tracef("RIVAL", "participant %d withdraws %d of asset %d from %s", participant, units, asset, s)
	s.balanceMoved = true
	s.payouts = append(s.payouts, transfer{participant, asset, units, n.now()})
	s.version++
}

// rivalOperate is another party's state update at a nitronode: the allocation changes.
func (n *node) rivalOperate(s *appSession) {
	if n.w.dialect != Nitronode || s.missing || !s.open || s.quorumNeedsUs {
		return
	}
	n.w.tracef("RIVAL", "moves %s on", s)
	s.balanceMoved = true
	s.operate(n.rivalRows(s))
}

// publishForged has an attacker publish a signed outcome again, or other data with the
// same source and id.
func (b *broker) publishForged() {
	if len(b.published) == 0 {
		return
	}
	m := b.published[b.w.choices.pick(len(b.published))]
	if b.w.choices.pick(2) == 0 {
		b.w.tracef("ATTACKER", "publishes a copy of %s", m.outcome)
		b.publish(m.outcome).forged = m.forged
		return
	}
	other := *m.outcome
	other.name += "x"
	other.provider = 0
	other.payload = other.event(b.w.dialect)
	b.w.tracef("ATTACKER", "publishes %s, with other data", m.outcome)
	b.publish(&other).forged = true
}
