package clearnode

import (
	"context"
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

// v1Ledger is the transactions between a session and its participants, for one
// reading of it.
type v1Ledger struct {
	r     *v1Reading
	began time.Time
	lists []*v1List
}

func (r *v1Reading) ledger(s settlement.Session) *v1Ledger {
	l := &v1Ledger{r: r, began: time.Now()}
	for _, p := range s.Participants {
		for _, kind := range []uint8{v1Commit, v1Release} {
			l.lists = append(l.lists, r.v.book.list(p.Spelling, kind))
		}
	}
	return l
}

// moves are the session's of a type, newest first.
func (l *v1Ledger) moves(kind uint8) []v1Move {
	var all []v1Move
	for _, list := range l.lists {
		if list.kind == kind {
			all = append(all, list.of(l.r.id)...)
		}
	}
	slices.SortStableFunc(all, func(a, b v1Move) int { return -olderMove(a.Transfer, b.Transfer) })
	return all
}

// page reads on in the lists of a type, first what is new in them, then further
// back, until each is at its end or has enough, or the bound is reached.
func (l *v1Ledger) page(ctx context.Context, kind uint8, most int, enough func(*v1List) bool) error {
	for _, list := range l.lists {
		if list.kind != kind || enough(list) {
			continue
		}
		if err := list.freshen(ctx, l.r.conn, l.began, most); err != nil {
			return err
		}
	}
	for {
		var behind []*v1List
		for _, list := range l.lists {
			if list.kind == kind && !enough(list) && list.behind(most) {
				behind = append(behind, list)
			}
		}
		for _, list := range behind {
			if err := list.deepen(ctx, l.r.conn); err != nil {
				return err
			}
		}
		if len(behind) == 0 {
			return nil
		}
	}
}

// lastReleases reads as far back as the close of the session can lie: to the end of
// each list, or to well before the newest release that any list shows.
func (l *v1Ledger) lastReleases(ctx context.Context) error {
	enough := func(list *v1List) bool {
		newest := l.moves(v1Release)
		return len(newest) > 0 && list.reaches(l.began, newest[0].At.Add(-closeSpan))
	}
	if err := l.page(ctx, v1Release, maxReleasePages, enough); err != nil {
		return err
	}
	for _, list := range l.lists {
		switch {
		case list.kind != v1Release || list.whole() || enough(list):
		case list.gapped():
			return fmt.Errorf("of the payments to %s not all can be read: looking again later", list.wallet)
		default:
			return fmt.Errorf("what it paid lies behind more than %d other payments to %s", maxReleasePages*nextPage, list.wallet)
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
// paid, to the last unit, and nothing can be missing: each deposit is one of as many
// updates as the session has seen, so where all of them are here nothing else
// happened; otherwise every list must be whole.
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
		if slices.ContainsFunc(l.lists, func(list *v1List) bool { return !list.whole() }) {
			return nil, false, nil
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
