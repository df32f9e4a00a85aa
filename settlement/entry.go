package settlement

import (
	"fmt"
	"time"
)

// EntryState is the kind of a ledger entry: the second token of its subject.
type EntryState string

// The kinds of entry.
const (
	EntryClosing EntryState = "closing" // a request is about to be sent: write-ahead intent
	EntryClosed  EntryState = "closed"  // the session is closed at the node, paid as planned
	EntryFailed  EntryState = "failed"  // one outcome ended without settling
)

// StandingState is the state of a session.
type StandingState string

// The states of a session.
const (
	Free    StandingState = "free"
	Closing StandingState = "closing"
	Closed  StandingState = "closed"
)

// Standing is a session's state after an entry: which outcome holds it, and the ledger
// sequence of the entry that says so. Sequence is 0 in that entry itself, whose sequence is
// not known before it is stored; Head.Standing fills it in.
type Standing struct {
	State    StandingState `json:"state"`
	Source   string        `json:"source,omitempty"`
	ID       string        `json:"id,omitempty"`
	Digest   string        `json:"digest,omitempty"`
	Sequence uint64        `json:"sequence"`
}

// Standing returns the standing that a closing or closed entry of the outcome sets.
func (r OutcomeRef) Standing(state StandingState) Standing {
	return Standing{State: state, Source: r.Source, ID: r.ID, Digest: r.Digest}
}

// Identity returns the identity of the outcome that the standing names, without its type;
// zero if no outcome holds the session.
func (s Standing) Identity() Identity {
	return Identity{Source: s.Source, ID: s.ID, Digest: s.Digest}
}

// RequestRef identifies a signed request without being one.
type RequestRef struct {
	ID        uint64 `json:"id"`
	Timestamp uint64 `json:"timestamp"` // milliseconds, on the node's clock, as in the signed bytes
	Digest    string `json:"digest"`    // SHA-256 over the signed bytes, lower-case hex
}

// Entry is one entry of the ledger: the data of a settlement event. The members without a
// JSON name are in the event's envelope or result from the append.
type Entry struct {
	State       EntryState `json:"-"`
	Sequence    uint64     `json:"-"` // in the ledger's stream
	N           uint64     `json:"-"` // 1-based index among the entries of its session
	Time        time.Time  `json:"-"` // of the append
	Traceparent string     `json:"-"`

	Session    SessionID    `json:"session_id"`
	Scenario   Scenario     `json:"scenario"`
	Reference  string       `json:"reference,omitempty"`
	Reason     string       `json:"reason,omitempty"`
	Evidence   []string     `json:"evidence,omitempty"`
	Outcome    OutcomeRef   `json:"outcome"`
	Standing   *Standing    `json:"standing,omitempty"` // nil only if the session is unknown
	Attempt    int          `json:"attempt"`
	AttemptID  string       `json:"attempt_id"`
	Previous   *string      `json:"previous,omitempty"` // nil only if the session is unknown
	Policy     *PolicyRef   `json:"policy,omitempty"`
	Allocation []Allocation `json:"allocations,omitempty"`

	Request     *RequestRef `json:"request,omitempty"`
	ValidUntil  *time.Time  `json:"valid_until,omitempty"`
	BaseVersion *uint64     `json:"base_version,omitempty"`

	SessionVersion *uint64     `json:"session_version,omitempty"`
	Node           *NodeAnswer `json:"node,omitempty"`
	Recovered      *bool       `json:"recovered,omitempty"`

	Error      *Failure `json:"error,omitempty"`
	DeadLetter uint64   `json:"dead_letter,omitempty"`
}

// Head is the last entry of a session, as the stream's leader has it. Last is nil if the
// session has no entry.
type Head struct {
	Session SessionID
	Last    *Entry
	Digest  string // SHA-256 over the payload of Last as stored, lower-case hex; "" without one

	// Tail is the sequence of the last message on the session's subjects if that is not
	// Last but a foreign message, which decides nothing. 0: Last is the last message.
	Tail uint64
	// Entries are the session's entries up to Last, oldest first, in a Head that was read;
	// nil in one that an append returned. They are shared: do not modify them.
	Entries []Entry
}

// LastSequence is the sequence that an append must find as the last on the session's
// subjects; 0 if they have no message.
func (h Head) LastSequence() uint64 { return max(h.Tail, h.Sequence()) }

// Sequence is the sequence of the session's last entry; 0 without an entry.
func (h Head) Sequence() uint64 {
	if h.Last == nil {
		return 0
	}
	return h.Last.Sequence
}

// N is the number of entries the session has.
func (h Head) N() uint64 {
	if h.Last == nil {
		return 0
	}
	return h.Last.N
}

// Standing is the session's state, with the sequence of the entry that says so.
func (h Head) Standing() Standing {
	if h.Last == nil || h.Last.Standing == nil {
		return Standing{State: Free}
	}
	st := *h.Last.Standing
	// A failed entry without a closing entry before it repeats "free" of a session that no
	// outcome has held: no entry says so, and the sequence stays 0.
	if st.Sequence == 0 && (st.State != Free || h.Last.Attempt > 0) {
		st.Sequence = h.Last.Sequence
	}
	return st
}

// HeldBy reports whether the outcome holds the session, or has settled it. If the entry that
// says so is among Entries, the outcome's type is compared as well.
func (h Head) HeldBy(o OutcomeRef) bool {
	st := h.Standing()
	if st.State == Free {
		return false
	}
	for _, e := range h.Entries {
		if e.Sequence == st.Sequence {
			return e.Outcome.Same(o)
		}
	}
	if h.Last.Sequence == st.Sequence {
		return h.Last.Outcome.Same(o)
	}
	return st.Identity() == o.Identity().Untyped()
}

// entry starts an entry of an outcome with what all kinds have in common.
func (o Outcome) entry(state EntryState, attempt int) Entry {
	e := Entry{
		State: state, Session: o.Session, Scenario: o.Scenario, Outcome: o.Ref, Attempt: attempt,
		Reference: o.Reference, Reason: o.Reason, Traceparent: o.Envelope.Traceparent,
	}
	if state != EntryClosing {
		e.Evidence = o.Evidence
	}
	return e
}

// history is what a session's entries say of one outcome.
type history struct {
	closed   *Entry  // its closed entry
	failed   []Entry // its failed entries, oldest first
	ended    *Entry  // the last of them that is the result of this message too
	recorded []Entry // its closing entries, oldest first
	attempts int     // closing entries since its last failed one
	holder   *Entry  // the entry the standing points to, of whichever outcome
	intent   *Entry  // holder, where it is a closing entry of this outcome
}

// history extracts an outcome's history from the session's entries.
func (h Head) history(o OutcomeRef) (history, error) {
	var hist history
	st := h.Standing()
	for i := range h.Entries {
		e := &h.Entries[i]
		if st.State != Free && e.Sequence == st.Sequence {
			hist.holder = e
		}
		if !e.Outcome.Same(o) {
			continue
		}
		switch e.State {
		case EntryClosing:
			hist.recorded = append(hist.recorded, *e)
			hist.attempts++
		case EntryClosed:
			hist.closed = e
		case EntryFailed:
			hist.attempts = 0
			hist.failed = append(hist.failed, *e)
			if e.Outcome.Covers(o, e.Time) && !(hist.ended != nil && hist.ended.Outcome.SameMessage(o)) {
				hist.ended = e
			}
		}
	}
	if st.State == Closing && hist.holder != nil && hist.holder.Outcome.Same(o) {
		hist.intent = hist.holder
	}
	if st.State != Free && hist.holder == nil {
		return history{}, fmt.Errorf("entry %d, by which the session is %s, can't be read: the ledger is incomplete; run settled ledger verify", st.Sequence, st.State)
	}
	return hist, nil
}
