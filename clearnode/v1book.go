package clearnode

import (
	"context"
	"sync"
	"time"

	"settled/settlement"
)

// maxBookRows bounds how many transactions are remembered, over all wallets.
const maxBookRows = 500_000

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
	ended  bool      // the last page was read
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
	return !l.ended && len(l.ids) < most*pageSize
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
		page, err := l.ask(ctx, c, n*pageSize)
		if err != nil {
			return err
		}
		if n == 0 {
			fresh.total = page.total
		}
		fresh.add(page)
		if fresh.ended || l.knows(page) || n == 0 && l.empty() {
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

// renew puts what is new before what was known. Where they don't meet, or rows that
// are counted are missing, what was known is forgotten.
func (l *v1List) renew(fresh *v1List, began time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := len(l.ids)
	meet := false
	for id := range fresh.ids {
		meet = meet || l.ids[id]
	}
	if meet && !fresh.ended {
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
		fresh.oldest, fresh.ended = l.oldest, l.ended && len(fresh.ids) >= fresh.total
	}
	l.ids, l.moves, l.oldest, l.total, l.ended, l.read = fresh.ids, fresh.moves, fresh.oldest, fresh.total, fresh.ended, began
	l.book.grew(len(l.ids) - before)
}

// deepen reads one page further back.
func (l *v1List) deepen(ctx context.Context, c *conn) error {
	if err := l.take(ctx); err != nil {
		return err
	}
	defer func() { <-l.turn }()
	l.mu.Lock()
	known := len(l.ids)
	l.mu.Unlock()
	page, err := l.ask(ctx, c, known)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.add(page)
	l.book.grew(len(l.ids) - known)
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

// add takes a page. New transactions move the others back, so that some come
// twice; and those of one instant come in any order (source), so that some may not
// come at all: that none is missing shows in their number.
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
	l.ended = len(page.ids) < pageSize
}
