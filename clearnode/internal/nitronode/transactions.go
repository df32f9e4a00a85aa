package nitronode

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"settled/clearnode/internal/protocol"
	"settled/settlement"
)

const (
	// maxCachedRows bounds how many transactions are cached, over all wallets.
	maxCachedRows = 500_000
	// pageStep is less than a page: rows of one instant come in any order (source), so
	// that one could be missed at the end of a page.
	pageStep = protocol.PageSize - 10
	// maxSweeps is how often a list is read to its end before rows that are still missing
	// make it an error.
	maxSweeps = 3
)

// MaxListRows bounds how far back a wallet's transactions are read. What lies further back
// is forgotten as well: what a session is taken to be must not depend on how long a process
// has run.
var MaxListRows = 100 * pageStep // only tests change it

// errGap says that a list can't be read: rows that are counted don't come.
var errGap = errors.New("some of the transactions don't come; it will be read again")

// transactionCache caches wallets' transactions. The node lists them by wallet only, those
// of all its sessions together, newest first, a hundred at a time, and accepts ten requests
// a second; rows are only ever added. So each list is read once, and then only what is new
// in it: an account with ten thousand sessions costs no more requests than its sessions do.
type transactionCache struct {
	mu    sync.Mutex
	lists map[listKey]*walletList
	rows  int
}

type listKey struct {
	wallet string
	kind   transactionType
}

func (c *transactionCache) list(wallet string, kind transactionType) *walletList {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lists == nil || c.rows > maxCachedRows {
		c.lists, c.rows = map[listKey]*walletList{}, 0
	}
	key := listKey{wallet, kind}
	if c.lists[key] == nil {
		c.lists[key] = &walletList{cache: c, listKey: key, turn: make(chan struct{}, 1)}
	}
	return c.lists[key]
}

func (c *transactionCache) addRows(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rows += n
}

// walletList is a wallet's transactions of one type: the newest of them, without a gap, as
// far back as they were read.
type walletList struct {
	listKey
	cache *transactionCache
	turn  chan struct{} // held by whoever reads on

	mu sync.Mutex
	listRows
}

// listRows is the contents of a walletList.
type listRows struct {
	rows      []transaction // newest first
	ids       map[string]bool
	bySession map[settlement.SessionID][]movement
	total     int       // how many there were when the newest page was read
	offset    int       // of the next page further back
	sweeps    int       // how often the end was reached with rows missing
	readAt    time.Time // when the last read of the newest page began
}

// listState is how far a list was read.
type listState struct {
	rows, total, offset int
	oldest, readAt      time.Time
}

// complete reports whether all rows are here.
func (s listState) complete() bool { return !s.readAt.IsZero() && s.rows >= s.total }

// hasMore reports whether there is more to read, within the bound.
func (s listState) hasMore() bool { return s.rows < s.total && s.offset < MaxListRows }

func (l *walletList) state() listState {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := listState{rows: len(l.rows), total: l.total, offset: l.offset, readAt: l.readAt}
	if s.rows > 0 {
		s.oldest = l.rows[s.rows-1].at
	}
	return s
}

// movements are those between the wallet and a session, newest first.
func (l *walletList) movements(id settlement.SessionID) []movement {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bySession[id]
}

// acquire waits for the turn to read on.
func (l *walletList) acquire(ctx context.Context) error {
	select {
	case l.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// readNew reads what is new, unless another read has done so since an instant. Where that
// is more than the bound, what lies behind it is forgotten.
func (l *walletList) readNew(ctx context.Context, c protocol.Conn, since time.Time) error {
	if err := l.acquire(ctx); err != nil {
		return err
	}
	defer func() { <-l.turn }()
	known := l.state()
	if known.readAt.After(since) {
		return nil
	}
	fresh := listRows{readAt: time.Now()}
	for fresh.offset < MaxListRows {
		page, err := l.ask(ctx, c, fresh.offset)
		if err != nil {
			return err
		}
		if fresh.offset == 0 {
			fresh.total = page.total
		}
		fresh.add(page.rows)
		if page.isLast() || known.rows == 0 || l.overlaps(page.rows) {
			break
		}
	}
	overlaps := l.overlaps(fresh.rows)
	l.mu.Lock()
	defer l.mu.Unlock()
	if overlaps {
		fresh.add(l.rows)
		fresh.offset, fresh.sweeps = l.offset+len(fresh.rows)-known.rows, l.sweeps
	}
	l.listRows = fresh
	l.trim()
	l.cache.addRows(len(l.rows) - known.rows)
	return nil
}

func (l *walletList) overlaps(rows []transaction) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(rows, func(t transaction) bool { return l.ids[t.id] })
}

// readOlder reads one page further back. At the end of the list, where rows are missing, it
// begins at the newest page again: where many rows are of one instant they come in another
// order every time. In the end the list is forgotten, to be read again.
func (l *walletList) readOlder(ctx context.Context, c protocol.Conn) error {
	if err := l.acquire(ctx); err != nil {
		return err
	}
	defer func() { <-l.turn }()
	known := l.state()
	page, err := l.ask(ctx, c, known.offset)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.add(page.rows)
	l.trim()
	if len(l.rows) < l.total && page.isLast() {
		if l.sweeps++; l.sweeps < maxSweeps {
			l.offset = 0
		} else {
			l.listRows = listRows{}
			err = fmt.Errorf("of %s: %w", l.wallet, errGap)
		}
	}
	l.cache.addRows(len(l.rows) - known.rows)
	return err
}

func (l *walletList) ask(ctx context.Context, c protocol.Conn, offset int) (page transactionPage, err error) {
	params := transactionsParams{l.wallet, l.kind, pagination{offset, protocol.PageSize}}
	err = c.AskAll(ctx, protocol.Question{Method: methodTransactions, Params: params, Read: func(a protocol.Answer) (err error) {
		page, err = readTransactions(a, l.wallet, l.kind)
		return err
	}})
	return page, err
}

// add appends the rows of a page. New transactions move the others back, so that some come
// twice. The total shows that none is missing.
func (l *listRows) add(rows []transaction) {
	if l.ids == nil {
		l.ids, l.bySession = map[string]bool{}, map[settlement.SessionID][]movement{}
	}
	for _, t := range rows {
		if l.ids[t.id] {
			continue
		}
		l.ids[t.id] = true
		l.rows = append(l.rows, t)
		if t.movement != nil {
			l.bySession[t.movement.session] = append(l.bySession[t.movement.session], *t.movement)
		}
	}
	l.offset += pageStep
}

// trim forgets what lies beyond the bound.
func (l *listRows) trim() {
	for len(l.rows) > MaxListRows {
		last := l.rows[len(l.rows)-1]
		l.rows = l.rows[:len(l.rows)-1]
		delete(l.ids, last.id)
		if last.movement != nil {
			session := last.movement.session
			l.bySession[session] = slices.DeleteFunc(slices.Clone(l.bySession[session]), func(m movement) bool { return m.id == last.id })
		}
	}
}
