package clearnodetest

import (
	"crypto/ecdsa"
	"fmt"

	"github.com/ethereum/go-ethereum/common"
	"github.com/shopspring/decimal"

	"settled/clearnode/clearnodetest/internal/nitronode"
)

// What only a NitronodeV1 has.
type (
	Intent      = nitronode.Intent
	StateUpdate = nitronode.StateUpdate
	Submission  = nitronode.Submission
)

// The intents of state updates.
const (
	IntentOperate  = nitronode.IntentOperate
	IntentDeposit  = nitronode.IntentDeposit
	IntentWithdraw = nitronode.IntentWithdraw
	IntentClose    = nitronode.IntentClose
)

// Submissions are the state updates of a session in the order in which a NitronodeV1 took them from its queues. Closes has only
// those that were to close it, and MaxClosesInFlight counts all of them.
func (n *Node) Submissions(session string) []Submission {
	if n.nitronode == nil {
		return nil
	}
	return n.nitronode.Submissions(session)
}

// Submit submits a state update, signed by the keys, without a connection, to compete with a client. It meets the same checks,
// the same Config.Work and the same Stall as a request, and is recorded like one; other faults don't apply. The error has the
// node's text. NitronodeV1 only.
func (n *Node) Submit(u StateUpdate, keys ...*ecdsa.PrivateKey) error {
	l := n.state.Running()
	if l == nil || n.nitronode == nil {
		return fmt.Errorf("clearnodetest: submit: no %s is running", NitronodeV1)
	}
	return n.nitronode.Submit(l, u, keys...)
}

// Deposit puts an amount from a participant's balance into an open session, as the participant's signed deposit and the quorum's
// agreement would: a new version, and a transaction of type 40. NitronodeV1 only; the errors have the node's own texts.
func (n *Node) Deposit(session string, wallet common.Address, asset string, amount decimal.Decimal) error {
	return n.DepositFor(session, wallet, wallet, asset, amount)
}

// DepositFor is a Deposit that one wallet, which need not be a participant, pays and another, a participant, holds.
func (n *Node) DepositFor(session string, payer, holder common.Address, asset string, amount decimal.Decimal) error {
	if n.nitronode == nil {
		return fmt.Errorf("clearnodetest: deposit: only with %s; use submit_app_state", NitronodeV1)
	}
	return n.nitronode.Deposit(session, payer, holder, asset, amount)
}

// OpenSessionUnexplained opens a session that holds the rows although no transaction explains them, and returns its id; its
// version is 1. The money comes from outside straight into the session; Check counts it as brought in. The sessions of the
// recordings were made so. NitronodeV1 only; the errors have the node's own texts.
func (n *Node) OpenSessionUnexplained(def Definition, rows []Allocation) (string, error) {
	if n.nitronode == nil {
		return "", fmt.Errorf("clearnodetest: open session: only %s has sessions with unexplained funds", NitronodeV1)
	}
	id, err := n.nitronode.OpenSessionUnexplained(def, rows)
	if err != nil {
		return "", fmt.Errorf("clearnodetest: open session: %w", err)
	}
	return id, nil
}

// HoldEscrow begins an escrow operation of a wallet's asset, until ReleaseEscrow: whatever would pay it that asset, such as a
// close, is refused. NitronodeV1 only.
func (n *Node) HoldEscrow(wallet common.Address, asset string) {
	n.nitronode.SetEscrow(wallet, asset, true)
}

// ReleaseEscrow ends the operation that HoldEscrow began.
func (n *Node) ReleaseEscrow(wallet common.Address, asset string) {
	n.nitronode.SetEscrow(wallet, asset, false)
}

// AddSessionKey registers a session key of a wallet: the node accepts its signatures as the
// wallet's in all sessions of the application. No request of a client is needed, and the
// registration does not expire. NitronodeV1 only.
func (n *Node) AddSessionKey(wallet, key common.Address, application string) {
	n.nitronode.AddSessionKey(wallet, key, application)
}
