package clearnodetest

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/ethereum/go-ethereum/common"
	"github.com/shopspring/decimal"
)

// openV1 opens a session and deposits row by row, each of them a new version, as every participant's own deposit is.
func (n *Node) openV1(def Definition, deposits []Allocation) (string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s, err := n.createFree(def)
	if err != nil {
		return "", err
	}
	rows, err := n.depositable(s, deposits)
	if err != nil {
		n.sessions.forget(s)
		return "", err
	}
	for _, a := range rows {
		n.depositV1(s, a.Participant, a)
	}
	return s.id, nil
}

// OpenSessionUnexplained opens a session that holds the rows although no transaction of anybody says where they are from, and
// returns its id; its version is 1. The money comes out of nothing, straight into the session; Check counts it as brought in.
// The sessions of the recordings were made so. NitronodeV1 only; the errors are the node's own texts.
func (n *Node) OpenSessionUnexplained(def Definition, rows []Allocation) (string, error) {
	if n.cfg.Protocol != NitronodeV1 {
		return "", fmt.Errorf("clearnodetest: open session: only %s has sessions whose funding it doesn't show", NitronodeV1)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	s, err := n.createFree(def)
	if err != nil {
		return "", fmt.Errorf("clearnodetest: open session: %w", err)
	}
	for _, a := range rows {
		if !contains(s.def.Participants, address(a.Participant)) {
			n.sessions.forget(s)
			return "", fmt.Errorf("clearnodetest: open session: %s is no participant", a.Participant)
		}
	}
	for _, a := range rows {
		n.grantV1(s, a)
	}
	return s.id, nil
}

// forget undoes the creation of the newest session.
func (r *register) forget(s *session) {
	delete(r.byID, s.id)
	r.all = r.all[:len(r.all)-1]
}

// createFree opens a session for which nobody signs.
func (n *Node) createFree(def Definition) (*session, error) {
	w := v1Definition{Application: def.Application, Quorum: uint8(def.Quorum), Nonce: strconv.FormatUint(def.Nonce, 10)}
	if def.Quorum > math.MaxUint8 || len(def.Weights) != len(def.Participants) {
		return nil, refusal("failed to parse parameters")
	}
	for i, p := range def.Participants {
		if def.Weights[i] < 0 || def.Weights[i] > math.MaxUint8 {
			return nil, refusal("failed to parse parameters")
		}
		w.Participants = append(w.Participants, v1Participant{p, uint8(def.Weights[i])})
	}
	return n.createV1(v1Creation{Definition: w}, false)
}

// Deposit puts an amount from a participant's balance into an open session, as their own signed deposit and the quorum's
// agreement would: a new version, and a transaction of type 40. NitronodeV1 only; the errors are the node's own texts.
func (n *Node) Deposit(session string, wallet common.Address, asset string, amount decimal.Decimal) error {
	return n.DepositFor(session, wallet, wallet, asset, amount)
}

// DepositFor is a Deposit that one wallet, a participant or not, pays and another, a participant, holds from then on.
func (n *Node) DepositFor(session string, payer, holder common.Address, asset string, amount decimal.Decimal) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.sessions.byID[session]
	switch {
	case n.cfg.Protocol != NitronodeV1:
		return fmt.Errorf("clearnodetest: deposit: only with %s; use submit_app_state", NitronodeV1)
	case s == nil:
		return refusal("app session not found")
	case s.status == "closed":
		return refusal("app session is already closed")
	case !contains(s.def.Participants, holder.Hex()):
		return refusal("allocation to non-participant " + strings.ToLower(holder.Hex()))
	}
	row := Allocation{holder.Hex(), asset, amount}
	if err := n.payable(payer.Hex(), row, amount); err != nil || amount.IsZero() {
		return err
	}
	n.depositV1(s, payer.Hex(), row)
	return nil
}

// depositable checks that participants can pay all the rows, and returns those that aren't zero, in EIP-55.
func (n *Node) depositable(s *session, rows []Allocation) ([]Allocation, error) {
	var all []Allocation
	need := map[purse]decimal.Decimal{}
	for _, a := range rows {
		wallet, err := walletV1(a.Participant)
		if err != nil || !contains(s.def.Participants, wallet) {
			return nil, refusal("allocation to non-participant " + a.Participant)
		}
		p := purse{wallet, a.Asset}
		need[p] = need[p].Add(a.Amount)
		if err := n.payable(wallet, a, need[p]); err != nil {
			return nil, err
		}
		if !a.Amount.IsZero() {
			all = append(all, Allocation{wallet, a.Asset, a.Amount})
		}
	}
	return all, nil
}

// payable checks a deposit's row, and that the payer has as much as they need for it and others.
func (n *Node) payable(payer string, a Allocation, need decimal.Decimal) error {
	if a.Amount.IsNegative() {
		return refusal(fmt.Sprintf("negative allocation: %s for asset %s", a.Amount, a.Asset))
	}
	if err := n.precise(a); err != nil {
		return err
	}
	if need.GreaterThan(n.book.sums[part{payer, payer, a.Asset}]) {
		return refusal(fmt.Sprintf("insufficient funds: %s for asset %s", payer, a.Asset))
	}
	return nil
}

// depositV1 moves an amount from the payer's own account, which has it, into the participant's part of the session.
func (n *Node) depositV1(s *session, payer string, a Allocation) {
	d := n.book.draft()
	out := d.record(payer, payer, a.Asset, a.Amount.Neg(), "")
	if in := d.record(s.id, a.Participant, a.Asset, a.Amount, ""); out != nil || in != nil {
		return // as much as no book holds
	}
	d.commit()
	n.channels.send(v1Commit, s.id, Allocation{payer, a.Asset, a.Amount}, n.cfg.Now())
	s.version, s.updated = s.version+1, n.cfg.Now()
	s.deposits = append(s.deposits, a)
	s.states = append(s.states, v1State{version: s.version, intent: IntentDeposit.String(), free: true, rows: n.parts(s)})
}

// grantV1 puts money from outside into a session's account.
func (n *Node) grantV1(s *session, a Allocation) {
	a.Participant = address(a.Participant)
	d := n.book.draft()
	if d.record(s.id, a.Participant, a.Asset, a.Amount, "") != nil {
		return
	}
	n.book.funded[a.Asset] = n.book.funded[a.Asset].Add(a.Amount)
	d.commit()
	s.deposits = append(s.deposits, a)
	s.states[len(s.states)-1].rows = n.parts(s)
}
