package clearnodetest

import (
	"encoding/json"
	"fmt"
	"math"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/shopspring/decimal"
)

type legacyCreation struct {
	Definition  legacyDefinition `json:"definition"`
	Allocations []Allocation     `json:"allocations"`
}

func legacyCreate(n *Node, _ *conn, m *legacyMessage) (any, error) {
	var p legacyCreation
	if err := m.parse(&p); err != nil {
		return nil, err
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	if p.Definition.Nonce == 0 {
		p.Definition.Nonce = m.ts
	}
	signed := m.data.over([]legacyCreation{p})
	signers := map[string]bool{}
	for _, text := range m.texts {
		signer, err := legacySigner(signed, text)
		if err != nil {
			return nil, refusal("invalid signature")
		}
		signers[signer] = true
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	s, err := n.createLegacy(p, m.ts, signers)
	if err != nil {
		return nil, err
	}
	return legacyRow{ID: s.id, Status: s.status}, nil
}

func (p legacyCreation) check() error {
	d := p.Definition
	switch {
	case len(d.Participants) < 2:
		return refusal("invalid number of participants")
	case len(p.Allocations) != len(d.Participants):
		return refusal("number of allocations must be equal to participants")
	case len(d.Weights) != len(d.Participants):
		return refusal("number of weights must be equal to participants")
	}
	return nil
}

// openLegacy opens a session without signatures. Rows of 0 are added for those who put nothing in: the node wants as many
// rows as participants.
func (n *Node) openLegacy(def Definition, deposits []Allocation) (string, error) {
	p := legacyCreation{Definition: def.legacy(), Allocations: append([]Allocation(nil), deposits...)}
	for len(p.Allocations) < len(def.Participants) {
		p.Allocations = append(p.Allocations, Allocation{def.Participants[len(p.Allocations)], "usdc", decimal.Zero})
	}
	if err := p.check(); err != nil {
		return "", err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	now := millis(n.cfg.Now())
	if p.Definition.Nonce == 0 {
		p.Definition.Nonce = now
	}
	s, err := n.createLegacy(p, now, nil)
	if err != nil {
		return "", err
	}
	return s.id, nil
}

// createLegacy opens a session, whose version is the request's time and stays so. Nil signers mean that nobody needs to sign.
func (n *Node) createLegacy(p legacyCreation, ts uint64, signers map[string]bool) (*session, error) {
	if n.down {
		return nil, errLegacyAway
	}
	raw, err := json.Marshal(p.Definition)
	if err != nil {
		return nil, refusal("error serializing message")
	}
	now := n.cfg.Now()
	s := &session{
		id: crypto.Keccak256Hash(raw).Hex(), def: p.Definition.stored(), status: "open", version: ts, created: now, updated: now,
	}
	d := n.book.draft()
	for _, a := range p.Allocations {
		n.book.see(a.Participant)
		if err := depositLegacy(d, s, a, signers); err != nil {
			return nil, err
		}
	}
	if err := n.storable(s); err != nil {
		return nil, err
	}
	d.commit()
	n.sessions.add(s)
	return s, nil
}

// stored is the definition as the database has it: its defaults stand in for nothing and for zero.
func (d legacyDefinition) stored() Definition {
	def := Definition{
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

// storable tells whether the database takes the session: its numbers fit into the columns, and there is none of its id.
func (n *Node) storable(s *session) error {
	const failed = "failed to record virtual app: "
	for _, w := range s.def.Weights {
		if w < math.MinInt32 || w > math.MaxInt32 {
			return refusal(fmt.Sprintf(failed+`ERROR: value "%d" is out of range for type integer (SQLSTATE 22003)`, w))
		}
	}
	switch {
	case !s.def.storable():
		return refusal(failed + "uint64 values with high bit set are not supported")
	case n.sessions.byID[s.id] != nil:
		return refusal(failed + `ERROR: duplicate key value violates unique constraint "app_sessions_session_id_key" (SQLSTATE 23505)`)
	}
	return nil
}

// depositLegacy takes a row from a participant's account into the session. Accounts are the strings of the rows, as spelled;
// nobody looks whether they are participants.
func depositLegacy(d *draft, s *session, a Allocation, signers map[string]bool) error {
	switch {
	case a.Amount.IsNegative():
		return refusal("invalid allocation")
	case a.Amount.IsPositive() && signers != nil && !signers[a.Participant]:
		return refusal("missing signature for participant " + a.Participant)
	case a.Amount.GreaterThan(d.balance(part{a.Participant, a.Participant, a.Asset})):
		return refusal("insufficient funds")
	}
	if err := recordLegacy(d, a.Participant, a.Participant, a.Asset, a.Amount.Neg()); err != nil {
		return refusal("failed to transfer funds from participant: " + err.Error())
	}
	if err := recordLegacy(d, s.id, a.Participant, a.Asset, a.Amount); err != nil {
		return refusal("failed to transfer funds to virtual app: " + err.Error())
	}
	if !a.Amount.IsZero() {
		s.deposits = append(s.deposits, a)
	}
	return nil
}

// recordLegacy writes a row, or passes the database's refusal on.
func recordLegacy(d *draft, account, wallet, asset string, amount decimal.Decimal) error {
	if d.record(account, wallet, asset, amount, "") != nil {
		return refusal("ERROR: numeric field overflow (SQLSTATE 22003)")
	}
	return nil
}
