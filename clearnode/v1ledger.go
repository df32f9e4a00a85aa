package clearnode

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"settled/settlement"
)

// closeSpan is longer than a node takes from the first row of a close to the last.
// They are written in one transaction, but each when its payee's account is free
// (source).
const closeSpan = 10 * time.Minute

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
func (l *v1Ledger) page(ctx context.Context, kind uint8, enough func(*v1List) bool) error {
	for _, list := range l.lists {
		if list.kind != kind || enough(list) {
			continue
		}
		if err := list.freshen(ctx, l.r.conn, l.began); err != nil {
			return err
		}
	}
	for {
		var behind []*v1List
		for _, list := range l.lists {
			if list.kind == kind && !enough(list) && list.behind() {
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
// each list, or to well before the newest release that any list shows. It reports
// whether it got that far.
func (l *v1Ledger) lastReleases(ctx context.Context) (bool, error) {
	enough := func(list *v1List) bool {
		newest := l.moves(v1Release)
		return len(newest) > 0 && list.reaches(l.began, newest[0].At.Add(-closeSpan))
	}
	if err := l.page(ctx, v1Release, enough); err != nil {
		return false, err
	}
	beyond, err := l.beyond(func(list *v1List) bool { return list.kind != v1Release || enough(list) })
	return !beyond, err
}

// beyond reports whether a list goes further back than it is looked at. One that was
// not read to its end and isn't that long says nothing of the session: another reading
// forgot it meanwhile, because rows were missing. done are the lists that need no more.
func (l *v1Ledger) beyond(done func(*v1List) bool) (bool, error) {
	beyond := false
	for _, list := range l.lists {
		switch {
		case done(list) || list.whole():
		case list.bounded():
			beyond = true
		default:
			return false, fmt.Errorf("of %s: %w", list.wallet, errGap)
		}
	}
	return beyond, nil
}

// closing are the releases that the close made, of all of a session's, newest
// first. Withdrawals before it look like them. It is the last thing that happens to
// a session, and pays nobody twice of one asset. Where a release lies so close to the
// last that it could be of either, nothing tells: then of holds all that may be. The rows
// of a second in which somebody was paid twice are left out: nothing tells which of them
// were withdrawn.
func closing(releases []v1Move) (of []v1Move, told bool) {
	told = true
	seen := map[holding]bool{}
	for _, m := range releases {
		age := releases[0].At.Sub(m.At)
		at := holding{m.Wallet, m.Asset}
		switch {
		case age > closeSpan:
			slices.Reverse(of)
			return of, told
		case seen[at]: // withdrawn before; of that second nothing tells which rows were
			of = slices.DeleteFunc(of, func(o v1Move) bool { return !o.At.After(m.At) })
			slices.Reverse(of)
			return of, false
		case age > time.Second:
			told = false
		}
		seen[at] = true
		of = append(of, m)
	}
	slices.Reverse(of)
	return of, told
}

// onlyClose are the releases of a session closed at a version, oldest first, where its
// updates leave no room for a withdrawal, so that the close made all of them, however far
// apart they lie; nil where that is not shown. Each update moves the version by one: the
// deposits and the close are known, and where somebody was paid otherwise than they put
// in, an operate came before the close. Whatever is left could be a withdrawal.
func (l *v1Ledger) onlyClose(ctx context.Context, version uint64) ([]v1Move, error) {
	for _, kind := range []uint8{v1Commit, v1Release} {
		if err := l.page(ctx, kind, func(*v1List) bool { return false }); err != nil {
			return nil, err
		}
	}
	beyond, err := l.beyond(func(*v1List) bool { return false })
	if err != nil || beyond {
		return nil, err
	}
	in, out := l.moves(v1Commit), l.moves(v1Release)
	updates := uint64(len(in)) + 1 // the close
	if !sameHoldings(in, out) {
		updates++ // an operate
	}
	if len(out) == 0 || version != 1+updates {
		return nil, nil
	}
	slices.Reverse(out)
	return out, nil
}

// sameHoldings reports whether everybody got of every asset what they put in.
func sameHoldings(in, out []v1Move) bool {
	return maps.EqualFunc(holdings(in), holdings(out), settlement.Amount.Equal)
}

func holdings(moves []v1Move) map[holding]settlement.Amount {
	sums := map[holding]settlement.Amount{}
	for _, m := range moves {
		if !m.Amount.IsZero() {
			at := holding{m.Wallet, m.Asset}
			sums[at] = sums[at].Add(m.Amount)
		}
	}
	return sums
}

// deposits are what each participant put in and has not withdrawn before the close
// (whose payouts are given). They are known where they explain what is held, or was
// paid, to the last unit, and nothing can be missing: each deposit is one of as many
// updates as the session has seen, so where all of them are here, or all but one that
// moved nothing, nothing else happened; otherwise every list must be whole.
func (l *v1Ledger) deposits(ctx context.Context, updates uint64, payouts []v1Move, held map[settlement.Asset]settlement.Amount) ([]settlement.Transfer, bool, error) {
	proven := func(*v1List) bool { return proves(l.moves(v1Commit), updates, held) }
	if err := l.page(ctx, v1Commit, proven); err != nil {
		return nil, false, err
	}
	var withdrawn []v1Move
	if !proven(nil) {
		if err := l.page(ctx, v1Release, func(*v1List) bool { return false }); err != nil {
			return nil, false, err
		}
		beyond, err := l.beyond(func(*v1List) bool { return false })
		if err != nil {
			return nil, false, err
		}
		if beyond {
			return net(l.moves(v1Commit), nil), false, nil
		}
		withdrawn = slices.DeleteFunc(l.moves(v1Release), func(m v1Move) bool {
			return slices.ContainsFunc(payouts, func(p v1Move) bool { return p.id == m.id })
		})
	}
	in := l.moves(v1Commit)
	return net(in, withdrawn), explained(in, withdrawn, held), nil
}

// proves reports whether deposits are all that ever moved: they explain what is
// held, and there were no more updates than they, but for one, which then was an
// operate: a single deposit or withdrawal would show in the sum.
func proves(in []v1Move, updates uint64, held map[settlement.Asset]settlement.Amount) bool {
	n := uint64(len(in))
	return (n == updates || n+1 == updates) && explained(in, nil, held)
}

// explained: what went in less what went out is what is held, of every asset.
func explained(in, out []v1Move, held map[settlement.Asset]settlement.Amount) bool {
	came, went := map[settlement.Asset]settlement.Amount{}, maps.Clone(held)
	for _, m := range in {
		came[m.Asset] = came[m.Asset].Add(m.Amount)
	}
	for _, m := range out {
		went[m.Asset] = went[m.Asset].Add(m.Amount)
	}
	covers := func(a, b map[settlement.Asset]settlement.Amount) bool {
		for asset, amount := range a {
			if !amount.Equal(b[asset]) {
				return false
			}
		}
		return true
	}
	return covers(came, went) && covers(went, came)
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
