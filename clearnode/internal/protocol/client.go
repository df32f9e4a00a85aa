package protocol

import (
	"context"
	"time"

	"settled/settlement"
)

// Client is what a generation uses of the client.
type Client interface {
	// NodeTime is the lower bound of the node's clock, or the local clock until that is
	// known.
	NodeTime() time.Time
	// Address is the node's; false while it is neither pinned nor learned.
	Address() (settlement.Address, bool)
	// VerifyAddress compares an address that answers with the node's, or learns that.
	VerifyAddress(settlement.Address) error

	// CloseStamp is the timestamp of a close: the node's clock, set back so that the
	// request stays acceptable for Config.RequestValidity only.
	CloseStamp() (uint64, error)
	// CheckStamp rejects another party's timestamp that no close of ours would have now.
	CheckStamp(stamp uint64) error
	// ValidUntil is until when a request with a timestamp may take effect.
	ValidUntil(stamp uint64) time.Time

	// Sign signs a payload with one key, within the timeout of a request.
	Sign(ctx context.Context, key Signer, payload []byte, scheme Scheme) ([]byte, error)
	// CollectSignatures collects the signatures over a payload that reach the session's
	// quorum, from our keys, the outcome and co-signers.
	CollectSignatures(ctx context.Context, protocol string, payload []byte, scheme Scheme, o settlement.Outcome, plan settlement.Plan, s settlement.Session) ([]string, error)
	// DisableKey keeps a key of ours from signing, because the node takes its signatures
	// for another wallet's.
	DisableKey(account settlement.Address, reason error)
}

// Conn is what a generation uses of a connection.
type Conn interface {
	// RoundTrip sends requests in a row and waits for all answers. The error is
	// ErrNotSent or ErrNoAnswer.
	RoundTrip(ctx context.Context, requests ...Request) ([]Answer, error)
	// Ask sends one unsigned request at the node's time, and decodes its answer, which
	// must be of the method answered.
	Ask(ctx context.Context, method string, params any, answered string, into any) error
	// AskAll sends questions in a row. It returns the first error of any of them when all
	// are answered.
	AskAll(ctx context.Context, questions ...Question) error
	// NodeTime is the lower bound of the clock of the node behind this connection.
	NodeTime() time.Time
	// SignedIn reports whether the connection is up and signed in.
	SignedIn() bool
	// SetToken records the token by which the connection signed in; "": by signature.
	SetToken(token string)
	// OnlyPending is the id of the one request that waits for its answer; 0 if there is
	// none, or more, or an answer to an abandoned request may still come.
	OnlyPending() uint64
	// Drop ends the connection. Done is closed then, and Err is the first cause.
	Drop(cause error)
	Done() <-chan struct{}
	Err() error
}

// Settings are the parts of the client's configuration that a generation uses.
type Settings struct {
	Protocol       string   // as configured
	Signers        []Signer // the first one signs in
	Application    string   // of the session key that signs in
	SessionKeyLife time.Duration
	RequestTimeout time.Duration
	FenceMargin    time.Duration

	SecondRead     time.Duration // between the two reads that "not found" and "unfunded" need
	ChallengeEvery time.Duration // the least time between two sign-ins at a legacy node
	Login          *Login
}

// Account is the account that signs in.
func (s *Settings) Account() settlement.Address { return s.Signers[0].Address() }

// Quick reports whether two reads took so little time that nothing of the first is out of
// date when the second ends.
func (s *Settings) Quick(first, second time.Duration) bool {
	return max(first, second) <= s.FenceMargin/4
}

// Traits are the constant properties of a generation.
type Traits struct {
	Protocol     string // the name of the generation, as Config.Protocol has it
	Versioned    bool   // the session's version fences requests, and nothing expires
	SignsAnswers bool
	PublicReads  bool     // a connection that only reads need not sign in
	SettleMethod string   // the method that changes a session
	Budget       Budget   // what the node lets one connection send
	Expiry       *Expiry  // nil: requests never expire
	EmptyClose   any      // params of a close that names no session; nil: closes need no sign-in
	ClockRead    Question // a read whose answer shows the node's clock
}

// Budget is what one connection may send. Zero: no limit.
type Budget struct {
	Frames    float64 // a second
	Burst     int     // frames at once, after a silence
	Bytes     int     // a second
	ByteBurst int
}

// Expiry is a harmless read whose age the node checks, and the error that it answers when
// the request is too old.
type Expiry struct {
	Method string
	Params any
	Stale  func(text string) bool
}

// Refused reads the answer: accepted, or refused for its age. An error means that it
// shows neither.
func (e *Expiry) Refused(a Answer) (bool, error) {
	if text, failed := a.ErrorText(); failed && e.Stale(text) {
		return true, nil
	}
	var result any
	return false, a.Decode(e.Method, &result)
}

// ClosedSession is a row in a list of sessions that the node shows closed.
type ClosedSession struct {
	ID     string
	Status string
	At     time.Time // zero: the node does not say
}

// Evidence is the record of an answer. The client adds the node's URL and address.
func Evidence(a Answer, protocol string) settlement.NodeAnswer {
	return settlement.NodeAnswer{Protocol: protocol, RequestID: a.ID, Response: a.Response, Signature: a.Signature}
}

// Pause waits, unless the context ends first, which it reports.
func Pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
