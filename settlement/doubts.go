package settlement

import (
	"strings"
	"sync"
	"unicode"
)

const (
	maxDoubts = 1024 // sessions that a Settler keeps the last doubt of
	maxDoubt  = 300  // bytes of one doubt
)

// lastDoubts keeps why the last request for a session is in doubt: the node's last error
// text, or that it did not answer. The texts are for the operator. Nothing is decided by
// them, and another process doesn't have them. The zero value is empty.
type lastDoubts struct {
	mu   sync.Mutex
	last map[SessionID]doubt
}

type doubt struct {
	intent uint64 // ledger sequence of the intent that the request was sent for
	reason string
}

// record keeps the last doubt of an intent, and drops another if there are too many.
func (d *lastDoubts) record(intent *Entry, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.last == nil {
		d.last = map[SessionID]doubt{}
	}
	for other := range d.last {
		if len(d.last) < maxDoubts {
			break
		}
		delete(d.last, other)
	}
	d.last[intent.Session] = doubt{intent.Sequence, printable(err.Error(), maxDoubt)}
}

// of returns the last doubt of an intent; "" if there is none, or intent is nil.
func (d *lastDoubts) of(intent *Entry) string {
	if intent == nil {
		return ""
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if last := d.last[intent.Session]; last.intent == intent.Sequence {
		return last.reason
	}
	return ""
}

// forget drops the doubt of a session that no outcome holds any more.
func (d *lastDoubts) forget(id SessionID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.last, id)
}

// printable returns at most limit bytes of text, with a question mark for every character
// that is not printable.
func printable(text string, limit int) string {
	var b strings.Builder
	for _, r := range text {
		if !unicode.IsPrint(r) {
			r = '?'
		}
		if b.Len()+len(string(r)) > limit {
			return b.String() + "…"
		}
		b.WriteRune(r)
	}
	return b.String()
}
