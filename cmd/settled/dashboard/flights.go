package dashboard

import (
	"cmp"
	"slices"
	"time"

	"settled/settlement"
)

// mostFlights is how many sessions being closed are remembered; there are at most
// as many as outcomes may wait at once.
const mostFlights = 20_000

// flights are the sessions that a closing entry holds: their request is under way,
// or in doubt.
type flights map[settlement.SessionID]flight

// flight is one session being closed.
type flight struct {
	Session    settlement.SessionID `json:"session_id"`
	Scenario   settlement.Scenario  `json:"scenario"`
	Reference  string               `json:"reference,omitempty"`
	Since      time.Time            `json:"since"` // when the first intent of this outcome was stored
	Attempt    int                  `json:"attempt"`
	ValidUntil *time.Time           `json:"valid_until,omitempty"`  // when the fence falls, on the node's clock
	Base       *uint64              `json:"base_version,omitempty"` // the version that is the fence instead
	outcome    settlement.OutcomeRef
}

// note takes an entry, and says how long its session was being closed where it is
// closed by it.
func (f flights) note(e settlement.Entry, at time.Time) (took time.Duration, known bool) {
	was, there := f[e.Session]
	switch {
	case e.Session == "" || e.Standing == nil:
	case e.State == settlement.EntryClosing:
		if !there && len(f) >= mostFlights {
			return 0, false
		}
		now := flight{Session: e.Session, Scenario: e.Scenario, Reference: e.Reference, Since: at, Attempt: e.Attempt, ValidUntil: e.ValidUntil, Base: e.BaseVersion, outcome: e.Outcome}
		if there && was.outcome.Same(e.Outcome) {
			now.Since = was.Since
		}
		f[e.Session] = now
	case e.Standing.State != settlement.Closing:
		delete(f, e.Session)
		return at.Sub(was.Since), there && e.State == settlement.EntryClosed
	}
	return 0, false
}

// oldest are those that began before a time, the oldest first, at most so many; and
// how many there are.
func (f flights) oldest(before time.Time, most int) (list []flight, count int) {
	list = []flight{}
	for _, one := range f {
		if one.Since.Before(before) {
			list = append(list, one)
		}
	}
	slices.SortFunc(list, func(a, b flight) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Session, b.Session))
	})
	return list[:min(most, len(list))], len(list)
}
