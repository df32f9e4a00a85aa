package nitrorpc

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/shopspring/decimal"

	"settled/clearnode/clearnodetest/internal/server"
)

// The kinds of transfers that the simulation records.
const (
	appDeposit    = "app_deposit"
	appWithdrawal = "app_withdrawal"
)

type creation struct {
	Definition  server.Definition   `json:"definition"`
	Allocations []server.Allocation `json:"allocations"`
	Data        *string             `json:"session_data"`
}

// sessionRow is a session in lists. Answers to changes use it too and leave most of it empty, as recorded.
type sessionRow struct {
	ID           string   `json:"app_session_id"`
	Application  string   `json:"application"`
	Status       string   `json:"status"`
	Participants []string `json:"participants"`
	Data         string   `json:"session_data,omitempty"`
	Protocol     string   `json:"protocol"`
	Challenge    uint64   `json:"challenge"`
	Weights      []int64  `json:"weights"`
	Quorum       uint64   `json:"quorum"`
	Version      uint64   `json:"version"`
	Nonce        uint64   `json:"nonce"`
	Created      string   `json:"created_at"`
	Updated      string   `json:"updated_at"`
}

func rowOf(s *server.Session) sessionRow {
	d := s.Definition
	return sessionRow{
		ID: s.ID, Application: d.Application, Status: s.Status, Participants: d.Participants, Data: s.Data,
		Protocol: d.Protocol, Challenge: d.Challenge, Weights: d.Weights, Quorum: d.Quorum, Version: s.Version, Nonce: d.Nonce,
		Created: s.Created.UTC().Format(time.RFC3339), Updated: s.Updated.UTC().Format(time.RFC3339),
	}
}

func (n *Node) createAppSession(_ *server.Conn, _ *request, p creation, signers []string) (any, error) {
	n.Lock()
	s, err := n.create(p, signers)
	n.Unlock()
	if err != nil {
		return nil, err
	}
	n.notifyFunders(p.Allocations)
	return sessionRow{ID: s.ID, Status: "open", Version: 1}, nil
}

// OpenSession opens a session as create_app_session does, but without signatures.
func (n *Node) OpenSession(def server.Definition, deposits []server.Allocation) (string, error) {
	n.Lock()
	s, err := n.create(creation{Definition: def, Allocations: deposits}, nil)
	n.Unlock()
	if err != nil {
		return "", err
	}
	n.notifyFunders(deposits)
	return s.ID, nil
}

// create opens a session. If signers is nil no signature is needed.
func (n *Node) create(p creation, signers []string) (*server.Session, error) {
	if err := checkDefinition(p.Definition); err != nil {
		return nil, err
	}
	if n.Outage {
		return nil, errors.New("failed to create application session")
	}
	raw, err := json.Marshal(p.Definition)
	if err != nil {
		return nil, errors.New("failed to generate app session ID")
	}
	s := server.NewSession(crypto.Keccak256Hash(raw).Hex(), p.Definition, 1, n.Config.Now())
	if s.Definition.Quorum == 0 {
		s.Definition.Quorum = 100 // the database's default replaces a zero
	}
	if p.Data != nil {
		s.Data = *p.Data
	}
	for _, wallet := range s.Definition.Participants {
		n.Ledger.ApplyFaucet(wallet)
	}
	d := n.Ledger.Begin()
	for _, a := range p.Allocations {
		if err := n.deposit(d, s, a, a.Amount, signers); err != nil {
			return nil, err
		}
	}
	tooHeavy := slices.ContainsFunc(s.Definition.Weights, func(w int64) bool { return w > math.MaxInt32 })
	if n.Sessions.ByID[s.ID] != nil || tooHeavy || !s.Definition.FitsColumns() {
		return nil, errors.New("failed to create application session")
	}
	d.Commit()
	n.Sessions.Add(s)
	return s, nil
}

func checkDefinition(d server.Definition) error {
	switch {
	case d.Protocol != "NitroRPC/0.2" && d.Protocol != "NitroRPC/0.4":
		return errors.New("unsupported protocol: " + d.Protocol)
	case len(d.Participants) < 2:
		return errors.New("invalid number of participants")
	case len(d.Weights) != len(d.Participants):
		return errors.New("number of weights must be equal to participants")
	case d.Nonce == 0:
		return errors.New("nonce is zero or not provided")
	}
	var total int64
	for i, w := range d.Weights {
		if w < 0 {
			return fmt.Errorf("participant %s weight cannot be negative", d.Participants[i])
		}
		total += w
	}
	if d.Quorum > uint64(total) {
		return fmt.Errorf("target quorum (%d) cannot be greater than total sum of weights (%d)", d.Quorum, total)
	}
	return nil
}

// deposit moves an amount from a participant into the session if the participant or one of their session keys signed.
func (n *Node) deposit(d *server.Draft, s *server.Session, a server.Allocation, amount decimal.Decimal, signers []string) error {
	switch {
	case amount.IsZero():
		return nil
	case amount.IsNegative():
		return fmt.Errorf("negative allocation: %s for asset %s", amount, a.Asset)
	}
	key, err := n.depositSigner(d, s, a, amount, signers)
	if err != nil {
		return err
	}
	account, wallet := server.AccountID(a.Participant), server.Checksum(a.Participant)
	if amount.GreaterThan(d.Balance(server.Part{Account: account, Wallet: wallet, Asset: a.Asset})) {
		return fmt.Errorf("insufficient funds: %s for asset %s", a.Participant, a.Asset)
	}
	if err := recordingError(d.RecordSpent(key, account, wallet, a.Asset, amount.Neg())); err != nil {
		return err
	}
	if err := record(d, s.ID, wallet, a.Asset, amount); err != nil {
		return err
	}
	d.RecordTransfer(appDeposit, account, s.ID, a.Asset, amount)
	s.Deposits = append(s.Deposits, server.Allocation{Participant: a.Participant, Asset: a.Asset, Amount: amount})
	return nil
}

// depositSigner returns the session key that signed for the participant, or "" if the participant signed.
func (n *Node) depositSigner(d *server.Draft, s *server.Session, a server.Allocation, amount decimal.Decimal, signers []string) (string, error) {
	if signers == nil || slices.Contains(signers, a.Participant) {
		return "", nil
	}
	for _, key := range signers {
		if n.keys.wallet(key, n.Config.Now()) != a.Participant {
			continue
		}
		spent := d.Spent(server.AccountID(a.Participant), key, a.Asset)
		return key, n.keys.checkSpending(key, s.Definition.Application, a.Asset, amount, spent)
	}
	return "", errors.New("missing signature for participant " + a.Participant)
}

func record(d *server.Draft, account, wallet, asset string, amount decimal.Decimal) error {
	return recordingError(d.Record(account, wallet, asset, amount))
}

func recordingError(err error) error {
	if err != nil {
		return fmt.Errorf("failed to record a ledger entry : %w", err)
	}
	return nil
}
