package dashboard

import (
	"strings"

	"settled/settlement"
)

// How far back references and ids are remembered: so many outcomes, and so many
// bytes of them.
const (
	mostIndexed  = 20_000
	indexedBytes = 8 << 20
)

// index finds sessions by what publishers call them: a queue, the oldest first.
type index struct {
	queue []indexed
	bytes int
}

// indexed is one outcome's result.
type indexed struct {
	session  settlement.SessionID
	sequence uint64 // in the ledger
	state    settlement.EntryState
	key      string // reference, NUL, outcome id, in lower case
	refLen   int
}

// add takes an entry's reference and id. An intent and its result are two.
func (x *index) add(e settlement.Entry) {
	if e.State == settlement.EntryClosing {
		return
	}
	reference, id := strings.ToLower(cut(e.Reference, mostError)), strings.ToLower(cut(e.Outcome.ID, mostError))
	one := indexed{session: e.Session, sequence: e.Sequence, state: e.State, key: reference + "\x00" + id, refLen: len(reference)}
	x.queue = append(x.queue, one)
	x.bytes += len(one.key)
	drop := 0
	for len(x.queue)-drop > mostIndexed || x.bytes > indexedBytes {
		x.bytes -= len(x.queue[drop].key)
		drop++
	}
	x.queue = x.queue[drop:] // append moves the rest to new memory now and then
}

// match is a session that a search found, and by what.
type match struct {
	Session  settlement.SessionID  `json:"session_id"`
	Sequence uint64                `json:"sequence"`
	State    settlement.EntryState `json:"state"`
	By       string                `json:"by"` // session, reference or outcome
	Text     string                `json:"text"`
}

// find are the newest results whose reference, outcome id or session (from its
// beginning) matches, one for each session, at most so many.
func (x *index) find(text string, most int) []match {
	text = strings.ToLower(text)
	found, seen := []match{}, map[settlement.SessionID]bool{}
	for i := len(x.queue) - 1; i >= 0 && len(found) < most; i-- {
		one := &x.queue[i]
		m := match{Session: one.session, Sequence: one.sequence, State: one.state}
		at := strings.Index(one.key, text)
		switch {
		case len(text) >= 4 && strings.HasPrefix(strings.TrimPrefix(string(one.session), "0x"), strings.TrimPrefix(text, "0x")):
			m.By, m.Text = "session", string(one.session)
		case at < 0:
			continue
		case at < one.refLen:
			m.By, m.Text = "reference", one.key[:one.refLen]
		default:
			m.By, m.Text = "outcome", one.key[one.refLen+1:]
		}
		if one.session != "" && seen[one.session] {
			continue
		}
		seen[one.session] = true
		found = append(found, m)
	}
	return found
}
