package dashboard

import (
	"net/http"

	"settled/settlement"
)

// The bounds of a page of results.
const (
	maxPageRows = 200
	maxScanned  = 1000 // entries of the ledger that one request reads
)

// feedPage is a page of results, newest first.
type feedPage struct {
	Entries []row  `json:"entries"`
	Next    uint64 `json:"next"` // before= of the next page; 0: there is none
}

// feedQuery selects the entries of a page.
type feedQuery struct {
	state  settlement.EntryState // empty: every
	before uint64
	limit  int
}

// anyResult selects closed and failed.
const anyResult settlement.EntryState = "result"

func (q feedQuery) wants(state settlement.EntryState) bool {
	return q.state == "" || q.state == state || q.state == anyResult && state != settlement.EntryClosing
}

func (b *Board) parseFeedQuery(r *http.Request) (q feedQuery, err error) {
	newest := b.model.lastRead() + 1
	q = feedQuery{state: settlement.EntryState(r.URL.Query().Get("state"))}
	switch q.state {
	case "", anyResult, settlement.EntryClosing, settlement.EntryClosed, settlement.EntryFailed:
	default:
		return q, apiError{http.StatusBadRequest, "state: want result, closing, closed or failed"}
	}
	if q.before, err = queryNumber(r, "before", newest); err != nil {
		return q, err
	}
	limit, err := queryNumber(r, "limit", 50)
	q.before, q.limit = min(q.before, newest), int(min(max(limit, 1), maxPageRows)) // #nosec G115 -- at most maxPageRows
	return q, err
}

// settlements returns a page of the feed: the entries with the state state= and a sequence
// below before=. Entries that the model no longer has are read from the ledger.
func (b *Board) settlements(r *http.Request) (any, error) {
	q, err := b.parseFeedQuery(r)
	if err != nil {
		return nil, err
	}
	page, before := b.model.page(q)
	for scanned := 0; len(page.Entries) < q.limit && before > 1 && scanned < maxScanned; scanned += maxPageRows {
		older, err := b.reader.readBefore(r.Context(), before, maxPageRows)
		if err != nil {
			return nil, err
		}
		before = max(before, maxPageRows+1) - maxPageRows
		for _, s := range older {
			if s.Err == nil && q.wants(s.Entry.State) {
				page.Entries = append(page.Entries, newRow(s.Entry, s.Time))
			}
			if len(page.Entries) == q.limit {
				before = s.Sequence
				break
			}
		}
	}
	if before > 1 {
		page.Next = before
	}
	return page, nil
}

// page returns the matching rows of the model, and the sequence at which the next page
// begins.
func (m *model) page(q feedQuery) (p feedPage, before uint64) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	p.Entries, before = []row{}, q.before
	m.eachRow(func(r row) bool {
		if r.Sequence >= q.before {
			return true
		}
		before = r.Sequence
		if q.wants(r.State) {
			p.Entries = append(p.Entries, r)
		}
		return len(p.Entries) < q.limit
	})
	return p, before
}
