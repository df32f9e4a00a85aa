package clearnodetest

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/shopspring/decimal"
)

// Definition is what a session is, as on the wire; its id is the Keccak-256 of its JSON in this order of fields
// (testdata/vectors.json). Participants are addresses in EIP-55; Challenge is in seconds.
type Definition struct {
	Application  string   `json:"application"`
	Protocol     string   `json:"protocol"`
	Participants []string `json:"participants"`
	Weights      []int64  `json:"weights"`
	Quorum       uint64   `json:"quorum"`
	Challenge    uint64   `json:"challenge"`
	Nonce        uint64   `json:"nonce"`
}

// Allocation is an amount of an asset for a participant, in the asset's whole units, not its smallest.
type Allocation struct {
	Participant string          `json:"participant"`
	Asset       string          `json:"asset"`
	Amount      decimal.Decimal `json:"amount"`
}

// SessionState is what the node knows of a session.
type SessionState struct {
	ID       string
	Status   string // open or closed
	Version  uint64
	Deposits []Allocation // every row that put something in
	Payouts  []Allocation // every row that took something out; amounts of 0 included, except with a NitronodeV1, which writes none
	Current  []Allocation // what the participants hold of it now, without zeros
	Closes   int          // closes carried out; more than one paid more than once
	Data     string       // its session data
}

type register struct {
	byID map[string]*session
	all  []*session
	of   map[string]*sessions // by participant, as the definition spells it
	tags map[string]string    // by wallet: the tag that its first login by signature gave it
}

func newRegister() *register {
	return &register{byID: map[string]*session{}, of: map[string]*sessions{}, tags: map[string]string{}}
}

// sessions are a participant's, the oldest first. What is closed stays so, and leaves the open ones when they are asked for:
// many thousands closed don't slow down who looks for one that is open.
type sessions struct{ all, open []*session }

func (r *register) add(s *session) {
	s.row = uint64(len(r.all) + 1)
	r.byID[s.id] = s
	r.all = append(r.all, s)
	for i, wallet := range s.def.Participants {
		if contains(s.def.Participants[:i], wallet) {
			continue
		}
		if r.of[wallet] == nil {
			r.of[wallet] = &sessions{}
		}
		r.of[wallet].all = append(r.of[wallet].all, s)
		r.of[wallet].open = append(r.of[wallet].open, s)
	}
}

// among are the sessions of a participant, of everybody where nobody is named, in this status, or in any where none is.
func (r *register) among(participant, status string) []*session {
	mine := &sessions{all: r.all, open: r.all}
	if participant != "" {
		mine = r.of[participant]
	}
	if mine == nil {
		return nil
	}
	source := mine.all
	if status == "open" {
		source = mine.open
	}
	var found []*session
	for _, s := range source {
		if status == "" || s.status == status {
			found = append(found, s)
		}
	}
	if status == "open" {
		mine.open = found[:len(found):len(found)]
	}
	return found
}

func (r *register) tag(wallet string) {
	if r.tags[wallet] == "" {
		r.tags[wallet] = rand.Text()[:6]
	}
}

func (r *register) open(id string) (*session, error) {
	s, ok := r.byID[id]
	if !ok || s.status != "open" {
		return nil, refusal("an open app session not found: record not found")
	}
	return s, nil
}

type session struct {
	id       string
	row      uint64
	def      Definition
	status   string
	data     string
	version  uint64
	created  time.Time
	updated  time.Time
	deposits []Allocation
	payouts  []Allocation
	closes   [][]string // of each close carried out: the wallets that signed it
	states   []v1State  // NitronodeV1: all that the session went through, the newest last
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

func (s *session) full() sessionRow {
	d := s.def
	return sessionRow{
		ID: s.id, Application: d.Application, Status: s.status, Participants: d.Participants, Data: s.data,
		Protocol: d.Protocol, Challenge: d.Challenge, Weights: d.Weights, Quorum: d.Quorum, Version: s.version, Nonce: d.Nonce,
		Created: s.created.UTC().Format(time.RFC3339), Updated: s.updated.UTC().Format(time.RFC3339),
	}
}

// Session returns the state of a session, if there is one with this id.
func (n *Node) Session(id string) (SessionState, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s, ok := n.sessions.byID[id]
	if !ok {
		return SessionState{}, false
	}
	return SessionState{
		ID: s.id, Status: s.status, Version: s.version, Closes: len(s.closes), Data: s.data,
		Deposits: append([]Allocation(nil), s.deposits...), Payouts: append([]Allocation(nil), s.payouts...), Current: n.parts(s),
	}, true
}

// OpenSession opens a session without a connection and without signatures and returns its id. The deposits come from the
// participants' balances. The errors are the node's own texts.
func (n *Node) OpenSession(def Definition, deposits []Allocation) (string, error) {
	id, err := n.dialect.open(n, def, deposits)
	if err != nil {
		return "", fmt.Errorf("clearnodetest: open session: %w", err)
	}
	return id, nil
}

type creation struct {
	Definition  Definition   `json:"definition"`
	Allocations []Allocation `json:"allocations"`
	Data        *string      `json:"session_data"`
}

func createAppSession(n *Node, _ *conn, r *request) (any, error) {
	var p creation
	if err := r.parse(&p); err != nil {
		return nil, err
	}
	signers, err := r.signers()
	if err != nil {
		return nil, refusal("failed to get signers from RPC message")
	}
	if signers == nil {
		signers = []string{}
	}
	n.mu.Lock()
	s, err := n.create(p, signers)
	n.mu.Unlock()
	if err != nil {
		return nil, err
	}
	n.tellFunders(p.Allocations)
	return sessionRow{ID: s.id, Status: "open", Version: 1}, nil
}

// create opens a session. Nil signers mean that nobody needs to sign.
func (n *Node) create(p creation, signers []string) (*session, error) {
	if err := p.Definition.check(); err != nil {
		return nil, err
	}
	if n.down {
		return nil, refusal("failed to create application session")
	}
	raw, err := json.Marshal(p.Definition)
	if err != nil {
		return nil, refusal("failed to generate app session ID")
	}
	now := n.cfg.Now()
	s := &session{
		id: crypto.Keccak256Hash(raw).Hex(), def: p.Definition, status: "open", version: 1, created: now, updated: now,
	}
	if s.def.Quorum == 0 {
		s.def.Quorum = 100 // the database's default stands in for a zero
	}
	if p.Data != nil {
		s.data = *p.Data
	}
	for _, wallet := range s.def.Participants {
		n.book.see(wallet)
	}
	d := n.book.draft()
	for _, a := range p.Allocations {
		if err := n.deposit(d, s, a, a.Amount, signers); err != nil {
			return nil, err
		}
	}
	if n.sessions.byID[s.id] != nil || !s.def.storable() {
		return nil, refusal("failed to create application session")
	}
	d.commit()
	n.sessions.add(s)
	return s, nil
}

func (d Definition) check() error {
	switch {
	case d.Protocol != "NitroRPC/0.2" && d.Protocol != "NitroRPC/0.4":
		return refusal("unsupported protocol: " + d.Protocol)
	case len(d.Participants) < 2:
		return refusal("invalid number of participants")
	case len(d.Weights) != len(d.Participants):
		return refusal("number of weights must be equal to participants")
	case d.Nonce == 0:
		return refusal("nonce is zero or not provided")
	}
	var total int64
	for i, w := range d.Weights {
		if w < 0 {
			return refusal(fmt.Sprintf("participant %s weight cannot be negative", d.Participants[i]))
		}
		total += w
	}
	if d.Quorum > uint64(total) {
		return refusal(fmt.Sprintf("target quorum (%d) cannot be greater than total sum of weights (%d)", d.Quorum, total))
	}
	return nil
}

// storable tells whether the numbers fit into the database's columns.
func (d Definition) storable() bool {
	for _, w := range d.Weights {
		if w > math.MaxInt32 {
			return false
		}
	}
	return max(d.Quorum, d.Challenge, d.Nonce) <= math.MaxInt64
}

// deposit takes an amount from a participant into the session, if they or their session key signed for it.
func (n *Node) deposit(d *draft, s *session, a Allocation, amount decimal.Decimal, signers []string) error {
	switch {
	case amount.IsZero():
		return nil
	case amount.IsNegative():
		return refusal(fmt.Sprintf("negative allocation: %s for asset %s", amount, a.Asset))
	}
	key, err := n.depositor(d, s, a, amount, signers)
	if err != nil {
		return err
	}
	account, wallet := accountID(a.Participant), address(a.Participant)
	if amount.GreaterThan(d.balance(part{account, wallet, a.Asset})) {
		return refusal(fmt.Sprintf("insufficient funds: %s for asset %s", a.Participant, a.Asset))
	}
	if err := d.record(account, wallet, a.Asset, amount.Neg(), key); err != nil {
		return err
	}
	if err := d.record(s.id, wallet, a.Asset, amount, ""); err != nil {
		return err
	}
	d.move(appDeposit, account, s.id, a.Asset, amount)
	s.deposits = append(s.deposits, Allocation{a.Participant, a.Asset, amount})
	return nil
}

// depositor returns the session key that signed for the participant, or "" if they signed themselves.
func (n *Node) depositor(d *draft, s *session, a Allocation, amount decimal.Decimal, signers []string) (string, error) {
	if signers == nil || contains(signers, a.Participant) {
		return "", nil
	}
	for _, key := range signers {
		if n.keys.wallet(key, n.cfg.Now()) != a.Participant {
			continue
		}
		spent := n.book.spent(accountID(a.Participant), key, a.Asset)
		for _, e := range d.entries {
			if e.key == key && e.part.asset == a.Asset {
				spent = spent.Add(e.debit)
			}
		}
		return key, n.keys.spend(key, s.def.Application, a.Asset, amount, spent)
	}
	return "", refusal("missing signature for participant " + a.Participant)
}

// tellFunders sends everybody who put something in or got something out their balances.
func (n *Node) tellFunders(rows []Allocation) {
	told := map[string]bool{}
	for _, a := range rows {
		if !a.Amount.IsZero() {
			told[a.Participant] = true
		}
	}
	for _, wallet := range sorted(told) {
		n.tellBalances(wallet)
	}
}
