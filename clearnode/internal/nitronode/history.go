package nitronode

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"settled/clearnode/internal/protocol"
	"settled/settlement"
)

// closeSpan is longer than a node takes from the first row of a close to the last. It
// writes them in one transaction, but each when its payee's account is free (source).
const closeSpan = 10 * time.Minute

// history is the transactions between a session and its participants, for one read of it.
type history struct {
	r     *sessionReader
	began time.Time
	lists []*walletList
}

func (r *sessionReader) openHistory(s settlement.Session) *history {
	h := &history{r: r, began: time.Now()}
	for _, p := range s.Participants {
		for _, kind := range []transactionType{typeDeposit, typeRelease} {
			h.lists = append(h.lists, r.n.transactions.list(p.Spelling, kind))
		}
	}
	return h
}

// movements are the session's transactions of a type, newest first.
func (h *history) movements(kind transactionType) []movement {
	var all []movement
	for _, list := range h.lists {
		if list.kind == kind {
			all = append(all, list.movements(h.r.id)...)
		}
	}
	slices.SortStableFunc(all, func(a, b movement) int { return -compareTransfers(a.Transfer, b.Transfer) })
	return all
}

// compareTransfers orders transfers as they happened, and those of one second in a fixed
// order.
func compareTransfers(a, b settlement.Transfer) int {
	return cmp.Or(a.At.Compare(b.At), bytes.Compare(a.Wallet[:], b.Wallet[:]), cmp.Compare(a.Asset, b.Asset))
}

// read reads on in the lists of a type, first what is new in them, then further back, until
// each is at its end or has enough, or the bound is reached. A nil enough is never true.
func (h *history) read(ctx context.Context, kind transactionType, enough func(listState) bool) error {
	needs := func(list *walletList) bool {
		return list.kind == kind && (enough == nil || !enough(list.state()))
	}
	for _, list := range h.lists {
		if needs(list) {
			if err := list.readNew(ctx, h.r.conn, h.began); err != nil {
				return err
			}
		}
	}
	for {
		var incomplete []*walletList
		for _, list := range h.lists {
			if needs(list) && list.state().hasMore() {
				incomplete = append(incomplete, list)
			}
		}
		for _, list := range incomplete {
			if err := list.readOlder(ctx, h.r.conn); err != nil {
				return err
			}
		}
		if len(incomplete) == 0 {
			return nil
		}
	}
}

// truncated reports whether a list goes further back than it is read. A list that was not
// read to its end and isn't that long says nothing about the session: another read forgot
// it meanwhile, because rows were missing. done are the lists that need no more.
func (h *history) truncated(done func(*walletList) bool) (bool, error) {
	truncated := false
	for _, list := range h.lists {
		switch state := list.state(); {
		case done != nil && done(list) || state.complete():
		case state.offset >= MaxListRows:
			truncated = true
		default:
			return false, fmt.Errorf("of %s: %w", list.wallet, errGap)
		}
	}
	return truncated, nil
}

// readLastReleases reads as far back as the close of the session can lie: to the end of
// each list, or to well before the newest release that any list shows. It reports whether
// it got that far.
func (h *history) readLastReleases(ctx context.Context) (bool, error) {
	enough := func(state listState) bool {
		releases := h.movements(typeRelease)
		return len(releases) > 0 && state.readAt.After(h.began) && state.rows > 0 && state.oldest.Before(releases[0].At.Add(-closeSpan))
	}
	if err := h.read(ctx, typeRelease, enough); err != nil {
		return false, err
	}
	truncated, err := h.truncated(func(list *walletList) bool { return list.kind != typeRelease || enough(list.state()) })
	return !truncated, err
}

// closingReleases are the releases that the close made, oldest first, of all of a
// session's, newest first. Withdrawals before it look like them. The close is the last thing
// that happens to a session, and pays nobody twice in one asset. Where a release lies so
// close to the last that it could be of either, it is not certain: then the result holds all
// that may be of the close. The rows of a second in which someone was paid twice are left
// out, because nothing shows which of them were withdrawn.
func closingReleases(releases []movement) (closing []movement, certain bool) {
	certain = true
	seen := map[protocol.Holding]bool{}
	for _, m := range releases {
		age := releases[0].At.Sub(m.At)
		of := m.holding()
		if age > closeSpan {
			break
		}
		if seen[of] { // withdrawn before
			certain = false
			closing = slices.DeleteFunc(closing, func(other movement) bool { return !other.At.After(m.At) })
			break
		}
		if age > time.Second {
			certain = false
		}
		seen[of] = true
		closing = append(closing, m)
	}
	slices.Reverse(closing)
	return closing, certain
}

// releasesOfOnlyClose are the releases of a session closed at a version, oldest first, where
// its updates leave no room for a withdrawal, so that the close made all of them, however
// far apart they lie; nil where that is not shown. Each update moves the version by one: the
// deposits and the close are known, and where someone was paid otherwise than they deposited,
// an operate came before the close. Whatever is left could be a withdrawal.
func (h *history) releasesOfOnlyClose(ctx context.Context, version uint64) ([]movement, error) {
	for _, kind := range []transactionType{typeDeposit, typeRelease} {
		if err := h.read(ctx, kind, nil); err != nil {
			return nil, err
		}
	}
	truncated, err := h.truncated(nil)
	if err != nil || truncated {
		return nil, err
	}
	in, out := h.movements(typeDeposit), h.movements(typeRelease)
	updates := uint64(len(in)) + 1 // the close
	if !maps.EqualFunc(sumAmounts(in, movement.holding), sumAmounts(out, movement.holding), settlement.Amount.Equal) {
		updates++ // an operate
	}
	if len(out) == 0 || version != 1+updates {
		return nil, nil
	}
	slices.Reverse(out)
	return out, nil
}

func (m movement) asset() settlement.Asset { return m.Asset }

func (m movement) holding() protocol.Holding {
	return protocol.Holding{Wallet: m.Wallet, Asset: m.Asset}
}

// sumAmounts sums the movements by a key. What would be zero is left out.
func sumAmounts[K comparable](movements []movement, key func(movement) K) map[K]settlement.Amount {
	sums := map[K]settlement.Amount{}
	for _, m := range movements {
		if !m.Amount.IsZero() {
			sums[key(m)] = sums[key(m)].Add(m.Amount)
		}
	}
	return sums
}

// netDeposits are what each participant deposited and has not withdrawn before the close,
// whose payouts are given. They are known where they explain the balance, or what was paid,
// to the last unit, and nothing can be missing. Each deposit is one of as many updates as
// the session has seen. So where all updates are deposits, or all but one that moved
// nothing, nothing else happened; otherwise every list must be complete.
func (h *history) netDeposits(ctx context.Context, updates uint64, payouts []movement, balance map[settlement.Asset]settlement.Amount) ([]settlement.Transfer, bool, error) {
	// One other update would be an operate: a single withdrawal would show in the sum.
	sufficient := func(listState) bool {
		in := h.movements(typeDeposit)
		count := uint64(len(in))
		return (count == updates || count+1 == updates) && explains(in, nil, balance)
	}
	if err := h.read(ctx, typeDeposit, sufficient); err != nil {
		return nil, false, err
	}
	var withdrawn []movement
	if !sufficient(listState{}) {
		if err := h.read(ctx, typeRelease, nil); err != nil {
			return nil, false, err
		}
		truncated, err := h.truncated(nil)
		if err != nil {
			return nil, false, err
		}
		if truncated {
			return subtract(h.movements(typeDeposit), nil), false, nil
		}
		withdrawn = slices.DeleteFunc(h.movements(typeRelease), func(m movement) bool {
			return slices.ContainsFunc(payouts, func(p movement) bool { return p.id == m.id })
		})
	}
	in := h.movements(typeDeposit)
	return subtract(in, withdrawn), explains(in, withdrawn, balance), nil
}

// explains reports whether what went in less what went out is the balance, of every asset.
func explains(in, out []movement, balance map[settlement.Asset]settlement.Amount) bool {
	received, accounted := sumAmounts(in, movement.asset), sumAmounts(out, movement.asset)
	for asset, amount := range balance {
		if !amount.IsZero() {
			accounted[asset] = accounted[asset].Add(amount)
		}
	}
	return maps.EqualFunc(received, accounted, settlement.Amount.Equal)
}

// subtract is one transfer for each wallet and asset, oldest first. A wallet that withdrew
// as much as it deposited, or more, has none.
func subtract(in, out []movement) []settlement.Transfer {
	sums, withdrawn := map[protocol.Holding]settlement.Transfer{}, sumAmounts(out, movement.holding)
	for _, m := range in {
		t := m.Transfer
		of := m.holding()
		if sum, found := sums[of]; found {
			t.Amount, t.At = t.Amount.Add(sum.Amount), sum.At // newest first
		}
		sums[of] = t
	}
	var left []settlement.Transfer
	for of, t := range sums {
		amount, err := t.Amount.Sub(withdrawn[of])
		if err == nil && !amount.IsZero() {
			t.Amount = amount
			left = append(left, t)
		}
	}
	slices.SortFunc(left, compareTransfers)
	return left
}
