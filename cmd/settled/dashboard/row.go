package dashboard

import (
	"strings"
	"time"

	"settled/settlement"
)

// mostPaid is how many allocations a row shows; the session's page has all.
const mostPaid = 6

// mostError is how much of an error's message a row has, in bytes.
const mostError = 400

// row is one entry of the ledger as the feed shows it.
type row struct {
	Sequence    uint64                   `json:"sequence"`
	Time        time.Time                `json:"time"` // when the server stored it
	State       settlement.EntryState    `json:"state"`
	Session     string                   `json:"session_id"`
	Scenario    settlement.Scenario      `json:"scenario"`
	Reference   string                   `json:"reference,omitempty"`
	Source      string                   `json:"source"`
	ID          string                   `json:"id"`
	Attempt     int                      `json:"attempt"`
	Standing    settlement.StandingState `json:"standing,omitempty"`
	Allocations []settlement.Allocation  `json:"allocations,omitempty"` // those above 0
	More        int                      `json:"more,omitempty"`        // allocations above 0 that are left out
	ValidUntil  *time.Time               `json:"valid_until,omitempty"`
	Recovered   bool                     `json:"recovered,omitempty"`
	Code        settlement.Code          `json:"code,omitempty"`
	Class       settlement.Class         `json:"class,omitempty"`
	Error       string                   `json:"error,omitempty"`
	DeadLetter  uint64                   `json:"dead_letter,omitempty"`
	MS          int64                    `json:"ms,omitempty"` // of closed: milliseconds since the intent
}

func rowOf(e settlement.Entry, stored time.Time) row {
	r := row{
		Sequence: e.Sequence, Time: stored, State: e.State, Session: e.Session.Token(), Scenario: e.Scenario,
		Reference: e.Reference, Source: cut(e.Outcome.Source, mostError), ID: cut(e.Outcome.ID, mostError), Attempt: e.Attempt,
		ValidUntil: e.ValidUntil, Recovered: e.Recovered != nil && *e.Recovered, DeadLetter: e.DeadLetter,
	}
	if e.Standing != nil {
		r.Standing = e.Standing.State
	}
	if e.Error != nil {
		r.Code, r.Class, r.Error = e.Error.Code, e.Error.Class, cut(e.Error.Message, mostError)
	}
	for _, a := range e.Allocation {
		switch {
		case a.Amount.IsZero():
		case len(r.Allocations) < mostPaid:
			r.Allocations = append(r.Allocations, a)
		default:
			r.More++
		}
	}
	return r
}

// cut is at most n bytes of a text, and an ellipsis where it is longer.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}
