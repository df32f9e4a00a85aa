package status

import (
	"fmt"
	"time"

	"settled/cmd/settled/internal/runbook"
	"settled/cmd/settled/internal/terminal"
	"settled/settlement"
)

// State is what became of an outcome.
type State string

// The states.
const (
	Waiting State = "waiting" // nothing is decided yet
	Closing State = "closing" // a request to close the session may take effect
	Closed  State = "closed"
	Failed  State = "failed"
	Lost    State = "lost" // its message is acknowledged, and it has no result
)

// Answer is what became of an outcome.
type Answer struct {
	State    State                   `json:"state"`
	Session  string                  `json:"session_id"` // unknown: it can't be read
	Scenario settlement.Scenario     `json:"scenario"`
	Outcome  settlement.OutcomeRef   `json:"outcome"`               // as entries have it; with the message that was asked for
	Stored   time.Time               `json:"stored"`                // when the message was stored; the year 1 if only an entry of an earlier version names the message
	Since    time.Time               `json:"since"`                 // when this state began: the time of the entry, or when a replica began to wait for this reason
	Reason   string                  `json:"reason,omitempty"`      // of waiting and closing: one of settled's reasons to wait, not_delivered or delivered
	Code     settlement.Code         `json:"code,omitempty"`        // of failed
	Message  string                  `json:"message"`               // why, in words
	Do       string                  `json:"do,omitempty"`          // what to do about it
	Next     *time.Time              `json:"next,omitempty"`        // about when it is tried again, where this replica knows it
	Until    *time.Time              `json:"until,omitempty"`       // of closing: the request can't take effect after this instant of the node's clock; absent on nitronode
	Attempt  int                     `json:"attempt,omitempty"`     // of the entry
	Entry    uint64                  `json:"entry,omitempty"`       // sequence in the ledger of the entry that says so
	Payouts  []settlement.Allocation `json:"allocations"`           // of closed: who got what; of closing: who gets what if the request takes effect
	Letter   uint64                  `json:"dead_letter,omitempty"` // of failed: sequence of its dead letter, if that is neither replayed nor discarded
	Replayed uint64                  `json:"replayed_as,omitempty"` // of failed: sequence of the message that an operator published again
	Warnings []string                `json:"warnings"`              // what the outcome states that has no effect
	Stopped  string                  `json:"stopped,omitempty"`     // of waiting and closing: why all sending is stopped
}

// add takes the next entry of a session into account, or one of no session (empty id). A
// failure that does not cover the message frees the session: the message settles the outcome
// again.
func (a *Answer) add(e settlement.Entry, id settlement.SessionID, message settlement.OutcomeRef) {
	switch {
	case !e.Outcome.Same(message), id == "" && !e.Outcome.SameMessage(message), a.State == Closed:
	case e.State == settlement.EntryFailed && !e.Outcome.Covers(message, e.Time):
		a.State = ""
	default:
		a.use(e)
	}
}

// use takes an entry of the outcome as what became of it.
func (a *Answer) use(e settlement.Entry) {
	a.Since, a.Attempt, a.Entry, a.Payouts, a.Letter, a.Until = e.Time, e.Attempt, e.Sequence, e.Allocation, e.DeadLetter, e.ValidUntil
	if a.Payouts == nil {
		a.Payouts = []settlement.Allocation{}
	}
	switch e.State {
	case settlement.EntryClosed:
		a.State, a.Message = Closed, "the session is closed, and paid as listed"
	case settlement.EntryFailed:
		a.State, a.Code, a.Message = Failed, e.Error.Code, e.Error.Message
		a.Do = runbook.Codes()[e.Error.Code].Do
	case settlement.EntryClosing:
		a.State = Closing
		a.Message = "a request to close the session may take effect while the session is at the version that it was made for"
		if a.Until != nil {
			a.Message = "a request to close the session may take effect until " + terminal.FormatTime(*a.Until)
		}
		a.Message += "; whether it did is then read from the node"
	}
}

// Text is the answer for people.
func (a Answer) Text() string {
	text := fmt.Sprintf("%s: outcome %s of %s (%s), message %d of %s", a.State, settlement.Quote(a.Outcome.ID), settlement.Quote(a.Outcome.Source), a.Scenario, a.Outcome.Sequence, a.Outcome.Stream)
	line := func(name, format string, args ...any) {
		text += fmt.Sprintf("\n%-12s %s", name, fmt.Sprintf(format, args...))
	}
	line("session", "%s", a.Session)
	if !a.Stored.IsZero() {
		line("stored", "%s", terminal.FormatTime(a.Stored))
	}
	if a.Entry > 0 {
		line("entry", "%d of the ledger, attempt %d, at %s", a.Entry, a.Attempt, terminal.FormatTime(a.Since))
	} else if !a.Since.IsZero() && !a.Since.Equal(a.Stored) {
		line("since", "%s", terminal.FormatTime(a.Since))
	}
	if a.Code != "" {
		line("code", "%s", a.Code)
	}
	if a.Reason != "" {
		line("reason", "%s", a.Reason)
	}
	line("why", "%s", a.Message)
	if a.Next != nil {
		line("next attempt", "about %s", terminal.FormatTime(*a.Next))
	}
	if len(a.Payouts) > 0 {
		name := "pays"
		if a.State == Closed {
			name = "paid"
		}
		line(name, "%s", terminal.AllocationText(a.Payouts))
	}
	if a.Stopped != "" {
		line("stopped", "%s", a.Stopped)
	}
	for _, w := range a.Warnings {
		line("warning", "%s", w)
	}
	if a.Letter > 0 {
		line("dead letter", "%d: `settled deadletter show %d`", a.Letter, a.Letter)
	}
	if a.Replayed > 0 {
		line("replayed", "as message %d: `settled status %d`", a.Replayed, a.Replayed)
	}
	if a.Do != "" {
		line("do", "%s", a.Do)
	}
	return terminal.PrintableLines(text)
}

// Progress is what a replica knows of an outcome that it returned to the stream.
type Progress struct {
	Reason string    `json:"reason"`  // of settled's reasons to wait
	Error  string    `json:"message"` // why
	Since  time.Time `json:"since"`   // when it began to wait for this reason
	Next   time.Time `json:"next"`    // about when it is tried again
}

// SetProgress adds what a replica knows of an outcome without a result.
func (a *Answer) SetProgress(p Progress) {
	a.Reason, a.Next, a.Do = p.Reason, &p.Next, ""
	if a.State == Waiting {
		a.Since, a.Message = p.Since, p.Error
	}
}
