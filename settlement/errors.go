package settlement

import (
	"fmt"
	"time"
)

// Class says what kind of answer a failed outcome got.
type Class string

// The classes of failure.
const (
	Rejected  Class = "rejected"  // can't settle as it is: correct the outcome or the configuration, and publish or replay
	Conflict  Class = "conflict"  // ledger or node disagrees with the outcome: a person has to decide
	Exhausted Class = "exhausted" // all allowed attempts failed: replay once the cause is removed
)

// Code says why an outcome failed. The list is part of the public contract.
type Code string

// The codes of failure.
const (
	InvalidOutcome     Code = "invalid_outcome"
	UnknownScenario    Code = "unknown_scenario"
	UntrustedOutcome   Code = "untrusted_outcome"
	NotAParticipant    Code = "not_a_participant"
	SessionNotFound    Code = "session_not_found"
	SessionUnfunded    Code = "session_unfunded"
	ExpectationFailed  Code = "expectation_failed"
	LimitExceeded      Code = "limit_exceeded"
	QuorumNotReached   Code = "quorum_not_reached"
	Unauthorized       Code = "unauthorized"
	NodeRejected       Code = "node_rejected"
	AllocationRejected Code = "allocation_rejected"
	OutcomeConflict    Code = "outcome_conflict"
	ClosedElsewhere    Code = "closed_elsewhere"
	Overpaid           Code = "overpaid"
	AttemptsExhausted  Code = "attempts_exhausted"
)

// Codes lists every code in the order of the contract.
func Codes() []Code {
	return []Code{
		InvalidOutcome, UnknownScenario, UntrustedOutcome, NotAParticipant, SessionNotFound,
		SessionUnfunded, ExpectationFailed, LimitExceeded, QuorumNotReached, Unauthorized,
		NodeRejected, AllocationRejected, OutcomeConflict, ClosedElsewhere, Overpaid, AttemptsExhausted,
	}
}

// Class is the code's class.
func (c Code) Class() Class {
	switch c {
	case OutcomeConflict, ClosedElsewhere, Overpaid:
		return Conflict
	case AttemptsExhausted:
		return Exhausted
	default:
		return Rejected
	}
}

// Failure is the permanent end of an outcome: it can't be settled as it is. The caller
// stores a dead letter and a failed entry, then terminates the message. As an answer of
// Node.Send it means that the node definitely refused the request and always would.
type Failure struct {
	Code    Code   `json:"code"`    // why
	Message string `json:"message"` // what exactly is wrong, for people
	Class   Class  `json:"class"`   // what an operator can do
}

// Fail returns a Failure with its message formatted.
func Fail(code Code, format string, args ...any) *Failure {
	return &Failure{Code: code, Class: code.Class(), Message: fmt.Sprintf(format, args...)}
}

func (f *Failure) Error() string { return string(f.Code) + ": " + f.Message }

// Failed is the error of Settle once the failed entry of an outcome is stored: the caller
// terminates the message. Duplicate is true if an earlier delivery of the same message had
// already stored it.
type Failed struct {
	Failure
	Duplicate bool
}

func (f *Failed) Error() string { return f.Failure.Error() }

// Reason is why an outcome waits. It has few values, so that it can be a metric's label.
type Reason string

// The reasons to wait.
const (
	NodeUnavailable       Reason = "node_away"       // no connection, or no answer
	ReadFailed            Reason = "read_failed"     // the node answered, and this session could not be read
	InDoubt               Reason = "in_doubt"        // a request of ours may still take effect
	LedgerUnavailable     Reason = "ledger_away"     // the ledger can't be read or written
	LedgerHeld            Reason = "ledger_held"     // the ledger lost entries; sending pauses until every lost intent has expired
	NotReady              Reason = "not_ready"       // a close can't be prepared or sent now, for example because settled is not signed in or the message expiry is not verified
	NodeTransient         Reason = "node_transient"  // the node definitely refused, for a reason that may pass
	DeadLetterUnavailable Reason = "letter_away"     // the dead letter can't be stored
	EscrowPending         Reason = "escrow_pending"  // a pending escrow of a participant at the node blocks the close
	UnknownRefusal        Reason = "unknown_refusal" // the node refused a request that stays valid with an error that settled does not know: sent again after the backoff
	NodeRefused           Reason = "node_refused"    // node or co-signer refuses the recorded plan's next request, which stays valid: the outcome fails only once the session has moved on
	CosignersUnavailable  Reason = "cosigners_away"  // too few co-signatures came in time
	Stopped               Reason = "stopped"         // all sending is stopped until a person resumes it, or it is not known whether it is
)

// Waiting means that nothing is decided yet. The caller returns the message with a delay and
// never counts it as an attempt.
type Waiting struct {
	Reason Reason
	// Delay is how long to wait if the reason itself says so (a fence that expires at a
	// known instant); 0 leaves it to the caller's backoff.
	Delay time.Duration
	// Until is when the fence expires, on the node's clock; zero if there is none.
	Until time.Time
	Err   error
}

func (w *Waiting) Error() string {
	msg := "waiting (" + string(w.Reason) + ")"
	if !w.Until.IsZero() {
		msg += " until " + w.Until.UTC().Format(time.RFC3339)
	}
	if w.Err != nil {
		msg += ": " + w.Err.Error()
	}
	return msg
}

func (w *Waiting) Unwrap() error { return w.Err }
