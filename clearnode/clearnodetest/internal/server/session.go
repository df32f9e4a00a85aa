package server

import (
	"math"
	"slices"
	"time"

	"github.com/shopspring/decimal"
)

// Definition is a session's definition as on the wire. In NitroRPC 0.5 the session's id is the Keccak-256 of this JSON
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

// FitsColumns reports whether the numbers fit into the database's columns.
func (d Definition) FitsColumns() bool {
	return max(d.Quorum, d.Challenge, d.Nonce) <= math.MaxInt64
}

// Allocation is a participant's amount of an asset, in whole units.
type Allocation struct {
	Participant string          `json:"participant"`
	Asset       string          `json:"asset"`
	Amount      decimal.Decimal `json:"amount"`
}

// SessionState is what the node knows about a session.
type SessionState struct {
	ID       string
	Status   string // open or closed
	Version  uint64
	Deposits []Allocation // every row that was paid in
	Payouts  []Allocation // every row that was paid out; amounts of 0 included, except with NitronodeV1, which records none
	Current  []Allocation // what the participants hold in it now, without zeros
	Closes   int          // committed closes; more than one paid more than once
	Data     string       // its session data
}

// Session is a session in the node's memory.
type Session struct {
	ID         string
	row        uint64
	Definition Definition
	Status     string
	Data       string
	Version    uint64
	Created    time.Time
	Updated    time.Time
	Deposits   []Allocation
	Payouts    []Allocation
	Closes     [][]string // for each committed close, the wallets that signed it
}

// NewSession makes an open session.
func NewSession(id string, def Definition, version uint64, now time.Time) *Session {
	return &Session{ID: id, Definition: def, Status: "open", Version: version, Created: now, Updated: now}
}

// LastChange orders sessions in lists.
func (s *Session) LastChange() (at time.Time, row uint64) { return s.Updated, s.row }

// Weight sums the weights of wallets. If one isn't a participant, it returns that wallet.
func (s *Session) Weight(wallets []string) (total int64, unknown string) {
	weights := map[string]int64{}
	for i, p := range s.Definition.Participants {
		weights[p] = s.Definition.Weights[i]
	}
	for _, w := range wallets {
		weight, ok := weights[w]
		if !ok {
			return 0, w
		}
		total += weight
	}
	return total, ""
}

// RecordClose makes the session closed, signed by these wallets.
func (s *Session) RecordClose(version uint64, now time.Time, signers []string) {
	s.Status, s.Version, s.Updated = "closed", version, now
	s.Closes = append(s.Closes, signers)
}

// Sessions are all sessions of a node.
type Sessions struct {
	ByID          map[string]*Session
	All           []*Session
	byParticipant map[string]*participantSessions // as the definition spells the participant
}

// participantSessions are one participant's sessions, oldest first. Closed sessions are removed from open when they are found
// there, so that many closed sessions don't slow down a search for open ones.
type participantSessions struct{ all, open []*Session }

func newSessions() *Sessions {
	return &Sessions{ByID: map[string]*Session{}, byParticipant: map[string]*participantSessions{}}
}

// Add stores a new session.
func (r *Sessions) Add(s *Session) {
	s.row = uint64(len(r.All) + 1)
	r.ByID[s.ID] = s
	r.All = append(r.All, s)
	for i, wallet := range s.Definition.Participants {
		if slices.Contains(s.Definition.Participants[:i], wallet) {
			continue
		}
		of := r.byParticipant[wallet]
		if of == nil {
			of = &participantSessions{}
			r.byParticipant[wallet] = of
		}
		of.all, of.open = append(of.all, s), append(of.open, s)
	}
}

// Of are the sessions of a participant, or of all if it is empty, with a status, or with any if it is empty.
func (r *Sessions) Of(participant, status string) []*Session {
	of := &participantSessions{all: r.All, open: r.All}
	if participant != "" {
		of = r.byParticipant[participant]
	}
	if of == nil {
		return nil
	}
	source := of.all
	if status == "open" {
		source = of.open
	}
	var found []*Session
	for _, s := range source {
		if status == "" || s.Status == status {
			found = append(found, s)
		}
	}
	if status == "open" {
		of.open = slices.Clip(found)
	}
	return found
}

// CurrentAllocations are what each participant holds in a session, without zeros.
func (n *State) CurrentAllocations(s *Session) []Allocation {
	all := []Allocation{}
	for _, p := range s.Definition.Participants {
		for _, b := range n.Ledger.BalancesOf(s.ID, Checksum(p)) {
			if !b.Amount.IsZero() {
				all = append(all, Allocation{p, b.Asset, b.Amount})
			}
		}
	}
	return all
}

// Closing is a close whose checks have passed, before its commit. Nothing locks the session meanwhile: another close of it may
// pass its checks too.
type Closing struct {
	Session *Session
	Draft   *Draft
	Payouts []Allocation
	Data    *string  // nil: unchanged
	Signers []string // wallets
	Version uint64
}

// Commit closes the session, whatever happened to it since the checks.
func (c Closing) Commit(now time.Time) {
	c.Draft.Commit()
	s := c.Session
	s.RecordClose(c.Version, now, c.Signers)
	s.Payouts = append(s.Payouts, c.Payouts...)
	if c.Data != nil {
		s.Data = *c.Data
	}
}

// CommitClose commits a requested close, unless the node stopped or the database is away.
func (n *State) CommitClose(l *Lifetime, r *Request, c Closing, outage error) error {
	n.Lock()
	defer n.Unlock()
	if l.Ended() {
		return ErrStopped
	}
	if n.Outage {
		return outage
	}
	c.Commit(n.Config.Now())
	if r.Close != nil {
		r.Close.Committed = true
	}
	return nil
}
