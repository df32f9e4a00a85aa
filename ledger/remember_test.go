package ledger_test

import (
	"context"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"

	"settled/ledger"
	"settled/ledger/ledgertest"
	"settled/settlement"
)

// counted is a stream that counts its reads.
type counted struct {
	*ledgertest.Stream
	reads atomic.Int64
}

func (s *counted) Get(ctx context.Context, filter string, from uint64) (ledger.Message, error) {
	s.reads.Add(1)
	return s.Stream.Get(ctx, filter, from)
}

// strangers appends so many failed entries behind a head.
func strangers(t testing.TB, l *ledger.Ledger, head settlement.Head, from, n int) settlement.Head {
	t.Helper()
	for i := range n {
		e := failed(head, head.Session, outcome(fmt.Sprint("stranger ", from+i)), 0)
		e.Reason = "paid elsewhere"
		head = mustAppend(t, l, head, e)
	}
	return head
}

// mustHistory reads the history and holds it to what a ledger that remembers
// nothing reads.
func mustHistory(t testing.TB, mem ledger.Stream, l *ledger.Ledger, head settlement.Head) []settlement.Entry {
	t.Helper()
	got, err := l.History(t.Context(), head)
	if err != nil {
		t.Fatal(err)
	}
	want, err := ledger.New(mem, config()).History(t.Context(), head)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%d entries, want %d (%v)", len(got), len(want), err)
	}
	return got
}

// TestALongHistoryIsReadOnce: after that a read costs what was appended since, and
// the head is part of it.
func TestALongHistoryIsReadOnce(t *testing.T) {
	mem := &counted{Stream: &ledgertest.Stream{}}
	l := ledger.New(mem, config())
	head := strangers(t, ledger.New(mem, config()), settlement.Head{Session: session(1)}, 0, 200)
	mustHistory(t, mem.Stream, l, head)
	for i, c := range []struct{ appended, reads int }{{0, 0}, {1, 0}, {1, 0}, {3, 2}, {40, 39}} {
		head = strangers(t, ledger.New(mem.Stream, config()), head, 1000*(i+1), c.appended)
		mem.reads.Store(0)
		mustHistory(t, mem.Stream, l, head)
		if n := int(mem.reads.Load()); n < c.reads || n > c.reads+c.reads/2 {
			t.Errorf("%d entries more: %d reads, want about %d", c.appended, n, c.reads)
		}
	}
}

// TestAnOlderHeadIsReadAnew: what is remembered says more than that head knows.
func TestAnOlderHeadIsReadAnew(t *testing.T) {
	mem := &ledgertest.Stream{}
	l := ledger.New(mem, config())
	older := strangers(t, l, settlement.Head{Session: session(1)}, 0, 20)
	newer := strangers(t, l, older, 20, 20)
	for _, head := range []settlement.Head{newer, older, newer} {
		if n := len(mustHistory(t, mem, l, head)); n != int(head.N()) {
			t.Errorf("%d entries up to number %d", n, head.N())
		}
	}
}

// TestWhatIsRememberedIsHeldToTheChain: of a stream that was restored from an older
// copy, and went on otherwise, nothing remembered is used; nor of one that was altered.
func TestWhatIsRememberedIsHeldToTheChain(t *testing.T) {
	mem := &ledgertest.Stream{}
	l, other := ledger.New(mem, config()), ledger.New(mem, config())
	early := strangers(t, other, settlement.Head{Session: session(1)}, 0, 20)
	late := strangers(t, other, early, 20, 20)
	mustHistory(t, mem, l, late)

	mem.Rewind(early.Sequence())
	for _, more := range []int{20, 25} { // as many as before, and more
		mem.Rewind(early.Sequence())
		head := strangers(t, other, early, 100*more, more)
		history := mustHistory(t, mem, l, head)
		if id := history[20].Outcome.ID; id != fmt.Sprint("stranger ", 100*more) {
			t.Errorf("entry 21 is of %s, of the stream that is no more", id)
		}
	}
	head, err := other.Head(t.Context(), session(1))
	if err != nil {
		t.Fatal(err)
	}
	forged := head
	forged.Digest = "00"
	if history, err := l.History(t.Context(), forged); err == nil && len(history) != int(head.N()) {
		t.Errorf("%d entries for a head that the chain doesn't name", len(history))
	}
}

// TestHistoriesAtOnceDontSpoilOneAnother: entries that are shared, read while more
// are put behind them (with the race detector).
func TestHistoriesAtOnceDontSpoilOneAnother(t *testing.T) {
	mem := &ledgertest.Stream{}
	l, writer := ledger.New(mem, config()), ledger.New(mem, config())
	heads := []settlement.Head{strangers(t, writer, settlement.Head{Session: session(1)}, 0, 20)}
	for i := range 60 {
		heads = append(heads, strangers(t, writer, heads[i], 20+i, 1))
	}
	var readers sync.WaitGroup
	for r := range 4 {
		readers.Go(func() {
			for i := range heads {
				head := heads[(i+r*7)%len(heads)]
				history, err := l.History(t.Context(), head)
				if err != nil || len(history) != int(head.N()) || history[len(history)-1].Sequence != head.Sequence() {
					t.Errorf("%d entries, want %d: %v", len(history), head.N(), err)
					return
				}
			}
		})
	}
	readers.Wait()
}

// TestRememberedHistoriesAreBounded: those used the longest time ago are forgotten.
func TestRememberedHistoriesAreBounded(t *testing.T) {
	mem := &counted{Stream: &ledgertest.Stream{}}
	l := ledger.New(mem, config())
	const sessions, entries = 5, 40
	ledger.SetMostRemembered(l, 3*entries*(1<<10+64))
	var heads []settlement.Head
	for i := range sessions {
		heads = append(heads, strangers(t, ledger.New(mem.Stream, config()), settlement.Head{Session: session(i)}, 0, entries))
		mustHistory(t, mem.Stream, l, heads[i])
	}
	reads := func(i int) int64 {
		mem.reads.Store(0)
		mustHistory(t, mem.Stream, l, heads[i])
		return mem.reads.Load()
	}
	if last, first := reads(sessions-1), reads(0); last != 0 || first < entries-1 {
		t.Errorf("%d reads of the last session, %d of the first, want none and all", last, first)
	}
	if n := ledger.Remembered(l); n == 0 || n > 3 {
		t.Errorf("%d histories are remembered, want at most 3", n)
	}
	mustHistory(t, mem.Stream, l, strangers(t, ledger.New(mem.Stream, config()), settlement.Head{Session: session(9)}, 0, 4))
	if n := ledger.Remembered(l); n > 3 {
		t.Error("a short history is remembered")
	}
}
