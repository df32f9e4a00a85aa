package clearnode

import (
	"context"
	"sync"
	"time"

	"settled/settlement"
)

const (
	// maxBookRows bounds how many transactions are remembered, over all wallets.
	maxBookRows = 500_000
	// maxSweeps is how often a list is read to its end before the rows that are
	// still missing count as not to be had.
	maxSweeps = 3
	// nextPage is less than a page: those of one instant come in any order (source),
	// so that around the end of a page one could be missed.
	nextPage = pageSize - 10
)

// v1Book remembers wallets' transactions. The node tells them by wallet only, those
// of all its sessions together, newest first, a hundred at a time, and lets ten
// questions a second through; rows are only ever added. So each list is read once,
// and then only what is new in it: a house with ten thousand sessions costs no more
// questions than its sessions do.
type v1Book struct {
	mu    sync.Mutex
	lists map[v1ListOf]*v1List
	rows  int
}

type v1ListOf struct {
	wallet string
	kind   uint8
}

func (b *v1Book) list(wallet string, kind uint8) *v1List {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lists == nil || b.rows > maxBookRows {
		b.lists, b.rows = map[v1ListOf]*v1List{}, 0
	}
	of := v1ListOf{wallet, kind}
	if b.lists[of] == nil {
		b.lists[of] = &v1List{book: b, wallet: wallet, kind: kind, turn: make(chan struct{}, 1)}
	}
	return b.lists[of]
}

func (b *v1Book) grew(rows int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rows += rows
}

// v1List is a wallet's transactions of one type: the newest of them, without a gap,
// as far back as they were read.
type v1List struct {
	book   *v1Book
	wallet string
	kind   uint8
	turn   chan struct{} // held by who reads on; the others wait and look again

	mu     sync.Mutex
	ids    map[string]bool
	moves  map[settlement.SessionID][]v1Move
	oldest time.Time
	total  int       // how many there were when the newest page was read
	offset int       // of the next page further back
	sweeps int       // how often the end was reached with rows missing
	ended  bool      // the end was reached, and there is no more to be had
	read   time.Time // when the last reading of the newest page began
}

// of are the moves between the wallet and a session, newest first.
func (l *v1List) of(id settlement.SessionID) []v1Move {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.moves[id]
}

// whole: the list was read to its end, and as many rows are here as there are.
func (l *v1List) whole() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ended && len(l.ids) >= l.total
}

// behind reports whether there is more to read, within so many pages.
func (l *v1List) behind(most int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.ended && l.offset < most*nextPage
}

// gapped: the list was read to its end, more than once, and rows are missing.
func (l *v1List) gapped() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ended && len(l.ids) < l.total
}

// reaches: the newest page was read since an instant, and the list goes back
// beyond another.
func (l *v1List) reaches(since, back time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.read.After(since) && l.oldest.Before(back)
}

// freshen reads what is new, unless somebody did since an instant. Where that is
// more than so many pages, what lies behind it is forgotten.
func (l *v1List) freshen(ctx context.Context, c *conn, since time.Time, most int) error {
	if err := l.take(ctx); err != nil {
		return err
	}
	defer func() { <-l.turn }()
	if l.readSince(since) {
		return nil
	}
	began, fresh := time.Now(), &v1List{}
	for n := range most {
		page, err := l.ask(ctx, c, n*nextPage)
		if err != nil {
			return err
		}
		if n == 0 {
			fresh.total = page.total
		}
		fresh.add(page)
		if page.last() || l.knows(page) || n == 0 && l.empty() {
			break
		}
	}
	l.renew(fresh, began)
	return nil
}

// take waits for the turn to read on.
func (l *v1List) take(ctx context.Context) error {
	select {
	case l.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (l *v1List) readSince(since time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.read.After(since)
}

func (l *v1List) empty() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.ids) == 0
}

func (l *v1List) knows(page v1Page) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range page.ids {
		if l.ids[id] {
			return true
		}
	}
	return false
}

// renew puts what is new before what was known. Where they don't meet, what was
// known is forgotten.
func (l *v1List) renew(fresh *v1List, began time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := len(l.ids)
	meet := false
	for id := range fresh.ids {
		meet = meet || l.ids[id]
	}
	if meet {
		for session, moves := range l.moves {
			for _, m := range moves {
				if !fresh.ids[m.id] {
					fresh.moves[session] = append(fresh.moves[session], m)
				}
			}
		}
		for id := range l.ids {
			fresh.ids[id] = true
		}
		fresh.oldest, fresh.ended, fresh.sweeps = l.oldest, l.ended, l.sweeps
		fresh.offset = l.offset + len(fresh.ids) - before
	}
	fresh.ended = fresh.ended || len(fresh.ids) >= fresh.total
	l.ids, l.moves, l.oldest, l.read = fresh.ids, fresh.moves, fresh.oldest, began
	l.total, l.offset, l.sweeps, l.ended = fresh.total, fresh.offset, fresh.sweeps, fresh.ended
	l.book.grew(len(l.ids) - before)
}

// deepen reads one page further back.
func (l *v1List) deepen(ctx context.Context, c *conn) error {
	if err := l.take(ctx); err != nil {
		return err
	}
	defer func() { <-l.turn }()
	l.mu.Lock()
	known, offset := len(l.ids), l.offset
	l.mu.Unlock()
	page, err := l.ask(ctx, c, offset)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.add(page)
	l.book.grew(len(l.ids) - known)
	l.sweep(page)
	return nil
}

func (l *v1List) ask(ctx context.Context, c *conn, offset int) (page v1Page, err error) {
	params := v1TransactionsOf{l.wallet, l.kind, v1Pagination{offset, pageSize}}
	err = c.questions(ctx, question{v1Transactions, params, func(a answer) (err error) {
		page, err = readV1Transactions(a, l.wallet, l.kind)
		return err
	}})
	return page, err
}

// sweep begins at the newest page again where the end is reached and rows are
// missing: where many are of one instant they come in another order every time.
func (l *v1List) sweep(page v1Page) {
	switch {
	case len(l.ids) >= l.total:
		l.ended = true
	case !page.last():
	case l.sweeps+1 < maxSweeps:
		l.sweeps, l.offset = l.sweeps+1, 0
	default:
		l.ended = true
	}
}

// last reports whether no page comes after this one.
func (p v1Page) last() bool { return len(p.ids) < pageSize }

// add takes a page. New transactions move the others back, so that some come
// twice; that none is missing shows in their number.
func (l *v1List) add(page v1Page) {
	if l.ids == nil {
		l.ids, l.moves = map[string]bool{}, map[settlement.SessionID][]v1Move{}
	}
	for _, m := range page.moves {
		if !l.ids[m.id] {
			l.moves[m.session] = append(l.moves[m.session], m)
		}
	}
	for _, id := range page.ids {
		l.ids[id] = true
	}
	if len(page.ids) > 0 {
		l.oldest = page.oldest
	}
	l.offset += nextPage
}
