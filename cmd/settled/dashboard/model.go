package dashboard

import (
	"sync"
	"time"

	"settled/settlement"
)

// recent is how many of the newest entries are kept as rows.
const recent = 2000

// model is what the board remembers of the ledger, and who waits for its changes.
type model struct {
	mu      sync.RWMutex
	changed chan struct{} // closed at the next change
	memory
}

// memory is read from one stream, from one sequence on.
type memory struct {
	created time.Time // of the stream
	first   uint64    // the sequence it was read from
	since   time.Time // the time of the first entry read
	last    uint64    // the last sequence read
	target  uint64    // the stream's last sequence when reading began
	problem string    // why the ledger can't be followed; empty: it is
	broke   unread

	rows    []row // a ring: the newest at next-1
	next    int
	slots   slots
	flights flights
	index   index
}

// unread counts messages that are not entries, or can't be read as such.
type unread struct {
	Count uint64 `json:"count"`
	Last  uint64 `json:"last_sequence"`
}

func newModel() *model {
	return &model{changed: make(chan struct{}), memory: memory{flights: flights{}}}
}

// begin says which stream is read and from where on, and returns that: where it
// left off, if it is the stream it knows.
func (m *model) begin(created time.Time, from, last uint64) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.created.Equal(created) || m.last > last || m.last+1 < from {
		m.memory = memory{created: created, first: from, last: from - 1, flights: flights{}}
	}
	m.target, m.problem = last, ""
	m.wake()
	return m.last + 1
}

// forget has the next begin read everything again.
func (m *model) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.created = time.Time{}
}

// broken takes note of why the ledger can't be followed; nil: it can be again.
func (m *model) broken(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.problem = ""
	if err != nil {
		m.problem = err.Error()
	}
	m.wake()
}

// wake tells whoever waits for a change.
func (m *model) wake() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// add takes the next entry. stored is the server's time of it.
func (m *model) add(e settlement.Entry, stored time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.since.IsZero() {
		m.since = stored
	}
	r := rowOf(e, stored)
	took, known := m.flights.note(e, stored)
	if known {
		r.MS = max(took.Milliseconds(), 1)
	}
	m.slots.count(e, stored, took, known)
	m.index.add(e)
	if len(m.rows) < recent {
		m.rows = append(m.rows, r)
	} else {
		m.rows[m.next] = r
	}
	m.next = (m.next + 1) % recent
	m.last = e.Sequence
	m.wake()
}

// skip takes note of a message that is not an entry, or can't be read.
func (m *model) skip(sequence uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.broke.Count++
	m.broke.Last = sequence
	m.last = sequence
	m.wake()
}

// newest calls f with rows from the newest to the oldest until it answers false.
// The lock must be held.
func (m *model) newest(f func(row) bool) {
	for i := range m.rows {
		if !f(m.rows[(m.next-1-i+2*recent)%recent]) {
			return
		}
	}
}

// after are the rows after a sequence, oldest first, at most so many of the newest;
// how many were left out; and what is closed at the next change. reset says that
// the sequence is not of this ledger.
func (m *model) after(sequence uint64, most int) (rows []row, skipped uint64, reset bool, changed <-chan struct{}) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if sequence > m.last {
		return nil, 0, true, m.changed
	}
	newer, all := 0, len(m.rows) < recent && sequence+1 >= m.first
	m.newest(func(r row) bool {
		if r.Sequence <= sequence {
			all = true
			return false
		}
		if newer++; newer <= most {
			rows = append(rows, r)
		}
		return true
	})
	skipped = m.last - sequence - uint64(len(rows)) // at most: messages that are not entries are among them
	if all {
		skipped = uint64(newer - len(rows)) // #nosec G115 -- not below 0
	}
	for i, j := 0, len(rows)-1; i < j; i, j = i+1, j-1 {
		rows[i], rows[j] = rows[j], rows[i]
	}
	return rows, skipped, false, m.changed
}

// lastRead is the last sequence read.
func (m *model) lastRead() uint64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.last
}
