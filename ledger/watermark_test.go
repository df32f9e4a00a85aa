package ledger_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"settled/ledger"
	"settled/ledger/ledgertest"
	"settled/settlement"
)

// held demands that an error is the ledger's wait, and returns how long.
func held(t *testing.T, err error) time.Duration {
	t.Helper()
	var w *settlement.Waiting
	if !errors.As(err, &w) || w.Reason != settlement.LedgerHeld {
		t.Fatalf("%v, want to wait as %s", err, settlement.LedgerHeld)
	}
	return w.Delay
}

// fill appends intents to so many sessions, and returns the last head.
func fill(t testing.TB, l *ledger.Ledger, from, to int) (head settlement.Head) {
	t.Helper()
	for n := from; n <= to; n++ {
		head = mustAppend(t, l, settlement.Head{Session: session(n)}, closing(session(n), outcome("a"), 1))
	}
	return head
}

func TestFallSeenByAnAck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := &ledgertest.Stream{}
		l := ledger.New(mem, config())
		fill(t, l, 1, 5)
		mem.Rewind(2)

		_, err := l.Append(t.Context(), settlement.Head{Session: session(6)}, closing(session(6), outcome("a"), 1))
		if got := held(t, err); got != fence {
			t.Errorf("the append that noticed waits %s, want %s", got, fence)
		}
		if got := len(mem.Messages()); got != 3 {
			t.Errorf("%d messages, want 3: the entry that noticed is stored", got)
		}
		time.Sleep(30 * time.Second)
		_, err = l.Append(t.Context(), settlement.Head{Session: session(7)}, closing(session(7), outcome("a"), 1))
		if got := held(t, err); got != fence-30*time.Second {
			t.Errorf("half a minute later it waits %s", got)
		}
		if got := len(mem.Messages()); got != 3 {
			t.Errorf("%d messages: an intent was appended while nothing may be sent", got)
		}
		mustAppend(t, l, settlement.Head{Session: session(8)}, recovered(session(8), outcome("a"), 0))
		head := mustHead(t, l, session(6))
		mustAppend(t, l, head, failed(head, session(6), outcome("b"), 0))

		time.Sleep(fence)
		fill(t, l, 9, 12)
		mustVerify(t, l)
	})
}

func TestFreshProcessDoesNotWait(t *testing.T) {
	mem := &ledgertest.Stream{}
	fill(t, ledger.New(mem, config()), 1, 5)
	mem.Rewind(2)
	fill(t, ledger.New(mem, config()), 6, 7)
}

// TestFallSeenByALostHead: the entry that ours was to follow is gone, which shows
// once the publish is refused.
func TestFallSeenByALostHead(t *testing.T) {
	mem := &ledgertest.Stream{}
	l := ledger.New(mem, config())
	head := fill(t, l, 1, 3)
	mem.Rewind(2)
	_, err := l.Append(t.Context(), head, closed(session(3), outcome("a"), 1))
	if !errors.Is(err, settlement.ErrHeadMoved) {
		t.Errorf("append to a head that was lost: %v, want ErrMoved", err)
	}
	_, err = l.Append(t.Context(), mustHead(t, l, session(3)), closing(session(3), outcome("a"), 1))
	held(t, err)
}

func TestFallSeenByReplacedHead(t *testing.T) {
	mem := &ledgertest.Stream{}
	l := ledger.New(mem, config())
	head := fill(t, l, 1, 3)
	mem.Rewind(2)
	other := ledger.New(mem, config())
	mustAppend(t, other, settlement.Head{Session: session(3)}, closing(session(3), outcome("a"), 1))
	mem.FaultFunc = once(ledgertest.Publish, false)
	if _, err := l.Append(t.Context(), head, closing(session(3), outcome("a"), 2)); !errors.Is(err, settlement.ErrHeadMoved) {
		t.Errorf("append to a head of the same sequence and another hash: %v, want ErrMoved", err)
	}
	_, err := l.Append(t.Context(), mustHead(t, l, session(4)), closing(session(4), outcome("a"), 1))
	held(t, err)
}

// TestFallWhileOursIsOnItsWay: another append notices while this one is stored.
func TestFallWhileOursIsOnItsWay(t *testing.T) {
	mem := &ledgertest.Stream{}
	l := ledger.New(mem, config())
	fill(t, l, 1, 5)
	noticed := false
	mem.FaultFunc = func(op ledgertest.Op) (bool, error) {
		if op == ledgertest.Publish && !noticed {
			noticed = true
			mem.Rewind(2)
			_, err := l.Append(t.Context(), settlement.Head{Session: session(7)}, closing(session(7), outcome("a"), 1))
			held(t, err)
			stranger := ledger.New(mem, config())
			fill(t, stranger, 20, 25) // beyond what was known: the next acknowledgement proves nothing
		}
		return true, nil
	}
	_, err := l.Append(t.Context(), settlement.Head{Session: session(6)}, closing(session(6), outcome("a"), 1))
	held(t, err)
}

// TestReconnected: a fall that others' new entries have covered is found by asking
// for the furthest entry that is known, by the next check or the next append.
func TestReconnected(t *testing.T) {
	for _, c := range []struct {
		it     string
		change func(*ledgertest.Stream)
		fell   bool
	}{
		{"nothing changed", func(*ledgertest.Stream) {}, false},
		{"others went on", func(m *ledgertest.Stream) { fill(t, ledger.New(m, config()), 20, 25) }, false},
		{"the tail is gone", func(m *ledgertest.Stream) { m.Rewind(4) }, true},
		{"all is gone", func(m *ledgertest.Stream) { m.Rewind(0) }, true},
		{"others covered the gap", func(m *ledgertest.Stream) {
			m.Rewind(2)
			fill(t, ledger.New(m, config()), 20, 25)
		}, true},
	} {
		for _, away := range []bool{false, true} {
			mem := &ledgertest.Stream{}
			l := ledger.New(mem, config())
			fill(t, l, 1, 5)
			c.change(mem)
			if away { // NATS is back, but the stream has no leader yet
				mem.FaultFunc = once(ledgertest.Get, false)
			}
			l.Reconnected()
			if err := l.Check(t.Context()); (err != nil) != (away || c.fell) {
				t.Errorf("%s, away %t: %v", c.it, away, err)
			}
			_, err := l.Append(t.Context(), settlement.Head{Session: session(6)}, closing(session(6), outcome("a"), 1))
			if c.fell {
				held(t, err)
				held(t, l.Complete(t.Context(), time.Hour))
			} else if err = errors.Join(err, l.Complete(t.Context(), time.Hour)); err != nil {
				t.Errorf("%s, away %t: %v", c.it, away, err)
			}
		}
	}
}

// TestReadsDoNotHideAFall: what is read and stored after an absence, before anybody
// looked, goes beyond the last message that was known; that one is looked for all the
// same. What was read meanwhile is known afterwards.
func TestReadsDoNotHideAFall(t *testing.T) {
	for name, meanwhile := range map[string]func(*testing.T, *ledger.Ledger){
		"a read": func(t *testing.T, l *ledger.Ledger) { mustHead(t, l, session(28)) },
		"an append": func(t *testing.T, l *ledger.Ledger) {
			mustAppend(t, l, settlement.Head{Session: session(40)}, failed(settlement.Head{}, session(40), outcome("b"), 0))
		},
	} {
		for _, fell := range []bool{true, false} {
			mem := &ledgertest.Stream{}
			l := ledger.New(mem, config())
			fill(t, l, 1, 5)
			if fell {
				mem.Rewind(2)
			}
			fill(t, ledger.New(mem, config()), 20, 28)
			l.Reconnected()
			meanwhile(t, l)
			if err := l.Check(t.Context()); (err != nil) != fell {
				t.Errorf("%s, fell %t: %v", name, fell, err)
			}
			if fell {
				continue
			}
			mem.Rewind(8) // what was read after the absence is gone now
			l.Reconnected()
			held(t, l.Check(t.Context()))
		}
	}
}

// TestNoSendBeforeTheLook: as long as it is not known whether the stream fell,
// intents are not appended.
func TestNoSendBeforeTheLook(t *testing.T) {
	mem := &ledgertest.Stream{}
	l := ledger.New(mem, config())
	fill(t, l, 1, 2)
	mem.FaultFunc = func(op ledgertest.Op) (bool, error) { return op == ledgertest.Publish, errLost }
	l.Reconnected()
	if err := l.Check(t.Context()); !errors.Is(err, errLost) {
		t.Fatalf("look without an answer: %v", err)
	}
	if _, err := l.Append(t.Context(), settlement.Head{Session: session(3)}, closing(session(3), outcome("a"), 1)); !errors.Is(err, errLost) {
		t.Errorf("append before the look: %v", err)
	}
	if got := len(mem.Messages()); got != 2 {
		t.Errorf("%d messages, want 2", got)
	}
}

// TestRestoredServer takes a real server back to an earlier copy of its store, under
// a process that goes on.
func TestRestoredServer(t *testing.T) {
	opts := serverOptions
	s := runServer(t, opts)
	js := connect(t, s)
	l := mustOpen(t, js, config())
	fill(t, l, 1, 3)
	store, backup := s.StoreDir(), t.TempDir()
	port := s.Addr().String()

	s.Shutdown()
	s.WaitForShutdown()
	copyTree(t, filepath.Dir(store), backup)
	s = restart(t, port, filepath.Dir(store))
	awaitHead(t, l, 3)
	fill(t, l, 4, 8)

	s.Shutdown()
	s.WaitForShutdown()
	if err := os.RemoveAll(store); err != nil {
		t.Fatal(err)
	}
	copyTree(t, backup, filepath.Dir(store))
	restart(t, port, filepath.Dir(store))
	awaitHead(t, l, 3)
	_, err := l.Append(t.Context(), settlement.Head{Session: session(9)}, closing(session(9), outcome("a"), 1))
	if got := held(t, err); got <= 0 || got > fence {
		t.Errorf("waits %s, want at most %s", got, fence)
	}
	mustAppend(t, l, mustHead(t, l, session(3)), closed(session(3), outcome("a"), 1))
	if r := mustVerify(t, l); r.Last != 5 {
		t.Errorf("the ledger ends at %d, want 5", r.Last)
	}
}

// TestFallByOneEntry: the acknowledged sequence is the very one that was known.
func TestFallByOneEntry(t *testing.T) {
	mem := &ledgertest.Stream{}
	l := ledger.New(mem, config())
	fill(t, l, 1, 5)
	mem.Rewind(4)
	_, err := l.Append(t.Context(), settlement.Head{Session: session(6)}, closing(session(6), outcome("a"), 1))
	held(t, err)
}

// TestFallSeenByOursAtTheHead: the acknowledgement was lost, and the entry is found
// where it can't be, had the stream kept what it had.
func TestFallSeenByOursAtTheHead(t *testing.T) {
	mem := &ledgertest.Stream{}
	l := ledger.New(mem, config())
	fill(t, l, 1, 5)
	mem.Rewind(2)
	mem.FaultFunc = once(ledgertest.Publish, true)
	_, err := l.Append(t.Context(), settlement.Head{Session: session(6)}, closing(session(6), outcome("a"), 1))
	held(t, err)
}

// slow lets something happen between the server's answer to a read and its arrival.
type slow struct {
	ledger.Stream
	meanwhile func()
	reads     int // until it happens
}

func (s *slow) Get(ctx context.Context, filter string, from uint64) (ledger.Message, error) {
	m, err := s.Stream.Get(ctx, filter, from)
	if s.reads--; s.meanwhile != nil && s.reads <= 0 {
		f := s.meanwhile
		s.meanwhile = nil
		f()
	}
	return m, err
}

// TestOldNewsIsNoFall: an answer from before the fall that arrives after it must not
// make the next append look like another fall.
func TestOldNewsIsNoFall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := &ledgertest.Stream{}
		seam := &slow{Stream: mem}
		l := ledger.New(seam, config())
		fill(t, l, 1, 5)
		seam.reads = 2 // the last read of a session with one entry
		seam.meanwhile = func() {
			mem.Rewind(2)
			_, err := l.Append(t.Context(), settlement.Head{Session: session(6)}, closing(session(6), outcome("a"), 1))
			held(t, err)
		}
		if head := mustHead(t, l, session(5)); head.Sequence() != 5 {
			t.Fatalf("head %d, want the answer from before the fall", head.Sequence())
		}
		time.Sleep(fence)
		fill(t, l, 7, 7)
	})
}
