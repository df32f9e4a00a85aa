package simulate

import (
	"bytes"
	"slices"
	"time"

	"settled/ledger"
	"settled/ledger/ledgertest"
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

// copied publishes an outcome's message again, as it is or with other data.
func (b *broker) copied() {
	if len(b.all) == 0 {
		return
	}
	m := b.all[b.w.choices.pick(len(b.all))]
	d := m.deal
	if b.w.choices.pick(2) == 0 {
		b.w.note("ADVERSARY", "publishes a copy of %s", d)
		b.publish(d).forged = m.forged
		return
	}
	other := *d
	other.name += "x"
	other.provider = 0
	other.payload = other.event(b.w.dialect)
	b.w.note("ADVERSARY", "publishes %s, with other data", d)
	b.publish(&other).forged = true
}

// An adversary gets messages onto the ledger's subjects: the server's answers to
// requests that name such a subject for their reply, copies of entries, forgeries. It
// can't make an entry of the chain: that carries the digest of the one before it.

// intrude stores a foreign message on a session's subjects.
func (s *stream) intrude(id settlement.SessionID) {
	m := s.foreign(id)
	m.Sequence, m.Time = uint64(len(s.messages)+1), s.w.now
	s.messages = append(s.messages, m)
	s.intruders = append(s.intruders, m.Sequence)
	s.w.note("ADVERSARY", "writes message %d on %s", m.Sequence, short(m.Subject))
}

// intrudeOn does so just before an append to that filter is compared.
func (s *stream) intrudeOn(filter string) {
	for _, session := range s.w.scene.sessions {
		if ledgertest.Matches(filter, subjectOf("closing", session.id)) && s.w.faulty(s.w.weather.wedged) {
			s.intrude(session.id)
		}
	}
}

func subjectOf(state string, id settlement.SessionID) string {
	return "settlement." + state + "." + string(id)
}

// foreign draws a message that is no entry of the session's chain.
func (s *stream) foreign(id settlement.SessionID) ledger.Message {
	c := s.w.choices
	subject := subjectOf([]string{"closing", "closed", "failed"}[c.pick(3)], id)
	chain := s.entries(id)
	kind := c.pick(5)
	if len(chain) == 0 {
		kind = c.pick(2)
	}
	switch kind {
	case 0:
		return ledger.Message{Subject: subject, Payload: []byte(`{"stream":"OUTCOMES","seq":1}`)}
	case 1:
		return ledger.Message{Subject: subject}
	case 2: // a copy
		m := chain[c.pick(len(chain))]
		return ledger.Message{Subject: m.Subject, Payload: m.Payload}
	case 3: // on another subject
		return ledger.Message{Subject: subject, Payload: chain[c.pick(len(chain))].Payload}
	default: // the last one, said to follow on another
		return forged(chain[len(chain)-1])
	}
}

// forged alters the hash by which an entry follows on the one before it.
func forged(m ledger.Message) ledger.Message {
	const member = `"previous":"`
	payload := slices.Clone(m.Payload)
	if at := bytes.Index(payload, []byte(member)); at >= 0 && payload[at+len(member)] != '"' {
		at += len(member)
		payload[at] = map[bool]byte{true: '1', false: '0'}[payload[at] == '0']
	}
	return ledger.Message{Subject: m.Subject, Payload: payload}
}

// entries are the genuine entries of a session.
func (s *stream) entries(id settlement.SessionID) []ledger.Message {
	filter := "settlement.*." + string(id)
	return slices.DeleteFunc(slices.Clone(s.messages[s.gone:]), func(m ledger.Message) bool {
		return !ledgertest.Matches(filter, m.Subject) || slices.Contains(s.intruders, m.Sequence)
	})
}

// intruded counts the foreign messages on a session's subjects.
func (s *stream) intruded(id settlement.SessionID) (n uint64) {
	filter := "settlement.*." + string(id)
	for _, at := range s.intruders {
		if at > s.gone && ledgertest.Matches(filter, s.messages[at-1].Subject) {
			n++
		}
	}
	return n
}
