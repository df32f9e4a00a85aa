package nitronode

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/ethereum/go-ethereum/common"
	"github.com/shopspring/decimal"

	"settled/clearnode/clearnodetest/internal/server"
)

// OpenSession opens a session and deposits row by row. Each deposit is a new version, as a participant's own deposit is.
func (n *Node) OpenSession(def server.Definition, deposits []server.Allocation) (string, error) {
	n.Lock()
	defer n.Unlock()
	s, err := n.newUnsignedSession(def)
	if err != nil {
		return "", err
	}
	for _, wallet := range s.Definition.Participants {
		n.Ledger.ApplyFaucet(wallet)
	}
	var rows []server.Allocation
	need := map[channel]decimal.Decimal{}
	for _, a := range deposits {
		wallet, err := parseAddress(a.Participant)
		if err != nil || !slices.Contains(s.Definition.Participants, wallet) {
			return "", errors.New("allocation to non-participant " + a.Participant)
		}
		c := channel{wallet, a.Asset}
		need[c] = need[c].Add(a.Amount)
		if err := n.checkDeposit(wallet, a, need[c]); err != nil {
			return "", err
		}
		if !a.Amount.IsZero() {
			rows = append(rows, server.Allocation{Participant: wallet, Asset: a.Asset, Amount: a.Amount})
		}
	}
	if err := n.addSession(s, state{Version: 1, Intent: "create", Unsigned: true}); err != nil {
		return "", err
	}
	for _, a := range rows {
		n.deposit(s, a.Participant, a)
	}
	return s.ID, nil
}

// OpenSessionUnexplained opens a session with money from outside that no transaction explains.
func (n *Node) OpenSessionUnexplained(def server.Definition, rows []server.Allocation) (string, error) {
	n.Lock()
	defer n.Unlock()
	s, err := n.newUnsignedSession(def)
	if err != nil {
		return "", err
	}
	for _, a := range rows {
		if !slices.Contains(s.Definition.Participants, server.Checksum(a.Participant)) {
			return "", fmt.Errorf("%s is no participant", a.Participant)
		}
	}
	if err := n.addSession(s, state{Version: 1, Intent: "create", Unsigned: true}); err != nil {
		return "", err
	}
	for _, a := range rows {
		n.FundSession(s, a)
	}
	return s.ID, nil
}

// newUnsignedSession makes a session as a request would that has the definition.
func (n *Node) newUnsignedSession(def server.Definition) (*server.Session, error) {
	tooLarge := func(weight int64) bool { return weight < 0 || weight > math.MaxUint8 }
	if def.Quorum > math.MaxUint8 || len(def.Weights) != len(def.Participants) || slices.ContainsFunc(def.Weights, tooLarge) {
		return nil, errors.New("failed to parse parameters")
	}
	w := definition{Application: def.Application, Quorum: uint8(def.Quorum), Nonce: formatNumber(def.Nonce)}
	for i, p := range def.Participants {
		w.Participants = append(w.Participants, participant{p, uint8(def.Weights[i])})
	}
	return n.newSession(creation{Definition: w})
}

// Deposit moves an amount from the payer's balance into the holder's part of an open session.
func (n *Node) Deposit(session string, payer, holder common.Address, asset string, amount decimal.Decimal) error {
	n.Lock()
	defer n.Unlock()
	s := n.Sessions.ByID[session]
	switch {
	case s == nil:
		return errors.New("app session not found")
	case s.Status == "closed":
		return errors.New("app session is already closed")
	case !slices.Contains(s.Definition.Participants, holder.Hex()):
		return errors.New("allocation to non-participant " + strings.ToLower(holder.Hex()))
	}
	row := server.Allocation{Participant: holder.Hex(), Asset: asset, Amount: amount}
	if err := n.checkDeposit(payer.Hex(), row, amount); err != nil || amount.IsZero() {
		return err
	}
	n.deposit(s, payer.Hex(), row)
	return nil
}

// checkDeposit checks a deposit's row, and that the payer has the amount needed for it and earlier rows.
func (n *Node) checkDeposit(payer string, a server.Allocation, need decimal.Decimal) error {
	if a.Amount.IsNegative() {
		return fmt.Errorf("negative allocation: %s for asset %s", a.Amount, a.Asset)
	}
	if err := n.checkPrecision(a); err != nil {
		return err
	}
	if need.GreaterThan(n.Ledger.Balances[server.Part{Account: payer, Wallet: payer, Asset: a.Asset}]) {
		return fmt.Errorf("insufficient funds: %s for asset %s", payer, a.Asset)
	}
	return nil
}

// deposit moves an amount that the payer has into the participant's part of the session.
func (n *Node) deposit(s *server.Session, payer string, a server.Allocation) {
	d := n.Ledger.Begin()
	if d.Record(payer, payer, a.Asset, a.Amount.Neg()) != nil || d.Record(s.ID, a.Participant, a.Asset, a.Amount) != nil {
		return // more than the ledger can hold
	}
	d.Commit()
	n.channels.record(commit, s.ID, payer, a.Asset, a.Amount, n.Config.Now())
	s.Version, s.Updated = s.Version+1, n.Config.Now()
	s.Deposits = append(s.Deposits, a)
	n.states[s] = append(n.states[s], state{
		Version: s.Version, Intent: IntentDeposit.String(), Unsigned: true, Rows: n.CurrentAllocations(s),
	})
}

// FundSession puts money from outside into a session.
func (n *Node) FundSession(s *server.Session, a server.Allocation) {
	a.Participant = server.Checksum(a.Participant)
	if n.Ledger.FundAccount(s.ID, a.Participant, a.Asset, a.Amount, 0) != nil {
		return
	}
	s.Deposits = append(s.Deposits, a)
	n.states[s][len(n.states[s])-1].Rows = n.CurrentAllocations(s)
}
