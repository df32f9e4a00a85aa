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
	"settled/ledger/natstest"
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

// TestHistoryIsWhole wherever the entries are, and holds all that is decided from.
func TestHistoryIsWhole(t *testing.T) {
	for name, gaps := range layouts() {
		t.Run(name, func(t *testing.T) {
			mem := &ledgertest.Stream{}
			scatter(t, mem, session(1), gaps)
			l := ledger.New(mem, config())
			stored, err := l.Session(t.Context(), session(1))
			history := mustHead(t, l, session(1)).Entries
			if err != nil || len(stored) != len(gaps) || len(history) != len(gaps) {
				t.Fatalf("%d entries of %d stored, want %d: %v", len(history), len(stored), len(gaps), err)
			}
			for i, got := range history {
				want := stored[i].Entry
				want.Reason, want.Evidence = "", nil
				if !reflect.DeepEqual(got, want) {
					t.Fatalf("entry %d is %+v, want %+v", i+1, got, want)
				}
			}
		})
	}
}

// TestHistoryProperty: entries anywhere, and sometimes one that is altered, unreadable or
// missing. What is returned is a chain from the first entry on, whole if nothing happened.
func TestHistoryProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		gaps := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) int {
			return rapid.IntRange(0, 1<<rapid.IntRange(0, 7).Draw(t, "width")).Draw(t, "gap")
		}), 1, 80).Draw(rt, "gaps")
		mem := &ledgertest.Stream{}
		last := scatter(t, mem, session(1), gaps).Sequence()
		tampered := tamper(rt, mem, "settlement.failed."+string(session(1)), last)
		head, err := ledger.New(mem, config()).Head(t.Context(), session(1))
		if !tampered && (err != nil || len(head.Entries) != len(gaps)) || err != nil && head.Entries != nil {
			rt.Fatalf("%d entries of %d, %v", len(head.Entries), len(gaps), err)
		}
		payloads, previous := map[uint64][]byte{}, ""
		for _, m := range mem.Messages() {
			payloads[m.Sequence] = m.Payload
		}
		for i, e := range head.Entries {
			if e.N != uint64(i)+1 || *e.Previous != previous {
				rt.Fatalf("entry %d is number %d and follows %s, want %s", i+1, e.N, *e.Previous, previous)
			}
			previous = ledger.Digest(payloads[e.Sequence])
		}
	})
}

// tamper changes one message of a subject other than the head, or none.
func tamper(t *rapid.T, mem *ledgertest.Stream, subject string, head uint64) (done bool) {
	var of []ledger.Message
	for _, m := range mem.Messages() {
		if m.Subject == subject && m.Sequence != head {
			of = append(of, m)
		}
	}
	if len(of) == 0 {
		return false
	}
	m := of[rapid.IntRange(0, len(of)-1).Draw(t, "victim")]
	switch rapid.SampledFrom([]string{"nothing", "remove", "alter", "break"}).Draw(t, "tamper") {
	case "remove":
		mem.Remove(m.Sequence)
	case "alter":
		mem.Replace(m.Sequence, []byte(strings.Replace(string(m.Payload), "invoice 7", "invoice 8", 1)))
	case "break":
		mem.Replace(m.Sequence, []byte("{}"))
	default:
		return false
	}
	return true
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
		scatter(t, mem.Stream, session(1), make([]int, 300))
		start := time.Now()
		n := len(mustHead(t, ledger.New(mem, config()), session(1)).Entries)
		if rounds := int(time.Since(start) / time.Millisecond); n != 300 || mem.reads > 301 || rounds > 51 {
			t.Errorf("%d entries by %d reads, %d of them one after another", n, mem.reads, rounds)
		}
	})
}

// TestShortHistory: a short history costs at most one read for each entry, and one for the
// last message.
func TestShortHistory(t *testing.T) {
	for entries := 1; entries <= 8; entries++ {
		mem := &lagging{Stream: &ledgertest.Stream{}}
		scatter(t, mem.Stream, session(1), []int{3, 50, 0, 7, 0, 0, 9, 1}[:entries])
		if n := len(mustHead(t, ledger.New(mem, config()), session(1)).Entries); n != entries || mem.reads > entries+1 {
			t.Errorf("%d entries of %d by %d reads", n, entries, mem.reads)
		}
	}
}

// TestHistoryEndsWithAnError: the first error ends all reads, and no entry is returned.
func TestHistoryEndsWithAnError(t *testing.T) {
	for _, fail := range []int{1, 2, 60, 100} {
		synctest.Test(t, func(t *testing.T) {
			mem := &lagging{Stream: &ledgertest.Stream{}, fail: fail}
			scatter(t, mem.Stream, session(1), make([]int, 120))
			head, err := ledger.New(mem, config()).Head(t.Context(), session(1))
			if !errors.Is(err, errLost) || head.Entries != nil || mem.now != 0 {
				t.Errorf("read %d lost: %d entries, %d reads under way, %v", fail, len(head.Entries), mem.now, err)
			}
		})
	}
}

func TestHistoryStopsWithItsContext(t *testing.T) {
	for _, entries := range []int{3, 120} {
		ctx, cancel := context.WithCancel(t.Context())
		mem := &ledgertest.Stream{}
		scatter(t, mem, session(1), make([]int, entries))
		mem.FaultFunc = func(ledgertest.Op) (bool, error) { cancel(); return false, ctx.Err() }
		if head, err := ledger.New(mem, config()).Head(ctx, session(1)); !errors.Is(err, context.Canceled) || head.Entries != nil {
			t.Errorf("%d entries, %v; want context.Canceled", len(head.Entries), err)
		}
	}
}

func TestLongHistoryOnAServer(t *testing.T) {
	js := natstest.Connect(t, newServer(t))
	l := mustOpen(t, js, config())
	for i, between := range []int{0, 40} {
		flood(t, js, l, session(i), 100, between)
		history := mustHead(t, l, session(i)).Entries
		if len(history) != 100 {
			t.Fatalf("%d entries", len(history))
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

// mustHistory reads a session's entries, and compares them with what a new ledger reads.
func mustHistory(t testing.TB, mem ledger.Stream, l *ledger.Ledger, id settlement.SessionID) []settlement.Entry {
	t.Helper()
	got, want := mustHead(t, l, id).Entries, mustHead(t, ledger.New(mem, config()), id).Entries
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%d entries, want %d", len(got), len(want))
	}
	return got
}

// TestALongHistoryIsReadOnce: after that a read costs one read of the last message, one of
// the entry at the end of what is cached, and one for each entry that was appended since.
func TestALongHistoryIsReadOnce(t *testing.T) {
	mem := &counted{Stream: &ledgertest.Stream{}}
	l := ledger.New(mem, config())
	head := strangers(t, ledger.New(mem, config()), settlement.Head{Session: session(1)}, 0, 200)
	mustHistory(t, mem.Stream, l, session(1))
	for i, c := range []struct{ appended, reads int }{{0, 1}, {1, 3}, {3, 5}, {40, 42}} {
		head = strangers(t, ledger.New(mem.Stream, config()), head, 1000*(i+1), c.appended)
		mem.reads.Store(0)
		mustHistory(t, mem.Stream, l, session(1))
		if n := int(mem.reads.Load()); n > c.reads+c.reads/2 {
			t.Errorf("%d entries more: %d reads, want about %d", c.appended, n, c.reads)
		}
	}
}

// TestCachedHistoryIsVerified: of a stream that was restored from an older copy, and has
// other entries since, nothing cached is used.
func TestCachedHistoryIsVerified(t *testing.T) {
	mem := &ledgertest.Stream{}
	l, other := ledger.New(mem, config()), ledger.New(mem, config())
	early := strangers(t, other, settlement.Head{Session: session(1)}, 0, 20)
	strangers(t, other, early, 20, 20)
	mustHistory(t, mem, l, session(1))
	for _, more := range []int{20, 25, 5} { // as many as before, more, and fewer
		mem.Rewind(early.Sequence())
		strangers(t, other, early, 100*more, more)
		history := mustHistory(t, mem, l, session(1))
		if id := history[20].Outcome.ID; id != fmt.Sprint("stranger ", 100*more) {
			t.Errorf("entry 21 is of %s, of the stream that is no more", id)
		}
	}
}

// TestConcurrentHistories: entries that are shared, read while more are appended (with the
// race detector).
func TestConcurrentHistories(t *testing.T) {
	mem := &ledgertest.Stream{}
	l, writer := ledger.New(mem, config()), ledger.New(mem, config())
	head := strangers(t, writer, settlement.Head{Session: session(1)}, 0, 20)
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for range 60 {
				head, err := l.Head(t.Context(), session(1))
				if n := len(head.Entries); err != nil || n != int(head.N()) || head.Entries[n-1].Sequence != head.Sequence() {
					t.Errorf("%d entries, want %d: %v", n, head.N(), err)
					return
				}
			}
		})
	}
	strangers(t, writer, head, 20, 60)
	readers.Wait()
}

// TestCachedHistoriesAreBounded: the least recently used ones are dropped.
func TestCachedHistoriesAreBounded(t *testing.T) {
	mem := &counted{Stream: &ledgertest.Stream{}}
	l := ledger.New(mem, config())
	const sessions, entries = 5, 40
	ledger.SetMaxCached(l, 3*entries*(1<<10+64))
	read := func(id settlement.SessionID) int64 {
		mem.reads.Store(0)
		mustHistory(t, mem.Stream, l, id)
		return mem.reads.Load()
	}
	for i := range sessions {
		strangers(t, ledger.New(mem.Stream, config()), settlement.Head{Session: session(i)}, 0, entries)
		read(session(i))
	}
	if last, first := read(session(sessions-1)), read(session(0)); last > 1 || first < entries {
		t.Errorf("%d reads of the last session, %d of the first, want one and all", last, first)
	}
	if n := ledger.Cached(l); n == 0 || n > 3 {
		t.Errorf("%d histories are cached, want at most 3", n)
	}
	strangers(t, ledger.New(mem.Stream, config()), settlement.Head{Session: session(9)}, 0, 4)
	read(session(9))
	if n := ledger.Cached(l); n > 3 {
		t.Error("a short history is cached")
	}
}
