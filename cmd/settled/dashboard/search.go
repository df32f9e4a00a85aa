package dashboard

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"settled/settlement"
)

// The bounds of a search and its index.
const (
	maxMatches    = 30
	maxQueryBytes = 300
	maxIndexed    = 20_000 // results
	maxIndexBytes = 8 << 20
)

// searchPage is the result of a search, newest first.
type searchPage struct {
	Query    string    `json:"query"`
	Matches  []match   `json:"matches"`
	Searched int       `json:"searched"` // results whose reference and id were compared
	Since    time.Time `json:"since"`    // older results were not
}

// match is a session that a search found.
type match struct {
	Session  settlement.SessionID  `json:"session_id"`
	Sequence uint64                `json:"sequence"`
	State    settlement.EntryState `json:"state"`
	By       string                `json:"by"` // session, reference or outcome
	Text     string                `json:"text"`
}

// search finds sessions by session id, reference or outcome id. A complete session id is
// found at any age, everything else among the newest results.
func (b *Board) search(r *http.Request) (any, error) {
	text := strings.TrimSpace(r.URL.Query().Get("q"))
	if text == "" || len(text) > maxQueryBytes {
		return nil, apiError{http.StatusBadRequest, "q: want a session id, a reference or an outcome id, of at most " + strconv.Itoa(maxQueryBytes) + " bytes"}
	}
	b.model.mu.RLock()
	page := searchPage{Query: text, Matches: b.model.index.search(text, maxMatches), Searched: len(b.model.index.queue), Since: b.model.since}
	b.model.mu.RUnlock()
	id, err := settlement.ParseSessionID(text)
	if err != nil || len(page.Matches) > 0 {
		return page, nil
	}
	history, err := b.reader.readSession(r.Context(), id, 0)
	if err != nil {
		return nil, err
	}
	for _, s := range history.entries {
		page.Matches = append(page.Matches, match{Session: id, Sequence: s.Sequence, State: s.Entry.State, By: "session", Text: string(id)})
	}
	return page, nil
}

// searchIndex is a queue of the newest results, the oldest first.
type searchIndex struct {
	queue []indexedResult
	bytes int
}

type indexedResult struct {
	session  settlement.SessionID
	sequence uint64 // in the ledger
	state    settlement.EntryState
	key      string // reference, NUL, outcome id, in lower case
	refLen   int
}

// add adds an entry, unless it is an intent, which its result follows.
func (x *searchIndex) add(e settlement.Entry) {
	if e.State == settlement.EntryClosing {
		return
	}
	reference, id := strings.ToLower(truncate(e.Reference, maxErrorBytes)), strings.ToLower(truncate(e.Outcome.ID, maxErrorBytes))
	r := indexedResult{session: e.Session, sequence: e.Sequence, state: e.State, key: reference + "\x00" + id, refLen: len(reference)}
	x.queue = append(x.queue, r)
	x.bytes += len(r.key)
	drop := 0
	for len(x.queue)-drop > maxIndexed || x.bytes > maxIndexBytes {
		x.bytes -= len(x.queue[drop].key)
		drop++
	}
	x.queue = x.queue[drop:] // append moves the rest to new memory from time to time
}

// search returns the limit newest results whose reference or outcome id contains the text,
// or whose session id begins with it; one for each session.
func (x *searchIndex) search(text string, limit int) []match {
	text = strings.ToLower(text)
	found, seen := []match{}, map[settlement.SessionID]bool{}
	for i := len(x.queue) - 1; i >= 0 && len(found) < limit; i-- {
		r := &x.queue[i]
		m := match{Session: r.session, Sequence: r.sequence, State: r.state}
		at := strings.Index(r.key, text)
		switch {
		case len(text) >= 4 && strings.HasPrefix(strings.TrimPrefix(string(r.session), "0x"), strings.TrimPrefix(text, "0x")):
			m.By, m.Text = "session", string(r.session)
		case at < 0:
			continue
		case at < r.refLen:
			m.By, m.Text = "reference", r.key[:r.refLen]
		default:
			m.By, m.Text = "outcome", r.key[r.refLen+1:]
		}
		if r.session != "" && seen[r.session] {
			continue
		}
		seen[r.session] = true
		found = append(found, m)
	}
	return found
}
