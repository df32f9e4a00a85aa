package clearnodetest

import (
	"errors"
	"fmt"
	"strings"

	"github.com/shopspring/decimal"
)

// Tamper makes the node show that a session paid a participant another amount of an asset than it did: the newest such row is
// changed, and nothing else, as no real node would. For tests of those who compare books with the node's.
func (n *Node) Tamper(session, participant, asset string, amount decimal.Decimal) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var row *decimal.Decimal
	for _, t := range n.book.of[session] {
		if t.kind == appWithdrawal && t.to == address(participant) && t.asset == asset {
			row = &t.amount
		}
	}
	for _, t := range n.channels.transactions {
		if t.kind == v1Release && strings.EqualFold(t.from, session) && strings.EqualFold(t.to, participant) && t.asset == asset {
			row = &t.amount
		}
	}
	if row == nil {
		return fmt.Errorf("clearnodetest: tamper: session %s paid %s no %s", session, participant, asset)
	}
	*row = amount
	return nil
}

// CloseElsewhere closes a session with these rows as if its participants had signed the close, over no connection. The errors
// are the node's own texts. Not for NitronodeV1, which has Submit.
func (n *Node) CloseElsewhere(session string, rows []Allocation) error {
	if n.cfg.Protocol == NitronodeV1 {
		return errors.New("clearnodetest: close elsewhere: use Submit")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	s, err := n.sessions.open(session)
	if err != nil {
		return fmt.Errorf("clearnodetest: close elsewhere: %w", err)
	}
	v := verdict{session: s, draft: n.book.draft(), signed: s.def.Participants, version: s.version + 1}
	if err := v.pay(n.book.total(s.id), rows); err != nil {
		return fmt.Errorf("clearnodetest: close elsewhere: %w", err)
	}
	v.draft.commit()
	s.status, s.version, s.updated = "closed", v.version, n.cfg.Now()
	s.payouts = append(s.payouts, rows...)
	s.closes = append(s.closes, v.signed)
	return nil
}
