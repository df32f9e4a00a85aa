package dashboard

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"settled/settlement"
)

// maxRows is how many of the newest entries are kept as rows.
const maxRows = 2000

// model is what the board keeps of the ledger.
type model struct {
	mu      sync.RWMutex
	changed chan struct{} // closed at the next change
	memory
}

// memory is what was read of one stream.
type memory struct {
	created    time.Time // of the stream
	first      uint64    // the sequence at which reading began
	since      time.Time // when the first entry read was stored
	last       uint64    // the last sequence read
	target     uint64    // the stream's last sequence when reading began
	paused     bool      // it is not read on
	problem    string    // why the ledger can't be followed; empty: it can
	unreadable messageCount

	rows     []row // a ring; the newest is at next-1
	next     int
	counters counters
	closing  closingSessions
	index    searchIndex
}

// messageCount counts messages that are not entries.
type messageCount struct {
	Count uint64 `json:"count"`
	Last  uint64 `json:"last_sequence"`
}

func newModel() *model {
	return &model{changed: make(chan struct{}), memory: memory{closing: closingSessions{}}}
}

// startReading returns the sequence at which to read on: after the last one read, if this
// is the stream that the model knows, else from. last is the stream's last sequence.
func (m *model) startReading(created time.Time, from, last uint64) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.created.Equal(created) || m.last > last || m.last+1 < from {
		m.memory = memory{created: created, first: from, last: from - 1, closing: closingSessions{}}
	}
	m.target, m.problem, m.paused = last, "", false
	m.notifyChange()
	return m.last + 1
}

// pause records that the ledger is not read on until the next startReading.
func (m *model) pause() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.paused = true
}

// invalidate makes the next startReading begin again.
func (m *model) invalidate() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.created = time.Time{}
}

// setProblem records why the ledger can't be followed; nil: it can be again.
func (m *model) setProblem(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.problem = ""
	if err != nil {
		m.problem = err.Error()
	}
	m.notifyChange()
}

// notifyChange requires the lock.
func (m *model) notifyChange() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// add adds the next entry. stored is when the server stored it.
func (m *model) add(e settlement.Entry, stored time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.since.IsZero() {
		m.since = stored
	}
	r := newRow(e, stored)
	took, known := m.closing.apply(e, stored)
	if known {
		r.MS = max(took.Milliseconds(), 1)
	}
	m.counters.add(e, stored, took, known)
	m.index.add(e)
	if len(m.rows) < maxRows {
		m.rows = append(m.rows, r)
	} else {
		m.rows[m.next] = r
	}
	m.next = (m.next + 1) % maxRows
	m.last = e.Sequence
	m.notifyChange()
}

// addUnreadable counts a message that is not an entry.
func (m *model) addUnreadable(sequence uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unreadable.Count++
	m.unreadable.Last = sequence
	m.last = sequence
	m.notifyChange()
}

// eachRow calls f with the rows from the newest to the oldest until it returns false. It
// requires the lock.
func (m *model) eachRow(f func(row) bool) {
	for i := range m.rows {
		if !f(m.rows[(m.next-1-i+2*maxRows)%maxRows]) {
			return
		}
	}
}

// rowsAfter returns the rows after a sequence, oldest first, but only the limit newest
// ones; how many were left out; and a channel that is closed at the next change. reset
// reports that the sequence is not one of this ledger.
func (m *model) rowsAfter(sequence uint64, limit int) (rows []row, skipped uint64, reset bool, changed <-chan struct{}) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if sequence > m.last {
		return nil, 0, true, m.changed
	}
	newer, complete := 0, len(m.rows) < maxRows && sequence+1 >= m.first
	m.eachRow(func(r row) bool {
		if r.Sequence <= sequence {
			complete = true
			return false
		}
		if newer++; newer <= limit {
			rows = append(rows, r)
		}
		return true
	})
	skipped = m.last - sequence - uint64(len(rows)) // an upper bound: it includes messages that are not entries
	if complete {
		skipped = uint64(newer - len(rows)) // #nosec G115 -- newer is not less than len(rows)
	}
	slices.Reverse(rows)
	return rows, skipped, false, m.changed
}

// lastRead returns the last sequence read.
func (m *model) lastRead() uint64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.last
}

// The bounds of a row; the page of the session shows everything.
const (
	maxAllocations = 6
	maxErrorBytes  = 400
)

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

func newRow(e settlement.Entry, stored time.Time) row {
	r := row{
		Sequence: e.Sequence, Time: stored, State: e.State, Session: e.Session.Token(), Scenario: e.Scenario, Reference: e.Reference,
		Source: truncate(e.Outcome.Source, maxErrorBytes), ID: truncate(e.Outcome.ID, maxErrorBytes), Attempt: e.Attempt,
		ValidUntil: e.ValidUntil, Recovered: e.Recovered != nil && *e.Recovered, DeadLetter: e.DeadLetter,
	}
	if e.Standing != nil {
		r.Standing = e.Standing.State
	}
	if e.Error != nil {
		r.Code, r.Class, r.Error = e.Error.Code, e.Error.Class, truncate(e.Error.Message, maxErrorBytes)
	}
	for _, a := range e.Allocation {
		switch {
		case a.Amount.IsZero():
		case len(r.Allocations) < maxAllocations:
			r.Allocations = append(r.Allocations, a)
		default:
			r.More++
		}
	}
	return r
}

// truncate shortens a text to at most n bytes and an ellipsis.
func truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

// maxClosing bounds closingSessions. No more outcomes than that are in flight at once.
const maxClosing = 20_000

// closingSessions are the sessions whose last entry is an intent: their close was sent,
// or is about to be, and its result is not recorded.
type closingSessions map[settlement.SessionID]closingSession

type closingSession struct {
	Session    settlement.SessionID `json:"session_id"`
	Scenario   settlement.Scenario  `json:"scenario"`
	Reference  string               `json:"reference,omitempty"`
	Since      time.Time            `json:"since"` // when the first intent of this outcome was stored
	Attempt    int                  `json:"attempt"`
	ValidUntil *time.Time           `json:"valid_until,omitempty"`  // when the fence expires, by the node's clock
	Base       *uint64              `json:"base_version,omitempty"` // the session's version, if that is the fence
	outcome    settlement.OutcomeRef
}

// apply applies an entry. If it records a close, apply returns how long that took since
// the intent, if the intent is known.
func (c closingSessions) apply(e settlement.Entry, stored time.Time) (took time.Duration, known bool) {
	before, found := c[e.Session]
	switch {
	case e.Session == "" || e.Standing == nil:
	case e.State == settlement.EntryClosing:
		if !found && len(c) >= maxClosing {
			return 0, false
		}
		now := closingSession{
			Session: e.Session, Scenario: e.Scenario, Reference: e.Reference, Since: stored, Attempt: e.Attempt,
			ValidUntil: e.ValidUntil, Base: e.BaseVersion, outcome: e.Outcome,
		}
		if found && before.outcome.Same(e.Outcome) {
			now.Since = before.Since
		}
		c[e.Session] = now
	case e.Standing.State != settlement.Closing:
		delete(c, e.Session)
		return stored.Sub(before.Since), found && e.State == settlement.EntryClosed
	}
	return 0, false
}

// oldest returns the limit oldest of the sessions that have been closing since before t,
// and how many there are in all.
func (c closingSessions) oldest(t time.Time, limit int) (list []closingSession, count int) {
	list = []closingSession{}
	for _, s := range c {
		if s.Since.Before(t) {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b closingSession) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Session, b.Session))
	})
	return list[:min(limit, len(list))], len(list)
}
