package ledger

import (
	"encoding/binary"
	"math/bits"

	"settled/settlement"
)

// The bounds of what an audit of the whole stream remembers, whatever the ledger's size:
// about 160 bytes for each closed session and 500 for each other one, and one to two bytes
// for each session that was forgotten.
const (
	maxOpenAudits   = 1 << 16 // sessions that are not closed
	maxClosedAudits = 1 << 18 // closed sessions in each of two generations
	maxFilterBits   = 1 << 29
)

// auditMemory is what an audit remembers of the sessions that it has met, by the key of the
// session. When there are too many it forgets those that were not met for long. A session
// that was forgotten is read again from the stream when it is met again.
type auditMemory struct {
	open       map[[16]byte]*sessionAudit
	young, old map[[16]byte]closedAudit
	most       auditLimits
	forgotten  keyFilter
}

// auditLimits are maxOpenAudits and maxClosedAudits, or less in tests.
type auditLimits struct{ open, closed int }

// newAuditMemory returns an empty memory for a ledger with that number of messages.
func newAuditMemory(messages uint64, most auditLimits) *auditMemory {
	return &auditMemory{
		open: map[[16]byte]*sessionAudit{}, young: map[[16]byte]closedAudit{}, old: map[[16]byte]closedAudit{}, most: most,
		forgotten: keyFilter{size: min(max(bits.Len64(messages)+3, 10), bits.Len(maxFilterBits-1))},
	}
}

// get returns what is known of a session; nil: it was not met, or it was forgotten.
func (m *auditMemory) get(key [16]byte) *sessionAudit {
	if c := m.open[key]; c != nil {
		return c
	}
	c, met := m.young[key]
	if !met {
		c, met = m.old[key]
	}
	if !met {
		return nil
	}
	return c.unpack()
}

// put stores what is known of a session after one of its messages.
func (m *auditMemory) put(key [16]byte, c *sessionAudit) {
	packed, ok := c.pack()
	if !ok {
		if m.open[key] == nil {
			m.makeRoomForOpen()
			m.open[key] = c
		}
		delete(m.young, key)
		delete(m.old, key)
		return
	}
	delete(m.open, key)
	delete(m.old, key)
	m.young[key] = packed
	if len(m.young) <= m.most.closed {
		return
	}
	for key := range m.old {
		m.forgotten.add(key)
	}
	clear(m.old)
	m.young, m.old = m.old, m.young
}

// makeRoomForOpen forgets half of the open sessions, whichever, when there are too many.
func (m *auditMemory) makeRoomForOpen() {
	if len(m.open) < m.most.open {
		return
	}
	for key := range m.open {
		if len(m.open) <= m.most.open/2 {
			return
		}
		m.forgotten.add(key)
		delete(m.open, key)
	}
}

// mayBeForgotten reports whether a session that get does not return may have been met. It
// is false for every session that was not forgotten, but for about one in a hundred.
func (m *auditMemory) mayBeForgotten(key [16]byte) bool { return m.forgotten.mayHave(key) }

// closedAudit is a sessionAudit of a closed session in less memory.
type closedAudit struct {
	n               uint64
	sequence        uint64 // of the entry that closed it
	last            hash
	outcome, full   shortHash
	attempts        uint32
	attemptsUnknown bool
}

// pack returns ok if nothing of the state is lost.
func (c *sessionAudit) pack() (_ closedAudit, ok bool) {
	if c.standing.state != settlement.Closed || c.unreadable || c.branch != nil || c.plans != nil || c.current != nil || uint64(c.attempts)>>32 != 0 { // #nosec G115 -- a negative number is refused too
		return closedAudit{}, false
	}
	st := c.standing
	return closedAudit{c.n, st.sequence, c.last, st.outcome, st.full, uint32(c.attempts), c.attemptsUnknown}, true // #nosec G115 -- checked above
}

func (p closedAudit) unpack() *sessionAudit {
	return &sessionAudit{
		n: p.n, last: p.last, attempts: int(p.attempts), attemptsUnknown: p.attemptsUnknown,
		standing: auditedStanding{state: settlement.Closed, outcome: p.outcome, full: p.full, sequence: p.sequence},
	}
}

// keyFilter is a Bloom filter over keys that are parts of a hash.
type keyFilter struct {
	size int // log2 of the number of bits
	bits []uint64
}

// filterHashes is the number of bits that a key sets. With four, one in four hundred keys
// that were not added is taken for one at sixteen bits a key, one in forty at eight.
const filterHashes = 4

func (f *keyFilter) add(key [16]byte) {
	if f.bits == nil {
		f.bits = make([]uint64, max(1<<f.size/64, 1))
	}
	for i := range uint64(filterHashes) {
		at := f.at(key, i)
		f.bits[at/64] |= 1 << (at % 64)
	}
}

func (f *keyFilter) mayHave(key [16]byte) bool {
	if f.bits == nil {
		return false
	}
	for i := range uint64(filterHashes) {
		if at := f.at(key, i); f.bits[at/64]&(1<<(at%64)) == 0 {
			return false
		}
	}
	return true
}

func (f *keyFilter) at(key [16]byte, i uint64) uint64 {
	first, second := binary.BigEndian.Uint64(key[:8]), binary.BigEndian.Uint64(key[8:])|1
	return (first + i*second) >> (64 - f.size)
}
