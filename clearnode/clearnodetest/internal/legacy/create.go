package legacy

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/ethereum/go-ethereum/crypto"

	"settled/clearnode/clearnodetest/internal/server"
)

// Definition is a session's definition as on the wire; the session's id is the Keccak-256 of this JSON.
type Definition struct {
	Protocol     string   `json:"protocol"`
	Participants []string `json:"participants"`
	Weights      []uint64 `json:"weights"`
	Quorum       uint64   `json:"quorum"`
	Challenge    uint64   `json:"challenge"`
	Nonce        uint64   `json:"nonce,omitempty"`
}

func wireDefinition(d server.Definition) Definition {
	weights := make([]uint64, len(d.Weights))
	for i, w := range d.Weights {
		weights[i] = uint64(w)
	}
	return Definition{d.Protocol, d.Participants, weights, d.Quorum, d.Challenge, d.Nonce}
}

// stored is the definition in the database, whose defaults replace an empty protocol and a quorum of zero.
func (d Definition) stored() server.Definition {
	def := server.Definition{
		Protocol: d.Protocol, Participants: d.Participants, Weights: make([]int64, len(d.Weights)),
		Quorum: d.Quorum, Challenge: d.Challenge, Nonce: d.Nonce,
	}
	for i, w := range d.Weights {
		def.Weights[i] = int64(w)
	}
	if def.Protocol == "" {
		def.Protocol = "NitroRPC/0.2"
	}
	if def.Quorum == 0 {
		def.Quorum = 100
	}
	return def
}

// Creation are the params of create_app_session, in the order that their signatures sign.
type Creation struct {
	Definition  Definition          `json:"definition"`
	Allocations []server.Allocation `json:"allocations"`
}

func (p Creation) check() error {
	d := p.Definition
	switch {
	case len(d.Participants) < 2:
		return errors.New("invalid number of participants")
	case len(p.Allocations) != len(d.Participants):
		return errors.New("number of allocations must be equal to participants")
	case len(d.Weights) != len(d.Participants):
		return errors.New("number of weights must be equal to participants")
	}
	return nil
}

func (n *Node) createAppSession(_ *server.Conn, m *message) (any, error) {
	var p Creation
	if err := m.parse(&p); err != nil {
		return nil, err
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	if p.Definition.Nonce == 0 {
		p.Definition.Nonce = m.Timestamp
	}
	signed := m.data.withParams([]Creation{p})
	signers := []string{}
	for _, sig := range m.sigs {
		signer, err := recoverSigner(signed, sig)
		if err != nil {
			return nil, errors.New("invalid signature")
		}
		signers = append(signers, signer)
	}
	n.Lock()
	defer n.Unlock()
	s, err := n.create(p, m.Timestamp, signers)
	if err != nil {
		return nil, err
	}
	return sessionRow{ID: s.ID, Status: s.Status}, nil
}

// OpenSession opens a session without signatures. It adds rows of 0 for those who deposit nothing, because the node requires as
// many rows as participants.
func (n *Node) OpenSession(def server.Definition, deposits []server.Allocation) (string, error) {
	p := Creation{Definition: wireDefinition(def), Allocations: slices.Clone(deposits)}
	for len(p.Allocations) < len(def.Participants) {
		p.Allocations = append(p.Allocations, server.Allocation{Participant: def.Participants[len(p.Allocations)], Asset: "usdc"})
	}
	if err := p.check(); err != nil {
		return "", err
	}
	n.Lock()
	defer n.Unlock()
	now := server.Millis(n.Config.Now())
	if p.Definition.Nonce == 0 {
		p.Definition.Nonce = now
	}
	s, err := n.create(p, now, nil)
	if err != nil {
		return "", err
	}
	return s.ID, nil
}

// create opens a session. Its version is the request's time and never changes. If signers is nil no signature is needed.
func (n *Node) create(p Creation, ts uint64, signers []string) (*server.Session, error) {
	if n.Outage {
		return nil, errDatabaseAway
	}
	raw, err := json.Marshal(p.Definition)
	if err != nil {
		return nil, errors.New("error serializing message")
	}
	s := server.NewSession(crypto.Keccak256Hash(raw).Hex(), p.Definition.stored(), ts, n.Config.Now())
	d := n.Ledger.Begin()
	for _, a := range p.Allocations {
		n.Ledger.ApplyFaucet(a.Participant)
		if err := deposit(d, s, a, signers); err != nil {
			return nil, err
		}
	}
	if err := n.checkStorable(s); err != nil {
		return nil, fmt.Errorf("failed to record virtual app: %w", err)
	}
	d.Commit()
	n.Sessions.Add(s)
	return s, nil
}

// checkStorable returns the database's error if a number doesn't fit into its column or the id exists.
func (n *Node) checkStorable(s *server.Session) error {
	for _, w := range s.Definition.Weights {
		if w < math.MinInt32 || w > math.MaxInt32 {
			return fmt.Errorf(`ERROR: value "%d" is out of range for type integer (SQLSTATE 22003)`, w)
		}
	}
	switch {
	case !s.Definition.FitsColumns():
		return errors.New("uint64 values with high bit set are not supported")
	case n.Sessions.ByID[s.ID] != nil:
		return errors.New(`ERROR: duplicate key value violates unique constraint "app_sessions_session_id_key" (SQLSTATE 23505)`)
	}
	return nil
}

// deposit moves a row's amount from an account into the session. Accounts are the texts of the rows, as spelled; the node
// doesn't check that they are participants.
func deposit(d *server.Draft, s *server.Session, a server.Allocation, signers []string) error {
	account := server.Part{Account: a.Participant, Wallet: a.Participant, Asset: a.Asset}
	switch {
	case a.Amount.IsNegative():
		return errors.New("invalid allocation")
	case a.Amount.IsPositive() && signers != nil && !slices.Contains(signers, a.Participant):
		return errors.New("missing signature for participant " + a.Participant)
	case a.Amount.GreaterThan(d.Balance(account)):
		return errors.New("insufficient funds")
	}
	if err := d.Record(a.Participant, a.Participant, a.Asset, a.Amount.Neg()); err != nil {
		return fmt.Errorf("failed to transfer funds from participant: %w", err)
	}
	if err := d.Record(s.ID, a.Participant, a.Asset, a.Amount); err != nil {
		return fmt.Errorf("failed to transfer funds to virtual app: %w", err)
	}
	if !a.Amount.IsZero() {
		s.Deposits = append(s.Deposits, a)
	}
	return nil
}
