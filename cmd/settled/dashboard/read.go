package dashboard

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"settled/ledger"
	"settled/settlement"
)

// The bounds of answers.
const (
	mostRows    = 200  // of a page of the feed
	mostScanned = 1000 // entries that a page of older ones looks at
	mostEntries = 200  // of a session's page, and the last one
	mostMatches = 30   // of a search
	mostQuery   = 300  // bytes of what is searched for
)

// feedPage is a page of results, newest first.
type feedPage struct {
	Entries []row  `json:"entries"`
	Next    uint64 `json:"next"` // before= of the next page; 0: there is none
}

// feedAsked is what a page of the feed shall have.
type feedAsked struct {
	state  settlement.EntryState // empty: every
	before uint64
	limit  int
}

// anyResult asks for closed and failed.
const anyResult settlement.EntryState = "result"

func (q feedAsked) wants(state settlement.EntryState) bool {
	return q.state == "" || q.state == state || q.state == anyResult && state != settlement.EntryClosing
}

func (b *Board) feedAsked(r *http.Request) (q feedAsked, err error) {
	newest := b.model.lastRead() + 1
	q = feedAsked{state: settlement.EntryState(r.URL.Query().Get("state"))}
	switch q.state {
	case "", anyResult, settlement.EntryClosing, settlement.EntryClosed, settlement.EntryFailed:
	default:
		return q, problem{http.StatusBadRequest, "state: want result, closing, closed or failed"}
	}
	if q.before, err = number(r, "before", newest); err != nil {
		return q, err
	}
	limit, err := number(r, "limit", 50)
	q.before, q.limit = min(q.before, newest), int(min(max(limit, 1), mostRows)) // #nosec G115 -- at most mostRows
	return q, err
}

// settlements answers a page of the feed: below the sequence before=, only those
// of state=. Entries that are not remembered are read from the ledger.
func (b *Board) settlements(r *http.Request) (any, error) {
	q, err := b.feedAsked(r)
	if err != nil {
		return nil, err
	}
	page, below := b.model.page(q)
	for scanned := 0; len(page.Entries) < q.limit && below > 1 && scanned < mostScanned; scanned += mostRows {
		older, err := b.src.below(r.Context(), below, mostRows)
		if err != nil {
			return nil, err
		}
		below = page.take(older, q, max(below, mostRows+1)-mostRows)
	}
	if below > 1 {
		page.Next = below
	}
	return page, nil
}

// take adds what was asked for, and returns the sequence below which the next page
// begins: end, where all fit.
func (p *feedPage) take(entries []ledger.Stored, q feedAsked, end uint64) uint64 {
	for _, s := range entries {
		if s.Err == nil && q.wants(s.Entry.State) {
			p.Entries = append(p.Entries, rowOf(s.Entry, s.Time))
		}
		if len(p.Entries) == q.limit {
			return s.Sequence
		}
	}
	return end
}

// page are the remembered rows, and the sequence below which the next page begins.
func (m *model) page(q feedAsked) (p feedPage, below uint64) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	p.Entries, below = []row{}, q.before
	m.newest(func(r row) bool {
		if r.Sequence >= q.before {
			return true
		}
		below = r.Sequence
		if q.wants(r.State) {
			p.Entries = append(p.Entries, r)
		}
		return len(p.Entries) < q.limit
	})
	return p, below
}

func number(r *http.Request, name string, missing uint64) (uint64, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return missing, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, problem{http.StatusBadRequest, name + ": want a whole number"}
	}
	return n, nil
}

// sessionPage is everything recorded of a session.
type sessionPage struct {
	Session  string               `json:"session_id"`
	Standing *settlement.Standing `json:"standing"` // nil without an entry
	Entries  []entryView          `json:"entries"`  // oldest first
	Whole    bool                 `json:"whole"`    // no entry is left out
	Foreign  unread               `json:"foreign"`  // messages on its subjects that are not entries, and have no effect
	Chain    string               `json:"chain"`    // empty: each entry carries the hash of the one before it; else what doesn't fit
}

type entryView struct {
	Sequence uint64    `json:"sequence"`
	Time     time.Time `json:"time"`
	State    string    `json:"state"`
	Raw      string    `json:"raw"` // the event as stored, but for its white space
	Problem  string    `json:"problem,omitempty"`
}

func (b *Board) session(r *http.Request) (any, error) {
	id, err := sessionOf(r.PathValue("id"))
	if err != nil {
		return nil, problem{http.StatusBadRequest, err.Error()}
	}
	found, err := b.src.session(r.Context(), id, mostEntries)
	if err != nil {
		return nil, err
	}
	entries := found.entries
	if len(entries) == 0 {
		return nil, problem{http.StatusNotFound, "the ledger has no entry of this session: no outcome of it has come to a result yet"}
	}
	page := sessionPage{Session: id.Token(), Whole: found.whole, Foreign: found.foreign, Entries: []entryView{}}
	for _, s := range entries {
		page.Entries = append(page.Entries, viewOf(s))
	}
	if id != "" {
		page.Chain = chain(entries, found.whole)
		last := entries[len(entries)-1]
		standing := settlement.Head{Session: id, Last: &last.Entry}.Standing()
		page.Standing = &standing
	}
	return page, nil
}

func sessionOf(text string) (settlement.SessionID, error) {
	if text == settlement.UnknownSession {
		return "", nil
	}
	return settlement.ParseSessionID(text)
}

func viewOf(s ledger.Stored) entryView {
	v := entryView{Sequence: s.Sequence, Time: s.Time, State: string(s.Entry.State)}
	if s.Err != nil {
		v.Problem = s.Err.Error()
		tokens := strings.Split(s.Subject, ".")
		v.State = tokens[max(len(tokens)-2, 0)]
	}
	var pretty bytes.Buffer
	if json.Indent(&pretty, s.Payload, "", "  ") == nil {
		v.Raw = strings.ToValidUTF8(pretty.String(), "\uFFFD")
	} else {
		v.Raw = strings.ToValidUTF8(string(s.Payload), "\uFFFD")
	}
	return v
}

// chain says where an entry doesn't carry the hash of the one before it.
func chain(entries []ledger.Stored, whole bool) string {
	previous := ""
	for i, s := range entries {
		if i == len(entries)-1 && !whole {
			break // entries are left out before the last one
		}
		if s.Err != nil || s.Entry.Previous == nil || *s.Entry.Previous != previous {
			return "entry " + strconv.FormatUint(s.Sequence, 10) + " does not carry the hash of the entry before it: run settled ledger verify"
		}
		sum := sha256.Sum256(s.Payload)
		previous = hex.EncodeToString(sum[:])
	}
	return ""
}

// searchPage is what a search found, newest first.
type searchPage struct {
	Query    string    `json:"query"`
	Matches  []match   `json:"matches"`
	Searched int       `json:"searched"` // results whose names were looked at
	Since    time.Time `json:"since"`    // older ones were not
}

// search finds sessions by id, reference or outcome id. A whole session id is found
// however old it is, the others among the newest results.
func (b *Board) search(r *http.Request) (any, error) {
	text := strings.TrimSpace(r.URL.Query().Get("q"))
	if text == "" || len(text) > mostQuery {
		return nil, problem{http.StatusBadRequest, "q: want a session id, a reference or an outcome id, of at most " + strconv.Itoa(mostQuery) + " bytes"}
	}
	b.model.mu.RLock()
	page := searchPage{Query: text, Matches: b.model.index.find(text, mostMatches), Searched: len(b.model.index.queue), Since: b.model.since}
	b.model.mu.RUnlock()
	id, err := settlement.ParseSessionID(text)
	if err != nil || len(page.Matches) > 0 {
		return page, nil
	}
	found, err := b.src.session(r.Context(), id, 0)
	if err != nil {
		return nil, err
	}
	for _, s := range found.entries {
		page.Matches = append(page.Matches, match{Session: id, Sequence: s.Sequence, State: s.Entry.State, By: "session", Text: string(id)})
	}
	return page, nil
}
