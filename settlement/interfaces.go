package settlement

import (
	"context"
	"errors"
	"time"
)

// Node is the ClearNode as settlement needs it.
type Node interface {
	// Session reads the session. "Not found" (ErrSessionNotFound) and a session
	// with nothing in it are answered only after a second read a second later.
	// With InDoubt a session is read twice where requests expire, and Quiet says
	// whether that went well. A *Failure inside the error means that this session can never
	// be read. Any other error means that nothing is known: the caller waits.
	Session(ctx context.Context, id SessionID, options ReadOptions) (Session, error)

	// Prepare builds and signs the one request that comes next on the way to the
	// session closed as planned, everything in it fixed, and says until when it
	// can land. At a versioned node that is a state update to version s.Version+1
	// where s.Current differs from the plan, else the close at s.Version+1; at
	// any other it is the close. The outcome is only for what goes along with
	// the plan: session data, signatures that came with it, and what co-signers
	// are told. A *Failure means that no such request can ever be made; any
	// other error means wait.
	Prepare(ctx context.Context, o Outcome, plan Plan, s Session) (Request, error)

	// Send sends that request once. Nil: the node carried it out, and where the
	// request says Closes, the session is closed by it. *Refused: proof that
	// this send changed nothing, by a *Failure inside where it never would; a
	// request without ValidUntil stays good all the same while the session's
	// version stands. A *Waiting inside says that the refusal is not about the
	// outcome, and why it passes. Any other error: it may have landed, or still
	// land until the request's ValidUntil; a *Waiting inside gives a reason to
	// wait in place of InDoubt where no ValidUntil bounds the doubt.
	Send(ctx context.Context, r Request) (Answer, error)
}

// ReadOptions says what a read is for.
type ReadOptions struct {
	InDoubt bool // a request of ours may have landed: the session is read twice
	Version bool // the session's version is needed, whatever it costs to find
	Funding bool // who funded the session is needed, whatever it costs to find
}

// Request is one signed request.
type Request struct {
	Ref        RequestRef
	ValidUntil time.Time // on the node's clock; zero: nothing expires it, the session's version fences it
	Closes     bool      // answered well, the session is closed by it; false: a state update that comes before the close
	Frame      []byte    // the signed frame: never logged, never stored
}

// Answer is the node's answer to a request that it carried out.
type Answer struct {
	Version  uint64 // of the session after the request
	Evidence NodeAnswer
}

// ErrSessionNotFound says that the node has no such session, seen twice.
var ErrSessionNotFound = errors.New("the node has no such session")

// Refused is proof that sending a request changed nothing; and, where the request
// expires, that it never will.
type Refused struct{ Err error }

func (r *Refused) Error() string { return "refused: " + r.Err.Error() }

func (r *Refused) Unwrap() error { return r.Err }

// Ledger is what was decided and done, entry by entry.
type Ledger interface {
	// Head is the session's last entry, read from the leader.
	Head(ctx context.Context, id SessionID) (Head, error)
	// History is every entry of the session up to the head, oldest first.
	History(ctx context.Context, head Head) ([]Entry, error)
	// Append stores an entry if the head is still the session's last. It returns
	// the new head, with the entry as stored; ErrHeadMoved where another entry came
	// first; any other error where it is not known to be stored.
	Append(ctx context.Context, head Head, e Entry) (Head, error)
}

// ErrHeadMoved says that the session has a newer entry than the head: decide again.
var ErrHeadMoved = errors.New("the session has a newer ledger entry")

// DeadLetters keeps what operators replay.
type DeadLetters interface {
	// Store keeps the outcome's message with its failure, and returns its
	// sequence. Storing the same message's letter again is harmless.
	Store(ctx context.Context, o Outcome, f Failure, attempts int) (uint64, error)
}
