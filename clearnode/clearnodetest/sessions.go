package clearnodetest

import (
	"fmt"

	"github.com/shopspring/decimal"

	"settled/clearnode/clearnodetest/internal/nitrorpc"
)

// Session returns the state of a session if there is one with this id.
func (n *Node) Session(id string) (SessionState, bool) {
	n.state.Lock()
	defer n.state.Unlock()
	s, ok := n.state.Sessions.ByID[id]
	if !ok {
		return SessionState{}, false
	}
	return SessionState{
		ID: s.ID, Status: s.Status, Version: s.Version, Closes: len(s.Closes), Data: s.Data,
		Deposits: append([]Allocation(nil), s.Deposits...), Payouts: append([]Allocation(nil), s.Payouts...),
		Current: n.state.CurrentAllocations(s),
	}, true
}

// OpenSession opens a session without a connection and without signatures and returns its id. The deposits come from the
// participants' balances. The errors have the node's own texts.
func (n *Node) OpenSession(def Definition, deposits []Allocation) (string, error) {
	id, err := n.protocol.OpenSession(def, deposits)
	if err != nil {
		return "", fmt.Errorf("clearnodetest: open session: %w", err)
	}
	return id, nil
}

// Check reports whether the node's money is where it belongs: none created or destroyed,
// none left in a closed session, no session paid more than once or more than was deposited,
// every close signed by the quorum. The error lists every violation, in the same order for
// the same history.
func (n *Node) Check() error { return n.state.Check() }

// Tamper makes the node report that a session paid a participant another amount of an asset than it did: it changes the newest
// such row and nothing else, as no real node would. It is for tests of what compares ledgers with the node's.
func (n *Node) Tamper(session, participant, asset string, amount decimal.Decimal) error {
	n.state.Lock()
	defer n.state.Unlock()
	payout := n.protocol.Payout(session, participant, asset)
	if payout == nil {
		return fmt.Errorf("clearnodetest: tamper: session %s paid %s no %s", session, participant, asset)
	}
	*payout = amount
	return nil
}

// CloseElsewhere closes a session with these rows as if all its participants had signed the close, without a connection. The
// errors have the node's own texts. A NitronodeV1 has Submit instead.
func (n *Node) CloseElsewhere(session string, rows []Allocation) error {
	if n.nitronode != nil {
		return fmt.Errorf("clearnodetest: close elsewhere: use Submit with %s", NitronodeV1)
	}
	if err := nitrorpc.CloseWithoutRequest(n.state, session, rows, 1); err != nil {
		return fmt.Errorf("clearnodetest: close elsewhere: %w", err)
	}
	return nil
}

// CloseTwice closes a session as two overlapping closes do, with the signatures of all participants and without a connection:
// both pass their checks before either is committed, and both pay. Check reports it. Nitro02 and Nitro04 only.
func (n *Node) CloseTwice(session string, rows []Allocation) error {
	if n.nitronode != nil || n.state.Config.Protocol == Legacy {
		return fmt.Errorf("clearnodetest: close twice: not with %s", n.state.Config.Protocol)
	}
	if err := nitrorpc.CloseWithoutRequest(n.state, session, rows, 2); err != nil {
		return fmt.Errorf("clearnodetest: close twice: %w", err)
	}
	return nil
}
