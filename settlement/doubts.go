package settlement

import (
	"strings"
	"sync"
	"unicode"
)

// maxDoubts bounds how many doubts a Settler remembers, and maxDoubt how long one
// is, in bytes.
const (
	maxDoubts = 1024
	maxDoubt  = 300
)

// lastDoubts are why the last requests for sessions are in doubt: what the node said last, or
// that it said nothing. They are words for the operator: nothing is decided by them, and
// another process doesn't have them. The zero value is empty.
type lastDoubts struct {
	mu   sync.Mutex
	last map[SessionID]doubt
}

type doubt struct {
	intent uint64 // ledger sequence of the intent that the request was sent for
	said   string
}

// note keeps the last doubt of an intent.
func (d *lastDoubts) note(intent *Entry, err error) {
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

// of is the last doubt of an intent, "" where there is none, or no intent.
func (d *lastDoubts) of(intent *Entry) string {
	if intent == nil {
		return ""
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if last := d.last[intent.Session]; last.intent == intent.Sequence {
		return last.said
	}
	return ""
}

// forget drops the doubt of a session that no outcome holds any more.
func (d *lastDoubts) forget(id SessionID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.last, id)
}

// printable is a text of at most so many bytes in which every character that is not
// printable is a question mark.
func printable(text string, most int) string {
	var b strings.Builder
	for _, r := range text {
		if !unicode.IsPrint(r) {
			r = '?'
		}
		if b.Len()+len(string(r)) > most {
			return b.String() + "…"
		}
		b.WriteRune(r)
	}
	return b.String()
}
