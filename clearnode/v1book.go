package clearnode

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"settled/settlement"
)

const (
	// maxBookRows bounds how many transactions are remembered, over all wallets.
	maxBookRows = 500_000
	// nextPage is less than a page: those of one instant come in any order (source),
	// so that around the end of a page one could be missed.
	nextPage = pageSize - 10
	// maxSweeps is how often a list is read to its end before rows that are still
	// missing make it an error.
	maxSweeps = 3
)

// maxListRows bounds how far back a wallet's transactions are looked at. What lies
// further back is forgotten as well: what a session is taken to be must not depend
// on how long a process has run.
var maxListRows = 100 * nextPage // only tests change it

// errGap says that a list can't be read: rows that are counted don't come.
var errGap = errors.New("some of the transactions don't come: looking again later")

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
	rows   []v1Entry // newest first
	ids    map[string]bool
	moves  map[settlement.SessionID][]v1Move
	total  int       // how many there were when the newest page was read
	offset int       // of the next page further back
	sweeps int       // how often the end was reached with rows missing
	read   time.Time // when the last reading of the newest page began
}

// of are the moves between the wallet and a session, newest first.
func (l *v1List) of(id settlement.SessionID) []v1Move {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.moves[id]
}

// whole: as many rows are here as there are.
func (l *v1List) whole() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.read.IsZero() && len(l.rows) >= l.total
}

// bounded: it was read as far back as it is looked at.
func (l *v1List) bounded() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.offset >= maxListRows
}

// behind reports whether there is more to read, within the bound.
func (l *v1List) behind() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.rows) < l.total && l.offset < maxListRows
}

// reaches: the newest page was read since an instant, and the list goes back
// beyond another.
func (l *v1List) reaches(since, back time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.read.After(since) && len(l.rows) > 0 && l.rows[len(l.rows)-1].at.Before(back)
}

// freshen reads what is new, unless somebody did since an instant. Where that is
// more than the bound, what lies behind it is forgotten.
func (l *v1List) freshen(ctx context.Context, c *conn, since time.Time) error {
	if err := l.take(ctx); err != nil {
		return err
	}
	defer func() { <-l.turn }()
	if l.readSince(since) {
		return nil
	}
	began, fresh := time.Now(), &v1List{}
	for fresh.offset < maxListRows {
		page, err := l.ask(ctx, c, fresh.offset)
		if err != nil {
			return err
		}
		if fresh.offset == 0 {
			fresh.total = page.total
		}
		fresh.add(page)
		if page.last() || l.knows(page) || l.empty() {
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
	return len(l.rows) == 0
}

func (l *v1List) knows(page v1Page) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(page.rows, func(r v1Entry) bool { return l.ids[r.id] })
}

// renew puts what is new before what was known. Where they don't meet, what was
// known is forgotten.
func (l *v1List) renew(fresh *v1List, began time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := len(l.rows)
	if slices.ContainsFunc(fresh.rows, func(r v1Entry) bool { return l.ids[r.id] }) {
		fresh.add(v1Page{rows: l.rows})
		fresh.offset, fresh.sweeps = l.offset+len(fresh.rows)-before, l.sweeps
	}
	l.rows, l.ids, l.moves = fresh.rows, fresh.ids, fresh.moves
	l.total, l.offset, l.sweeps, l.read = fresh.total, fresh.offset, fresh.sweeps, began
	l.trim()
	l.book.grew(len(l.rows) - before)
}

// trim forgets what lies beyond the bound.
func (l *v1List) trim() {
	for len(l.rows) > maxListRows {
		last := l.rows[len(l.rows)-1]
		l.rows = l.rows[:len(l.rows)-1]
		delete(l.ids, last.id)
		if last.move != nil {
			of := slices.DeleteFunc(slices.Clone(l.moves[last.move.session]), func(m v1Move) bool { return m.id == last.id })
			l.moves[last.move.session] = of
		}
	}
}

// deepen reads one page further back.
func (l *v1List) deepen(ctx context.Context, c *conn) error {
	if err := l.take(ctx); err != nil {
		return err
	}
	defer func() { <-l.turn }()
	l.mu.Lock()
	known, offset := len(l.rows), l.offset
	l.mu.Unlock()
	page, err := l.ask(ctx, c, offset)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.add(page)
	l.trim()
	err = l.sweep(page)
	l.book.grew(len(l.rows) - known)
	return err
}

// sweep begins at the newest page again where the end is reached and rows are
// missing: where many are of one instant they come in another order every time. In
// the end the list is forgotten, to be read anew.
func (l *v1List) sweep(page v1Page) error {
	if len(l.rows) >= l.total || !page.last() {
		return nil
	}
	if l.sweeps++; l.sweeps < maxSweeps {
		l.offset = 0
		return nil
	}
	l.rows, l.ids, l.moves, l.total, l.offset, l.sweeps, l.read = nil, nil, nil, 0, 0, 0, time.Time{}
	return fmt.Errorf("of %s: %w", l.wallet, errGap)
}

func (l *v1List) ask(ctx context.Context, c *conn, offset int) (page v1Page, err error) {
	params := v1TransactionsOf{l.wallet, l.kind, v1Pagination{offset, pageSize}}
	err = c.questions(ctx, question{v1Transactions, params, func(a answer) (err error) {
		page, err = readV1Transactions(a, l.wallet, l.kind)
		return err
	}})
	return page, err
}

// add takes a page. New transactions move the others back, so that some come
// twice; that none is missing shows in their number.
func (l *v1List) add(page v1Page) {
	if l.ids == nil {
		l.ids, l.moves = map[string]bool{}, map[settlement.SessionID][]v1Move{}
	}
	for _, r := range page.rows {
		if l.ids[r.id] {
			continue
		}
		l.ids[r.id] = true
		l.rows = append(l.rows, r)
		if r.move != nil {
			l.moves[r.move.session] = append(l.moves[r.move.session], *r.move)
		}
	}
	l.offset += nextPage
}
