// Package server is what the simulated nodes of all generations share: connections, faults, request records, the ledger and
// the sessions.
package server

import (
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/shopspring/decimal"
)

// Protocol is one generation's part of a node.
type Protocol interface {
	Transport() Transport
	// Greet sends what a new connection receives first.
	Greet(c *Conn)
	// Handle serves one frame. It returns false if the connection and its queue are lost: the node stopped, or a fault
	// cut the connection before the request arrived.
	Handle(c *Conn, frame []byte) bool
	// OpenSession opens a session as a request does, but without signatures.
	OpenSession(def Definition, deposits []Allocation) (id string, err error)
	// Payout returns the amount in the newest record of what a session paid a participant, or nil.
	Payout(session, participant, asset string) *decimal.Decimal
	// CheckSession reports violations of the generation's own rules.
	CheckSession(s *Session) []error
	// Methods are the names of the generation's requests.
	Methods() []string
	// OwnState is what only this generation keeps when its process ends. The node is locked.
	OwnState() any
	// RestoreOwn replaces that, after State.Restore. The null value makes it empty.
	RestoreOwn(own json.RawMessage) error
}

// State is the state of a running node. Its mutex guards everything below Transport, and what the generations keep.
type State struct {
	Config    Config
	Address   common.Address    // the broker's
	WrongKey  *ecdsa.PrivateKey // belongs to nobody; signs the frames of a WrongSignature fault
	URL       string
	Transport Transport
	protocol  Protocol
	http      *http.Server
	accepting sync.WaitGroup

	sentFrames, sentBytes atomic.Uint64 // to all clients
	finished              atomic.Uint64 // requests

	sync.Mutex
	Lifetime      *Lifetime // nil while the node is stopped
	closed        bool
	Outage        bool // the database is unreachable
	Ledger        *Ledger
	Sessions      *Sessions
	Logins        *Logins
	NextChallenge func() ChallengeID
	Records       Records
	Faults        []*Fault
}

// New makes a node that doesn't listen yet.
func New(cfg Config) (*State, error) {
	cfg = cfg.WithDefaults()
	wrong, err := crypto.GenerateKey()
	if err == nil && cfg.BrokerKey == nil {
		cfg.BrokerKey, err = crypto.GenerateKey()
	}
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	return &State{
		Config:        cfg,
		Address:       crypto.PubkeyToAddress(cfg.BrokerKey.PublicKey),
		WrongKey:      wrong,
		Ledger:        newLedger(cfg),
		Sessions:      newSessions(),
		Logins:        newLogins(cfg.Now()),
		NextChallenge: randomChallenge,
		Records:       newRecords(),
	}, nil
}

// Greet sends nothing.
func (n *State) Greet(*Conn) {}

// Payout finds nothing: the generation reports no transfers.
func (n *State) Payout(_, _, _ string) *decimal.Decimal { return nil }

// CheckSession finds nothing: the common checks cover all of the generation's rules.
func (n *State) CheckSession(*Session) []error { return nil }

// Sent is how many frames were sent to clients, and how many bytes they have.
func (n *State) Sent() (frames, bytes uint64) { return n.sentFrames.Load(), n.sentBytes.Load() }

// SigningKey is the key that signs an answer under a fault.
func (n *State) SigningKey(f Fault) *ecdsa.PrivateKey {
	if f.Kind == WrongSignature {
		return n.WrongKey
	}
	return n.Config.BrokerKey
}

// Millis is a time as the protocols write it.
func Millis(t time.Time) uint64 { return uint64(t.UnixMilli()) }

// Micros is a time as the database stores it.
func Micros(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }
