package clearnode

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"settled/settlement"
)

// Bounds of how far back a wallet's transactions are read, in pages.
const (
	maxFundingPages = 20
	maxReleasePages = 100
)

// closeSpan is longer than a node takes from the first row of a close to the last:
// they are written in one transaction (source).
const closeSpan = 30 * time.Second

// v1Ledger is the transactions between a session and its participants. The node
// tells them by wallet only, those of all its sessions together, newest first, a
// hundred at a time.
type v1Ledger struct {
	r     *v1Reading
	lists []*v1List
}

// v1List is a wallet's transactions of one type, as far as they were read.
type v1List struct {
	wallet string
	kind   uint8
	offset int
	ids    map[string]bool
	moves  []v1Move
	oldest time.Time
	total  int  // how many there were when the first page was read
	ended  bool // the last page was read
	whole  bool // and none of those is missing
}

func (r *v1Reading) ledger(s settlement.Session) *v1Ledger {
	l := &v1Ledger{r: r}
	for _, p := range s.Participants {
		for _, kind := range []uint8{v1Commit, v1Release} {
			l.lists = append(l.lists, &v1List{wallet: p.Spelling, kind: kind, ids: map[string]bool{}})
		}
	}
	return l
}

// moves are the session's of a type, newest first.
func (l *v1Ledger) moves(kind uint8) []v1Move {
	var all []v1Move
	for _, list := range l.lists {
		if list.kind == kind {
			all = append(all, list.moves...)
		}
	}
	slices.SortStableFunc(all, func(a, b v1Move) int { return -olderMove(a.Transfer, b.Transfer) })
	return all
}

// page reads the lists of a type, a page of each at a time, until each is whole or
// has enough, or the bound is reached.
func (l *v1Ledger) page(ctx context.Context, kind uint8, most int, enough func(*v1List) bool) error {
	for {
		var qs []question
		for _, list := range l.lists {
			if list.kind == kind && !list.ended && !enough(list) && list.offset < most*pageSize {
				qs = append(qs, l.ask(list))
			}
		}
		if len(qs) == 0 {
			return nil
		}
		if err := l.r.conn.questions(ctx, qs...); err != nil {
			return err
		}
	}
}

func (l *v1Ledger) ask(list *v1List) question {
	params := v1TransactionsOf{list.wallet, list.kind, v1Pagination{list.offset, pageSize}}
	return question{v1Transactions, params, func(a answer) error {
		page, err := readV1Transactions(a, l.r.id, list.wallet, list.kind)
		if err == nil {
			list.add(page)
		}
		return err
	}}
}

// add takes a page. New transactions move the others back, so that some come
// twice; and those of one instant come in any order (source), so that some may not
// come at all: that none of those there were at first is missing shows in their
// number.
func (l *v1List) add(page v1Page) {
	if l.offset == 0 {
		l.total = page.total
	}
	for _, id := range page.ids {
		l.ids[id] = true
	}
	for _, m := range page.moves {
		if !slices.ContainsFunc(l.moves, func(o v1Move) bool { return o.id == m.id }) {
			l.moves = append(l.moves, m)
		}
	}
	l.offset += pageSize
	if len(page.ids) > 0 {
		l.oldest = page.oldest
	}
	l.ended = len(page.ids) < pageSize
	l.whole = l.ended && len(l.ids) >= l.total
}

// lastReleases reads as far back as the close of the session can lie: to the end of
// each list, or to well before the newest release that any list shows.
func (l *v1Ledger) lastReleases(ctx context.Context) error {
	enough := func(list *v1List) bool {
		newest := l.moves(v1Release)
		return len(newest) > 0 && list.offset > 0 && list.oldest.Before(newest[0].At.Add(-closeSpan))
	}
	if err := l.page(ctx, v1Release, maxReleasePages, enough); err != nil {
		return err
	}
	for _, list := range l.lists {
		switch {
		case list.kind != v1Release || list.whole || enough(list):
		case list.ended:
			return errors.New("the transactions move while they are read: looking again later")
		default:
			return fmt.Errorf("what it paid lies behind more than %d other payments to %s", list.offset, list.wallet)
		}
	}
	return nil
}

// closing are the releases that the close made, of all of a session's, newest
// first. Withdrawals before it look like them. It is the last thing that happens to
// a session, in one moment, and pays nobody twice of one asset. Where a release lies
// so close to the last that it could be of either, nothing tells.
func closing(releases []v1Move) (of []v1Move, told bool) {
	seen := map[holding]bool{}
	for _, m := range releases {
		age := releases[0].At.Sub(m.At)
		at := holding{m.Wallet, m.Asset}
		switch {
		case age > closeSpan:
			return of, true
		case age > time.Second || seen[at]:
			return nil, false
		}
		seen[at] = true
		of = append(of, m)
	}
	slices.Reverse(of)
	return of, true
}

// deposits are what each participant put in and has not withdrawn before the close
// (whose payouts are given). They are known where they explain what is held, or was
// paid, to the last unit. Of as many updates as the session has seen each deposit is
// one: where all were deposits, that are here, nothing was withdrawn.
func (l *v1Ledger) deposits(ctx context.Context, updates uint64, payouts []v1Move, held map[settlement.Asset]settlement.Amount) ([]settlement.Transfer, bool, error) {
	all := func(*v1List) bool { return uint64(len(l.moves(v1Commit))) == updates }
	if err := l.page(ctx, v1Commit, maxFundingPages, all); err != nil {
		return nil, false, err
	}
	var withdrawn []v1Move
	if !all(nil) {
		if err := l.page(ctx, v1Release, maxFundingPages, func(*v1List) bool { return false }); err != nil {
			return nil, false, err
		}
		withdrawn = slices.DeleteFunc(l.moves(v1Release), func(m v1Move) bool {
			return slices.ContainsFunc(payouts, func(p v1Move) bool { return p.id == m.id })
		})
	}
	in := l.moves(v1Commit)
	return net(in, withdrawn), explained(in, withdrawn, held), nil
}

// explained: what went in less what went out is what is held, of every asset.
func explained(in, out []v1Move, held map[settlement.Asset]settlement.Amount) bool {
	sides := [2]map[settlement.Asset]settlement.Amount{{}, {}}
	for _, m := range in {
		sides[0][m.Asset] = sides[0][m.Asset].Add(m.Amount)
	}
	for _, m := range out {
		sides[1][m.Asset] = sides[1][m.Asset].Add(m.Amount)
	}
	for asset, amount := range held {
		sides[1][asset] = sides[1][asset].Add(amount)
	}
	for asset := range sides[1] {
		sides[0][asset] = sides[0][asset].Add(settlement.Amount{})
	}
	for asset, amount := range sides[0] {
		if !amount.Equal(sides[1][asset]) {
			return false
		}
	}
	return true
}

// net is one transfer for each wallet and asset, oldest first; one that withdrew
// as much as it put in, or more, has none.
func net(in, out []v1Move) []settlement.Transfer {
	sums, withdrawn := map[holding]settlement.Transfer{}, map[holding]settlement.Amount{}
	for _, m := range in {
		t := m.Transfer
		if sum, found := sums[holding{m.Wallet, m.Asset}]; found {
			t.Amount = t.Amount.Add(sum.Amount)
			t.At = sum.At // newest first
		}
		sums[holding{m.Wallet, m.Asset}] = t
	}
	for _, m := range out {
		at := holding{m.Wallet, m.Asset}
		withdrawn[at] = withdrawn[at].Add(m.Amount)
	}
	var left []settlement.Transfer
	for at, t := range sums {
		amount, err := t.Amount.Sub(withdrawn[at])
		if err == nil && !amount.IsZero() {
			t.Amount = amount
			left = append(left, t)
		}
	}
	slices.SortFunc(left, olderMove)
	return left
}
