package ledger

import (
	"container/list"
	"errors"
	"sync"

	"settled/settlement"
)

const (
	// worthIt is how many entries a history must have to be remembered: ordinary
	// sessions have two to four, which are read again in no time.
	worthIt = 9
	// mostRemembered bounds what all remembered histories weigh together, in bytes.
	mostRemembered = 64 << 20
	// entryWeight and allocationWeight are what they weigh beside their longer texts.
	entryWeight, allocationWeight = 1 << 10, 1 << 8
)

// errUnlike says that a session's entries don't follow on what was remembered of it.
var errUnlike = errors.New("the entries don't follow on those that were read before")

// memory keeps long histories that were read and held to their hashes. A session
// that many outcomes name would otherwise be read from its first entry on for each
// of them. It is no second truth: the head is always read from the leader, its
// hash chain names every byte before it, and only what that chain names is used.
type memory struct {
	mu     sync.Mutex
	of     map[settlement.SessionID]*list.Element
	order  list.List // of *remembered, the last used at the front
	weight int
	most   int // weight of all
}

// remembered is a session's history up to one of its entries. Its entries are
// shared by all who read them; more are only added behind them.
type remembered struct {
	session settlement.SessionID
	entries []settlement.Entry
	digest  string // of the last one's payload
	weight  int
}

// Remembered is about how many bytes of memory the remembered histories take, and at
// most how many.
func (l *Ledger) Remembered() (bytes, most int) {
	l.memory.mu.Lock()
	defer l.memory.mu.Unlock()
	return l.memory.weight, l.memory.most
}

// n is how many entries there are.
func (r remembered) n() uint64 { return uint64(len(r.entries)) }

// last is the sequence of the last entry; 0 without one.
func (r remembered) last() uint64 {
	if len(r.entries) == 0 {
		return 0
	}
	return r.entries[len(r.entries)-1].Sequence
}

// upTo is what is remembered before or at a head; nothing where that is more than
// the head knows of.
func (m *memory) upTo(head settlement.Head) remembered {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := m.of[head.Session]
	if at == nil {
		return remembered{session: head.Session}
	}
	r := *at.Value.(*remembered)
	if r.n() > head.N() || r.last() > head.Sequence() {
		return remembered{session: head.Session}
	}
	m.order.MoveToFront(at)
	return r
}

// add puts entries behind what upTo answered, and returns all of them. Where
// somebody else did so meanwhile, that is kept.
func (m *memory) add(known remembered, links []link) []settlement.Entry {
	r := known
	r.weight += weigh(links)
	m.mu.Lock()
	defer m.mu.Unlock()
	mayGrow := m.isLast(known)
	if !mayGrow {
		r.entries = r.entries[:known.n():known.n()]
	}
	for _, k := range links {
		r.entries, r.digest = append(r.entries, k.Entry), k.digest
	}
	if mayGrow && r.n() >= worthIt && r.weight <= m.most {
		m.keep(&r)
	}
	return r.entries[:r.n():r.n()]
}

// isLast reports whether this is what is remembered now, so that nobody else has
// put anything behind it, nor will.
func (m *memory) isLast(known remembered) bool {
	at := m.of[known.session]
	if at == nil || known.n() == 0 {
		return at == nil && known.n() == 0
	}
	now := at.Value.(*remembered)
	return now.n() == known.n() && &now.entries[0] == &known.entries[0]
}

// weigh guesses how much memory entries take.
func weigh(links []link) (weight int) {
	for _, k := range links {
		e := k.Entry
		weight += entryWeight + len(e.Outcome.Source) + len(e.Outcome.ID) + len(e.Reference) + allocationWeight*len(e.Allocation)
		if e.Error != nil {
			weight += len(e.Error.Message)
		}
		if e.Node != nil {
			weight += len(e.Node.Response)
		}
	}
	return weight
}

// keep remembers a history in place of an earlier part of it, and forgets those that
// were used the longest time ago where all are too much.
func (m *memory) keep(r *remembered) {
	m.drop(r.session)
	if m.of == nil {
		m.of = map[settlement.SessionID]*list.Element{}
	}
	m.of[r.session] = m.order.PushFront(r)
	m.weight += r.weight
	for m.weight > m.most {
		m.drop(m.order.Back().Value.(*remembered).session)
	}
}

// forget drops what is remembered of a session.
func (m *memory) forget(id settlement.SessionID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drop(id)
}

func (m *memory) drop(id settlement.SessionID) {
	at := m.of[id]
	if at == nil {
		return
	}
	m.weight -= at.Value.(*remembered).weight
	m.order.Remove(at)
	delete(m.of, id)
}
