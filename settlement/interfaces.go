package settlement

import (
	"context"
	"errors"
	"slices"
	"time"
)

// Node is the ClearNode as settlement needs it.
type Node interface {
	// Session reads the session. It reports ErrSessionNotFound, or a session with nothing
	// in it, only after a second read a second later. With InDoubt it reads the session
	// twice if requests expire, and sets ConfirmedStable. A *Failure inside the error means
	// that this session can never be read. Any other error means that nothing is known: the
	// caller waits.
	Session(ctx context.Context, id SessionID, options ReadOptions) (Session, error)

	// Prepare builds and signs the next request on the way to the session closed as
	// planned, with everything in it fixed, and says until when it can take effect. At
	// a versioned node that is a state update to version s.Version+1 if s.Current differs
	// from the plan, else the close at s.Version+1; at any other node it is the close. The
	// outcome supplies only what goes along with the plan: session data, signatures, and
	// what co-signers are shown. A *Failure means that no such request can ever be made;
	// any other error means wait.
	Prepare(ctx context.Context, o Outcome, plan Plan, s Session) (Request, error)

	// Send sends that request once. Nil: the node executed it and, if the request says
	// Closes, the session is closed by it. *Refused: proof that this send changed nothing,
	// with a *Failure inside if it never would; a request without ValidUntil nevertheless
	// stays valid while the session's version stays the same. A *Waiting inside *Refused
	// means that the refusal is not about the outcome, and why it passes. Any other error:
	// the request may have taken effect, or still take effect until its ValidUntil;
	// a *Waiting inside gives a reason to wait instead of InDoubt if no ValidUntil bounds
	// the doubt.
	Send(ctx context.Context, r Request) (Answer, error)
}

// ReadOptions says what a read is for.
type ReadOptions struct {
	InDoubt bool // a request of ours may have taken effect: the session is read twice
	Version bool // the session's version is needed, whatever it costs to find
	Funding bool // who funded the session is needed, whatever it costs to find
}

// ReadOptions returns what this policy needs to read of an outcome's session. The zero
// Policy needs nothing.
func (p Policy) ReadOptions(o Outcome) ReadOptions {
	return ReadOptions{
		Version: o.Expect != nil && o.Expect.Version != nil,
		Funding: slices.ContainsFunc(p.rules, func(r rule) bool { return r.payee == toFunders }),
	}
}

// Request is one signed request.
type Request struct {
	Ref        RequestRef
	ValidUntil time.Time // on the node's clock; zero: it does not expire, the session's version is its fence
	Closes     bool      // a successful answer means that the session is closed; false: a state update before the close
	Frame      []byte    // the signed frame: never logged, never stored
}

// Answer is the node's answer to a request that it executed.
type Answer struct {
	Version  uint64 // of the session after the request
	Evidence NodeAnswer
}

// Permits limits how many requests are recorded and sent at the same time. It is how many
// are in doubt at most after a crash.
type Permits interface {
	// Acquire waits for a permit. It returns how long that took, and the function that gives
	// the permit back. An error means that there was none in time, or that ctx ended.
	Acquire(ctx context.Context) (release func(), waited time.Duration, err error)
}

// ErrSessionNotFound means that two reads in a row found no such session at the node.
var ErrSessionNotFound = errors.New("the node has no such session")

// Refused is proof that sending a request changed nothing and, if the request expires,
// that it never will.
type Refused struct{ Err error }

func (r *Refused) Error() string { return "refused: " + r.Err.Error() }

// Unwrap returns the node's error.
func (r *Refused) Unwrap() error { return r.Err }

// Ledger is the record of what was decided and done.
type Ledger interface {
	// Head returns the session's entries, read from the stream's leader.
	Head(ctx context.Context, id SessionID) (Head, error)
	// Append stores an entry if the head is still the session's last. It returns the new
	// head, with the entry as stored; ErrHeadMoved if another entry was stored first; any
	// other error if it is not known whether the entry is stored.
	Append(ctx context.Context, head Head, e Entry) (Head, error)
}

// ErrHeadMoved means that the session has a newer entry than the head: decide again.
var ErrHeadMoved = errors.New("the session has a newer ledger entry")

// DeadLetters keeps what operators replay.
type DeadLetters interface {
	// Store keeps the outcome's message with its failure, and returns its sequence. The
	// same message may be stored again without harm.
	Store(ctx context.Context, o Outcome, f Failure, attempts int) (uint64, error)
}

// EmergencyStop stops all sending, on every replica, until a person resumes it. An
// implementation may also report other reasons not to send, such as streams whose settings
// became unsafe.
type EmergencyStop interface {
	// Stopped returns nil if requests may be recorded and sent now. Any error means that
	// they may not: it says who stopped sending, when and why, or that this is not known.
	// A *Waiting among the errors says what else is waited for.
	Stopped(ctx context.Context) error

	// Stop stops every replica because of what the outcome's session showed. It returns
	// nil once the stop is recorded, or if it was recorded before and a person has resumed
	// since, knowing of it. An error means that it is not known to be recorded; this
	// replica stops nevertheless.
	Stop(ctx context.Context, o Outcome, f Failure) error
}
