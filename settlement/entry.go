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
	Source   string        `json:"source,omitempty"` // of the outcome that holds the session; absent if it is free
	ID       string        `json:"id,omitempty"`     // of that outcome
	Digest   string        `json:"digest,omitempty"` // of that outcome's data
	Sequence uint64        `json:"sequence"`         // of the entry that set the state; 0: this entry did, or there was none
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
	ID        uint64 `json:"id"`        // of the request at the node
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

	Session    SessionID    `json:"session_id"`            // the app session; "unknown" if the outcome names no readable one
	Scenario   Scenario     `json:"scenario"`              // of the outcome; empty if its subject has no valid one
	Reference  string       `json:"reference,omitempty"`   // as the outcome has it
	Reason     string       `json:"reason,omitempty"`      // as the outcome has it
	Evidence   []string     `json:"evidence,omitempty"`    // as the outcome has it
	Outcome    OutcomeRef   `json:"outcome"`               // the outcome, and the message that carried it
	Standing   *Standing    `json:"standing,omitempty"`    // the session's state after this entry; absent only if the session is unknown
	Attempt    int          `json:"attempt"`               // closing entries of the outcome since its last failure, this one included
	AttemptID  string       `json:"attempt_id"`            // 16 random bytes in lower-case hex, different in every entry
	Previous   *string      `json:"previous,omitempty"`    // SHA-256 of the stored payload of the session's previous entry, empty in the first; absent only if the session is unknown
	Policy     *PolicyRef   `json:"policy,omitempty"`      // the policy that the allocations were made by
	Allocation []Allocation `json:"allocations,omitempty"` // what each participant gets of each asset, also if it is 0

	Request     *RequestRef `json:"request,omitempty"`      // what is about to be sent
	ValidUntil  *time.Time  `json:"valid_until,omitempty"`  // until then, on the node's clock, the request may take effect; absent if the session's version invalidates it
	BaseVersion *uint64     `json:"base_version,omitempty"` // the session's version from which the allocations were made

	SessionVersion *uint64     `json:"session_version,omitempty"` // after the close
	Node           *NodeAnswer `json:"node,omitempty"`            // the node's answer, as evidence
	Recovered      *bool       `json:"recovered,omitempty"`       // whether the session was found closed at the node, instead of the close being answered

	Error      *Failure `json:"error,omitempty"`
	DeadLetter uint64   `json:"dead_letter,omitempty"` // sequence in the stream of dead letters
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
