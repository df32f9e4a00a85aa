package ledger_test

import (
	"context"
	"errors"
	"maps"
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

	"github.com/nats-io/nats.go/jetstream"
)

var made = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

// TestMeet: the first stream that a process sees is waited for where it was lost.
func TestMeet(t *testing.T) {
	for name, c := range map[string]struct {
		is   ledger.ReportedOrigin
		wait time.Duration
	}{
		"recreated just now":                {ledger.ReportedOrigin{Used: true}, fence},
		"recreated half a minute ago":       {ledger.ReportedOrigin{Origin: ledger.Origin{Age: 30 * time.Second}, Used: true}, fence - 30*time.Second},
		"the servers' clocks disagree":      {ledger.ReportedOrigin{Origin: ledger.Origin{Age: -time.Hour}, Used: true}, fence},
		"recreated a fence period ago":      {ledger.ReportedOrigin{Origin: ledger.Origin{Age: fence}, Used: true}, 0},
		"never there before":                {ledger.ReportedOrigin{}, 0},
		"old, and nobody asks for outcomes": {ledger.ReportedOrigin{Origin: ledger.Origin{Age: time.Hour}, UsedErr: errLost}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := ledger.New(&ledgertest.Stream{}, config())
				c.is.Created = made
				l.SetOrigins(func() ledger.ReportedOrigin { return c.is })
				if c.wait == 0 {
					fill(t, l, 1, 2)
					return
				}
				if got := held(t, l.Check(t.Context())); got != c.wait {
					t.Errorf("waits %s, want %s", got, c.wait)
				}
				if err := l.Check(t.Context()); !strings.Contains(err.Error(), "STREAM SETTLEMENTS WAS LOST") {
					t.Errorf("%v, want it told", err)
				}
				heldIntent(t, l, 1)
				time.Sleep(c.wait)
				fill(t, l, 1, 2)
			})
		})
	}
}

// TestMeetUnasked: a ledger that nobody checked sends nothing either.
func TestMeetUnasked(t *testing.T) {
	l := ledger.New(&ledgertest.Stream{}, config())
	l.SetOrigins(func() ledger.ReportedOrigin {
		return ledger.ReportedOrigin{Origin: ledger.Origin{Created: made}, Used: true}
	})
	heldIntent(t, l, 1)
}

// TestReplacedAndOvertaken: another stream took the place of the known one, and has
// more entries by now: no sequence shows it.
func TestReplacedAndOvertaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem, is := &ledgertest.Stream{}, ledger.ReportedOrigin{Origin: ledger.Origin{Created: made, Age: time.Hour}}
		l := ledger.New(mem, config())
		l.SetOrigins(func() ledger.ReportedOrigin { return is })
		fill(t, l, 1, 3)
		mem.Rewind(0)
		is = ledger.ReportedOrigin{Origin: ledger.Origin{Created: made.Add(time.Hour), Age: 10 * time.Second}}
		fill(t, ledger.New(mem, config()), 11, 19)
		if got := heldIntent(t, l, 1); got != fence { // how old it says it is proves nothing: clocks are set
			t.Errorf("waits %s", got)
		}
		time.Sleep(fence)
		fill(t, l, 21, 22)

		mem.Rewind(3)
		is = ledger.ReportedOrigin{Origin: ledger.Origin{Created: made, Age: 2 * time.Hour}} // a copy of the first one, brought back
		if got := held(t, l.Check(t.Context())); got != fence {
			t.Errorf("waits %s for an older copy", got)
		}
	})
}

// TestVersionedIntentIsNotHeld: of two requests made from one version one is
// executed, whatever the ledger forgot.
func TestVersionedIntentIsNotHeld(t *testing.T) {
	l := ledger.New(&ledgertest.Stream{}, config())
	l.SetOrigins(func() ledger.ReportedOrigin {
		return ledger.ReportedOrigin{Origin: ledger.Origin{Created: made}, Used: true}
	})
	held(t, l.Check(t.Context()))
	e := closing(session(1), outcome("a"), 1)
	e.ValidUntil, e.BaseVersion = nil, ptr(uint64(1))
	mustAppend(t, l, settlement.Head{Session: session(1)}, e)
}

// TestNothingIsSentOnAGuess: where it can't be told which stream it is, or whether
// it was lost, or its settings endanger money, an intent gives no right to send.
func TestNothingIsSentOnAGuess(t *testing.T) {
	for name, is := range map[string]ledger.ReportedOrigin{
		"no answer":                  {Err: errLost},
		"no stream":                  {Err: ledger.ErrMissing},
		"the outcomes can't be seen": {Origin: ledger.Origin{Created: made}, UsedErr: errLost},
		"made by hand, carelessly":   {Origin: ledger.Origin{Created: made, Age: time.Hour, Dangers: []string{"max_age 1h: drops old entries"}}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := ledger.New(&ledgertest.Stream{}, config())
				now := is
				l.SetOrigins(func() ledger.ReportedOrigin { return now })
				if err := l.Check(t.Context()); err == nil {
					t.Error("nothing is wrong")
				}
				if err := l.Complete(t.Context(), time.Second); err == nil {
					t.Error("the ledger is complete")
				}
				head, err := l.Append(t.Context(), settlement.Head{Session: session(1)}, closing(session(1), outcome("a"), 1))
				if err == nil || errors.Is(err, settlement.ErrHeadMoved) {
					t.Errorf("append answers %+v, %v", head, err)
				}
				now = ledger.ReportedOrigin{Origin: ledger.Origin{Created: made, Age: time.Hour}}
				fill(t, l, 2, 3)
			})
		})
	}
}

// TestOneLookForMany: whoever waits while another looks shares the look that begins
// after it asked.
func TestOneLookForMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config()
		var now atomic.Int64
		cfg.NowFunc = func() time.Time { return made.Add(time.Duration(now.Add(1))) }
		l := ledger.New(&ledgertest.Stream{}, cfg)
		looks, release := 0, make(chan struct{})
		l.SetOrigins(func() ledger.ReportedOrigin {
			looks++
			<-release
			return ledger.ReportedOrigin{Origin: ledger.Origin{Created: made, Age: time.Hour}}
		})
		var checks sync.WaitGroup
		check := func() {
			if err := l.Check(context.Background()); err != nil {
				t.Error(err)
			}
		}
		checks.Go(check)
		synctest.Wait() // its look is under way before any other is asked for
		for range 19 {
			checks.Go(check)
		}
		synctest.Wait()
		close(release)
		checks.Wait()
		if looks != 2 {
			t.Errorf("%d looks, want the one that was under way and one for all others", looks)
		}
	})
}

// TestLostOnAServer: what the servers say of the streams is read right.
func TestLostOnAServer(t *testing.T) {
	other := func(t *testing.T, js jetstream.JetStream, name string, messages int) jetstream.Stream {
		stream := natstest.Must(js.CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{strings.ToLower(name) + ".*"}}))
		for range messages {
			natstest.Must(js.Publish(t.Context(), strings.ToLower(name)+".x", nil))
		}
		return stream
	}
	for name, c := range map[string]struct {
		before, after func(*testing.T, jetstream.JetStream)
		held          bool
	}{
		"nothing is older":     {},
		"outcomes never used":  {before: func(t *testing.T, js jetstream.JetStream) { other(t, js, "OUTCOMES", 0) }},
		"outcomes are older":   {before: func(t *testing.T, js jetstream.JetStream) { other(t, js, "OUTCOMES", 2) }, held: true},
		"letters are older":    {before: func(t *testing.T, js jetstream.JetStream) { other(t, js, "DEADLETTERS", 1) }, held: true},
		"outcomes are younger": {after: func(t *testing.T, js jetstream.JetStream) { other(t, js, "OUTCOMES", 2) }},
		"the first outcome is younger": {
			before: func(t *testing.T, js jetstream.JetStream) { other(t, js, "OUTCOMES", 0) },
			after: func(t *testing.T, js jetstream.JetStream) {
				natstest.Must(js.Publish(t.Context(), "outcomes.x", nil))
			},
		},
		"old outcomes were purged": {before: func(t *testing.T, js jetstream.JetStream) {
			natstest.OK(t, other(t, js, "OUTCOMES", 2).Purge(t.Context()))
		}, held: true},
	} {
		t.Run(name, func(t *testing.T) {
			js := natstest.Connect(t, newServer(t)) // of its own: a server may still be removing what was deleted
			if c.before != nil {
				c.before(t, js)
			}
			l := mustOpen(t, js, config())
			if c.after != nil {
				c.after(t, js)
			}
			for _, l := range []*ledger.Ledger{l, mustOpen(t, js, config())} { // who made it, and who finds it
				err := l.Check(t.Context())
				if c.held {
					held(t, err)
				} else if err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestReplacedOnAServer: deleted, missing, made again by another party, also badly.
func TestReplacedOnAServer(t *testing.T) {
	js := natstest.Connect(t, newServer(t))
	l := mustOpen(t, js, config())
	natstest.OK(t, l.Check(t.Context()))
	fill(t, l, 1, 2)
	natstest.OK(t, js.DeleteStream(t.Context(), "SETTLEMENTS"))
	if err := l.Check(t.Context()); !errors.Is(err, ledger.ErrMissing) || !strings.Contains(err.Error(), "nats stream restore") {
		t.Errorf("%v, want it to be missing and what to do", err)
	}
	bad := ledger.StreamConfig(config())
	bad.DenyDelete = false
	await(t, "the server to have removed what was deleted", func() bool {
		_, err := js.CreateStream(t.Context(), bad)
		return err == nil
	})
	var waiting *settlement.Waiting
	if err := l.Check(t.Context()); err == nil || errors.As(err, &waiting) || !strings.Contains(err.Error(), "deny_delete") {
		t.Errorf("%v, want it refused for its settings", err)
	}
	natstest.OK(t, js.DeleteStream(t.Context(), "SETTLEMENTS"))
	var anew *ledger.Ledger
	await(t, "the server to have removed it once more", func() bool {
		var err error
		anew, _, err = ledger.Open(t.Context(), js, config())
		return err == nil
	})
	fill(t, anew, 1, 5)
	held(t, l.Check(t.Context()))
}

// held demands that an error is the ledger's wait, and returns how long.
func held(t *testing.T, err error) time.Duration {
	t.Helper()
	var w *settlement.Waiting
	if !errors.As(err, &w) || w.Reason != settlement.LedgerHeld {
		t.Fatalf("%v, want to wait as %s", err, settlement.LedgerHeld)
	}
	return w.Delay
}

// heldIntent appends an intent to a session, which must wait, and returns how long.
func heldIntent(t *testing.T, l *ledger.Ledger, n int) time.Duration {
	t.Helper()
	_, err := l.Append(t.Context(), settlement.Head{Session: session(n)}, closing(session(n), outcome("a"), 1))
	return held(t, err)
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

		if got := heldIntent(t, l, 6); got != fence {
			t.Errorf("the append that noticed waits %s, want %s", got, fence)
		}
		if got := len(mem.Messages()); got != 3 {
			t.Errorf("%d messages, want 3: the entry that noticed is stored", got)
		}
		time.Sleep(30 * time.Second)
		if got := heldIntent(t, l, 7); got != fence-30*time.Second {
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
			heldIntent(t, l, 7)
			stranger := ledger.New(mem, config())
			fill(t, stranger, 20, 25) // beyond what was known: the next acknowledgement proves nothing
		}
		return true, nil
	}
	heldIntent(t, l, 6)
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
	s := newServer(t)
	l := mustOpen(t, natstest.Connect(t, s), config())
	fill(t, l, 1, 3)
	s, restore := natstest.Backup(t, s)
	awaitHead(t, l, 3)
	fill(t, l, 4, 8)
	restore(s)
	awaitHead(t, l, 3)
	if got := heldIntent(t, l, 9); got <= 0 || got > fence {
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
	heldIntent(t, l, 6)
}

// TestFallSeenByOursAtTheHead: the acknowledgement was lost, and the entry is found
// where it can't be, had the stream kept what it had.
func TestFallSeenByOursAtTheHead(t *testing.T) {
	mem := &ledgertest.Stream{}
	l := ledger.New(mem, config())
	fill(t, l, 1, 5)
	mem.Rewind(2)
	mem.FaultFunc = once(ledgertest.Publish, true)
	heldIntent(t, l, 6)
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
			heldIntent(t, l, 6)
		}
		if head := mustHead(t, l, session(5)); head.Sequence() != 5 {
			t.Fatalf("head %d, want the answer from before the fall", head.Sequence())
		}
		time.Sleep(fence)
		fill(t, l, 7, 7)
	})
}

// tails is ledger.Tail in memory.
type tails struct {
	mu   sync.Mutex
	kept map[time.Time]ledger.TailEntry
}

func (t *tails) Recall(_ string, created time.Time) (ledger.TailEntry, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.kept[created]
	return e, ok
}

func (t *tails) Keep(_ string, created time.Time, e ledger.TailEntry, again bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.kept == nil {
		t.kept = map[time.Time]ledger.TailEntry{}
	}
	if again || e.Sequence >= t.kept[created].Sequence {
		t.kept[created] = e
	}
}

// TestSetBackWhileStopped: the tail of the stream is lost while no ledger is there, and
// another one begins. What was recorded before a request is sent is what counts, so
// nothing of the end of the first ledger matters.
func TestSetBackWhileStopped(t *testing.T) {
	for name, c := range map[string]struct {
		change func(t *testing.T, mem *ledgertest.Stream)
		held   bool
	}{
		"nothing changed":  {func(*testing.T, *ledgertest.Stream) {}, false},
		"others went on":   {func(t *testing.T, m *ledgertest.Stream) { fill(t, ledger.New(m, config()), 20, 23) }, false},
		"the last is gone": {func(_ *testing.T, m *ledgertest.Stream) { m.Rewind(4) }, true},
		"gone, and others went on": {func(t *testing.T, m *ledgertest.Stream) {
			m.Rewind(3)
			fill(t, ledger.New(m, config()), 20, 25)
		}, true},
		"all is gone": {func(_ *testing.T, m *ledgertest.Stream) { m.Rewind(0) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				mem, kept, is := &ledgertest.Stream{}, &tails{}, ledger.ReportedOrigin{Origin: ledger.Origin{Created: made, Age: time.Hour}}
				begin := func() *ledger.Ledger {
					cfg := config()
					cfg.Tail = kept
					l := ledger.New(mem, cfg)
					l.SetOrigins(func() ledger.ReportedOrigin { return is })
					return l
				}
				fill(t, begin(), 1, 5)
				c.change(t, mem)
				l := begin()
				intent := closing(session(6), outcome("a"), 1)
				if !c.held {
					fill(t, l, 6, 6)
					if !l.TailFound() {
						t.Error("what was remembered wasn't found")
					}
					return
				}
				_, err := l.Append(t.Context(), settlement.Head{Session: session(6)}, intent)
				if got := held(t, err); got != fence {
					t.Errorf("waits %s", got)
				}
				time.Sleep(fence / 2)
				before := maps.Clone(kept.kept)
				again := begin() // stopped and started while it waits
				_, err = again.Append(t.Context(), settlement.Head{Session: session(6)}, intent)
				if got := held(t, err); got != fence {
					t.Errorf("after another start it waits %s", got)
				}
				if !maps.Equal(before, kept.kept) {
					t.Error("forgot what it waits for")
				}
				time.Sleep(fence)
				fill(t, again, 8, 9)
				fill(t, begin(), 10, 11)
			})
		})
	}
}

// TestEntriesMissingAtTheStart: a stream that lost messages before this process saw it is
// held unless the last entry that was remembered is in it.
func TestEntriesMissingAtTheStart(t *testing.T) {
	for name, c := range map[string]struct {
		kept    *ledger.TailEntry
		removed uint64
		held    bool
	}{
		"nothing missing, nothing remembered":       {nil, 0, false},
		"nothing remembered":                        {nil, 3, true},
		"remembered as empty":                       {&ledger.TailEntry{}, 3, true},
		"remembered as empty, and still so":         {&ledger.TailEntry{}, 0, false},
		"missing for long: the last one is in it":   {&ledger.TailEntry{Sequence: 5, Removed: 3}, 3, false},
		"the last one is in it, others went since":  {&ledger.TailEntry{Sequence: 5, Removed: 2}, 3, true},
		"the one that was remembered is among them": {&ledger.TailEntry{Sequence: 9}, 3, true},
	} {
		mem, kept, cfg := &ledgertest.Stream{}, &tails{}, config()
		fill(t, ledger.New(mem, cfg), 1, 5)
		if cfg.Tail = kept; c.kept != nil {
			if c.kept.Sequence == 5 {
				c.kept.Digest = ledger.Digest(mem.Messages()[4].Payload)
			}
			kept.Keep(ledger.StreamName(""), made, *c.kept, false)
		}
		l := ledger.New(mem, cfg)
		l.SetOrigins(func() ledger.ReportedOrigin {
			return ledger.ReportedOrigin{Origin: ledger.Origin{Created: made, Age: time.Hour, Last: 5, Removed: c.removed}}
		})
		if err := l.Check(t.Context()); (err != nil) != c.held {
			t.Errorf("%s: %v", name, err)
		} else if c.held {
			held(t, err)
		}
	}
}

// TestRecallFails: where it can't be told whether the entry is there nothing is sent.
func TestRecallFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem, kept := &ledgertest.Stream{}, &tails{}
		cfg := config()
		cfg.Tail = kept
		kept.Keep("", made, ledger.TailEntry{Sequence: 1, Digest: "x"}, false)
		l := ledger.New(mem, cfg)
		l.SetOrigins(func() ledger.ReportedOrigin {
			return ledger.ReportedOrigin{Origin: ledger.Origin{Created: made, Age: time.Hour}}
		})
		mem.FaultFunc = func(ledgertest.Op) (bool, error) { return false, errLost }
		var waits *settlement.Waiting
		if err := l.Check(t.Context()); err == nil || errors.As(err, &waits) {
			t.Errorf("%v", err)
		}
		mem.FaultFunc = nil
		held(t, l.Check(t.Context()))
	})
}

// TestReusedSequence: a stream was restored from an older copy, and another process stored
// an entry of the session under the sequence that the head had. The server takes an append
// that expects that sequence; it is not on the chain, and must not count as recorded,
// whatever it says.
func TestReusedSequence(t *testing.T) {
	for name, tail := range map[string]int{"the head": 0, "behind a foreign message": 1} {
		for state, entry := range map[string]func(head settlement.Head) settlement.Entry{
			"closing": func(settlement.Head) settlement.Entry { return closing(session(3), outcome("a"), 2) },
			"closed":  func(settlement.Head) settlement.Entry { return closed(session(3), outcome("a"), 1) },
			"failed":  func(h settlement.Head) settlement.Entry { return failed(h, session(3), outcome("a"), 1) },
		} {
			mem := &ledgertest.Stream{}
			l := ledger.New(mem, config())
			head := fill(t, l, 1, 3)
			for range tail {
				mem.Put(mem.Messages()[2].Subject, []byte("foreign"))
				head = mustHead(t, l, session(3))
			}
			mem.Rewind(2 + uint64(tail))
			if tail > 0 { // the head is there, and what came after it is not
				mem.Rewind(3)
			}
			other := ledger.New(mem, config())
			now := mustHead(t, other, session(3))
			mustAppend(t, other, now, failed(now, session(3), outcome("b"), 0))
			_, err := l.Append(t.Context(), head, entry(head))
			if !errors.Is(err, settlement.ErrHeadMoved) {
				t.Errorf("%s, %s: %v, want %v", name, state, err, settlement.ErrHeadMoved)
			}
			if got := mustHead(t, l, session(3)); got.Last.Outcome != outcome("b") {
				t.Errorf("%s, %s: the head is of %+v", name, state, got.Last.Outcome)
			}
			heldIntent(t, l, 9)
		}
	}
}

// TestReusedSequenceOnAServer is the same on a server whose store is put back.
func TestReusedSequenceOnAServer(t *testing.T) {
	s := newServer(t)
	js := natstest.Connect(t, s)
	l := mustOpen(t, js, config())
	fill(t, l, 1, 2)
	s, restore := natstest.Backup(t, s)
	awaitHead(t, l, 2)
	head := fill(t, l, 3, 3)
	restore(s)
	awaitHead(t, l, 2)
	other := mustOpen(t, js, config())
	none := settlement.Head{Session: session(3)}
	mustAppend(t, other, none, failed(none, session(3), outcome("b"), 0))
	for n := 4; n <= 6; n++ { // beyond all that the first process knew
		none := settlement.Head{Session: session(n)}
		mustAppend(t, other, none, failed(none, session(n), outcome("b"), 0))
	}
	if _, err := l.Append(t.Context(), head, closed(session(3), outcome("a"), 1)); !errors.Is(err, settlement.ErrHeadMoved) {
		t.Errorf("%v, want %v", err, settlement.ErrHeadMoved)
	}
	if got := mustHead(t, l, session(3)); got.Last.Outcome != outcome("b") || got.N() != 1 {
		t.Errorf("the head is entry %d of %+v", got.N(), got.Last.Outcome)
	}
}
