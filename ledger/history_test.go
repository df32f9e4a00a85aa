package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"settled/ledger"
	"settled/ledger/ledgertest"
	"settled/settlement"

	"pgregory.net/rapid"
)

// scatter gives a session as many entries as there are gaps, and puts so many
// messages of others before each.
func scatter(t testing.TB, mem *ledgertest.Stream, id settlement.SessionID, gaps []int) settlement.Head {
	t.Helper()
	l, head := ledger.New(mem, config()), settlement.Head{Session: id}
	for n, gap := range gaps {
		for range gap {
			mem.Put("settlement.failed.unknown", []byte("{}"))
		}
		e := failed(head, id, outcome(fmt.Sprint("stranger ", n)), 0)
		e.Reference, e.Reason, e.Evidence = "invoice 7", "paid elsewhere", []string{"receipt 1"}
		head = mustAppend(t, l, head, e)
	}
	return head
}

// layouts are sessions as they may lie in the stream: the gaps before their entries.
func layouts() map[string][]int {
	late := append([]int{0, 4000}, make([]int, 300)...)
	even := make([]int, 120)
	for i := range even {
		even[i] = 19
	}
	wider := make([]int, 14)
	for i := range wider {
		wider[i] = 1 << i / 4
	}
	return map[string][]int{
		"alone": make([]int, 200), "late": late, "late and early": append(make([]int, 200), late...),
		"even": even, "wider and wider": wider, "nine": make([]int, 9), "far in": append([]int{3000}, make([]int, 30)...),
	}
}

// TestHistoryIsWhole wherever the entries stand, and holds all that is decided from.
func TestHistoryIsWhole(t *testing.T) {
	for name, gaps := range layouts() {
		t.Run(name, func(t *testing.T) {
			mem := &ledgertest.Stream{}
			head := scatter(t, mem, session(1), gaps)
			l := ledger.New(mem, config())
			stored, err := l.Session(t.Context(), session(1))
			if err != nil || len(stored) != len(gaps) {
				t.Fatalf("%d entries stored, want %d: %v", len(stored), len(gaps), err)
			}
			history, err := l.History(t.Context(), head)
			if err != nil || len(history) != len(gaps) {
				t.Fatalf("%d entries, want %d: %v", len(history), len(gaps), err)
			}
			for i, got := range history {
				want := stored[i].Entry
				want.Reason, want.Evidence = "", nil
				if !reflect.DeepEqual(got, want) {
					t.Fatalf("entry %d is %+v, want %+v", i+1, got, want)
				}
			}
			if head.Last.Reason == "" || head.Last.Evidence == nil {
				t.Error("the caller's head was altered")
			}
		})
	}
}

// expected computes what History returns: as many entries from the first as the head's number
// says, of each of which the next one carries the hash.
func expected(t *rapid.T, mem *ledgertest.Stream, head settlement.Head) (n int, whole bool) {
	all, err := ledger.New(mem, config()).Session(context.Background(), head.Session)
	if err != nil {
		t.Fatal(err)
	}
	previous := ""
	for n = 0; n < int(head.N())-1; n++ {
		if n == len(all) || all[n].Err != nil || all[n].Entry.N != uint64(n)+1 || *all[n].Entry.Previous != previous {
			return n, false
		}
		previous = ledger.Digest(all[n].Payload)
	}
	return n + 1, *head.Last.Previous == previous
}

// TestHistoryProperty: entries anywhere, and sometimes one altered, unreadable,
// missing, forged or after the head.
func TestHistoryProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		gaps := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) int {
			return rapid.IntRange(0, 1<<rapid.IntRange(0, 7).Draw(t, "width")).Draw(t, "gap")
		}), 1, 80).Draw(rt, "gaps")
		mem, subject := &ledgertest.Stream{}, "settlement.failed."+string(session(1))
		at := len(gaps)
		if rapid.Bool().Draw(rt, "old head") {
			at = rapid.IntRange(1, len(gaps)).Draw(rt, "head")
		}
		head := scatter(t, mem, session(1), gaps[:at])
		forge := rapid.Bool().Draw(rt, "forged before the last")
		if forge {
			mem.Put(subject, []byte("{}"))
			last := mem.Messages()[head.Sequence()-1]
			mem.Remove(head.Sequence())
			head.Last.Sequence = mem.Put(last.Subject, last.Payload)
		}
		for range gaps[at:] {
			mem.Put(subject, []byte("{}"))
		}
		tamper(rt, mem, subject, head.Sequence())
		n, whole := expected(rt, mem, head)
		l := ledger.New(mem, config())
		history, err := l.History(t.Context(), head)
		if whole != (err == nil) || whole && len(history) != n || !whole && history != nil {
			rt.Fatalf("%d entries, %v; want %d, whole %t", len(history), err, n, whole)
		}
	})
}

// tamper does something, or nothing, to one message of a subject but the head and the last.
func tamper(t *rapid.T, mem *ledgertest.Stream, subject string, head uint64) {
	var of []ledger.Message
	for _, m := range mem.Messages() {
		if m.Subject == subject && m.Sequence != head {
			of = append(of, m)
		}
	}
	if len(of) < 2 {
		return
	}
	m := of[rapid.IntRange(0, len(of)-2).Draw(t, "victim")]
	switch rapid.SampledFrom([]string{"nothing", "remove", "alter", "break"}).Draw(t, "tamper") {
	case "remove":
		mem.Remove(m.Sequence)
	case "alter":
		mem.Replace(m.Sequence, []byte(strings.Replace(string(m.Payload), "invoice 7", "invoice 8", 1)))
	case "break":
		mem.Replace(m.Sequence, []byte("{}"))
	}
}

// lagging is a stream whose reads take a millisecond, and that counts them.
type lagging struct {
	*ledgertest.Stream
	mu         sync.Mutex
	reads, now int // all reads, and those in progress
	fail       int // 1-based index of the read that fails; 0: none
}

func (s *lagging) Get(ctx context.Context, filter string, from uint64) (ledger.Message, error) {
	s.mu.Lock()
	s.reads, s.now = s.reads+1, s.now+1
	failing := s.reads == s.fail
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.now--
		s.mu.Unlock()
	}()
	if failing {
		return ledger.Message{}, errLost
	}
	select {
	case <-time.After(time.Millisecond):
		return s.Stream.Get(ctx, filter, from)
	case <-ctx.Done():
		return ledger.Message{}, ctx.Err()
	}
}

// TestDenseHistoryIsReadConcurrently: of entries that are close together many are read in
// the time of one. The time is a bubble's.
func TestDenseHistoryIsReadConcurrently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := &lagging{Stream: &ledgertest.Stream{}}
		head := scatter(t, mem.Stream, session(1), make([]int, 300))
		begun := time.Now()
		history, err := ledger.New(mem, config()).History(t.Context(), head)
		rounds := int(time.Since(begun) / time.Millisecond)
		if err != nil || len(history) != 300 || mem.reads > 300 || rounds > 50 {
			t.Errorf("%d entries by %d reads, %d of them one after another: %v", len(history), mem.reads, rounds, err)
		}
	})
}

// TestShortHistory: a short history costs one read for each entry.
func TestShortHistory(t *testing.T) {
	for entries := 1; entries <= 8; entries++ {
		mem := &lagging{Stream: &ledgertest.Stream{}}
		head := scatter(t, mem.Stream, session(1), []int{3, 50, 0, 7, 0, 0, 9, 1}[:entries])
		history, err := ledger.New(mem, config()).History(t.Context(), head)
		if err != nil || len(history) != entries || mem.reads != entries {
			t.Errorf("%d entries of %d by %d reads: %v", len(history), entries, mem.reads, err)
		}
	}
}

// TestHistoryEndsWithAnError: the first error ends all reads, and no entry is returned.
func TestHistoryEndsWithAnError(t *testing.T) {
	for _, fail := range []int{1, 2, 60, 100} {
		synctest.Test(t, func(t *testing.T) {
			mem := &lagging{Stream: &ledgertest.Stream{}, fail: fail}
			head := scatter(t, mem.Stream, session(1), make([]int, 120))
			history, err := ledger.New(mem, config()).History(t.Context(), head)
			if !errors.Is(err, errLost) || history != nil || mem.now != 0 {
				t.Errorf("read %d lost: %d entries, %d reads under way, %v", fail, len(history), mem.now, err)
			}
		})
	}
}

func TestHistoryStopsWithItsContext(t *testing.T) {
	for _, entries := range []int{3, 120} {
		ctx, cancel := context.WithCancel(t.Context())
		mem := &ledgertest.Stream{}
		head := scatter(t, mem, session(1), make([]int, entries))
		mem.FaultFunc = func(ledgertest.Op) (bool, error) { cancel(); return false, ctx.Err() }
		if history, err := ledger.New(mem, config()).History(ctx, head); !errors.Is(err, context.Canceled) || history != nil {
			t.Errorf("%d entries, %v; want context.Canceled", len(history), err)
		}
	}
}

func TestLongHistoryOnAServer(t *testing.T) {
	js := connect(t, runServer(t, serverOptions))
	l := mustOpen(t, js, config())
	for i, between := range []int{0, 40} {
		head := flood(t, js, l, session(i), 100, between)
		history, err := l.History(t.Context(), head)
		if err != nil || len(history) != 100 {
			t.Fatalf("%d entries, %v", len(history), err)
		}
		for n, e := range history {
			if e.N != uint64(n)+1 || e.Session != session(i) || n > 0 && e.Sequence <= history[n-1].Sequence {
				t.Errorf("entry %d is number %d at %d", n+1, e.N, e.Sequence)
			}
		}
	}
}

// counted is a stream that counts its reads.
type counted struct {
	*ledgertest.Stream
	reads atomic.Int64
}

func (s *counted) Get(ctx context.Context, filter string, from uint64) (ledger.Message, error) {
	s.reads.Add(1)
	return s.Stream.Get(ctx, filter, from)
}

// strangers appends n failed entries to a head.
func strangers(t testing.TB, l *ledger.Ledger, head settlement.Head, from, n int) settlement.Head {
	t.Helper()
	for i := range n {
		e := failed(head, head.Session, outcome(fmt.Sprint("stranger ", from+i)), 0)
		e.Reason = "paid elsewhere"
		head = mustAppend(t, l, head, e)
	}
	return head
}

// mustHistory reads the history and compares it with what a new ledger reads.
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

// TestALongHistoryIsReadOnce: after that a read costs one read of the entry at the end of
// what is cached, and one for each entry that was appended since.
func TestALongHistoryIsReadOnce(t *testing.T) {
	mem := &counted{Stream: &ledgertest.Stream{}}
	l := ledger.New(mem, config())
	head := strangers(t, ledger.New(mem, config()), settlement.Head{Session: session(1)}, 0, 200)
	mustHistory(t, mem.Stream, l, head)
	for i, c := range []struct{ appended, reads int }{{0, 0}, {1, 2}, {3, 4}, {40, 41}} {
		head = strangers(t, ledger.New(mem.Stream, config()), head, 1000*(i+1), c.appended)
		mem.reads.Store(0)
		mustHistory(t, mem.Stream, l, head)
		if n := int(mem.reads.Load()); n < c.reads || n > c.reads+c.reads/2 {
			t.Errorf("%d entries more: %d reads, want about %d", c.appended, n, c.reads)
		}
	}
}

// TestAnOlderHeadIsReadAnew: the cached history goes beyond the head.
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

// TestCachedHistoryIsVerified: of a stream that was restored from an older copy, and has
// other entries since, nothing cached is used.
func TestCachedHistoryIsVerified(t *testing.T) {
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

// TestConcurrentHistories: entries that are shared, read while more
// are put behind them (with the race detector).
func TestConcurrentHistories(t *testing.T) {
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

// TestCachedHistoriesAreBounded: the least recently used ones are dropped.
func TestCachedHistoriesAreBounded(t *testing.T) {
	mem := &counted{Stream: &ledgertest.Stream{}}
	l := ledger.New(mem, config())
	const sessions, entries = 5, 40
	ledger.SetMaxCached(l, 3*entries*(1<<10+64))
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
	if n := ledger.Cached(l); n == 0 || n > 3 {
		t.Errorf("%d histories are cached, want at most 3", n)
	}
	mustHistory(t, mem.Stream, l, strangers(t, ledger.New(mem.Stream, config()), settlement.Head{Session: session(9)}, 0, 4))
	if n := ledger.Cached(l); n > 3 {
		t.Error("a short history is cached")
	}
}
