package ledger_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"settled/ledger"
	"settled/ledger/ledgertest"
	"settled/settlement"

	"github.com/nats-io/nats.go/jetstream"
)

var made = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

// TestMeet: the first stream that a process sees is waited for where it was lost.
func TestMeet(t *testing.T) {
	for name, c := range map[string]struct {
		is   ledger.Told
		wait time.Duration
	}{
		"recreated just now":                {ledger.Told{Used: true}, fence},
		"recreated half a minute ago":       {ledger.Told{Origin: ledger.Origin{Age: 30 * time.Second}, Used: true}, fence - 30*time.Second},
		"the servers' clocks disagree":      {ledger.Told{Origin: ledger.Origin{Age: -time.Hour}, Used: true}, fence},
		"recreated a fence ago":             {ledger.Told{Origin: ledger.Origin{Age: fence}, Used: true}, 0},
		"never there before":                {ledger.Told{}, 0},
		"old, and nobody asks for outcomes": {ledger.Told{Origin: ledger.Origin{Age: time.Hour}, UsedErr: errLost}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := ledger.New(&ledgertest.Stream{}, config())
				c.is.Created = made
				l.AskFunc(func() ledger.Told { return c.is })
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
				_, err := l.Append(t.Context(), settlement.Head{Session: session(1)}, closing(session(1), outcome("a"), 1))
				held(t, err)
				time.Sleep(c.wait)
				fill(t, l, 1, 2)
			})
		})
	}
}

// TestMeetUnasked: a ledger that nobody checked sends nothing either.
func TestMeetUnasked(t *testing.T) {
	l := ledger.New(&ledgertest.Stream{}, config())
	l.AskFunc(func() ledger.Told { return ledger.Told{Origin: ledger.Origin{Created: made}, Used: true} })
	_, err := l.Append(t.Context(), settlement.Head{Session: session(1)}, closing(session(1), outcome("a"), 1))
	held(t, err)
}

// TestReplacedAndOvertaken: another stream took the place of the known one, and has
// more entries by now: no sequence shows it.
func TestReplacedAndOvertaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem, is := &ledgertest.Stream{}, ledger.Told{Origin: ledger.Origin{Created: made, Age: time.Hour}}
		l := ledger.New(mem, config())
		l.AskFunc(func() ledger.Told { return is })
		fill(t, l, 1, 3)
		mem.Rewind(0)
		is = ledger.Told{Origin: ledger.Origin{Created: made.Add(time.Hour), Age: 10 * time.Second}}
		fill(t, ledger.New(mem, config()), 11, 19)
		_, err := l.Append(t.Context(), settlement.Head{Session: session(1)}, closing(session(1), outcome("a"), 1))
		if got := held(t, err); got != fence { // how old it says it is proves nothing: clocks are set
			t.Errorf("waits %s", got)
		}
		time.Sleep(fence)
		fill(t, l, 21, 22)

		mem.Rewind(3)
		is = ledger.Told{Origin: ledger.Origin{Created: made, Age: 2 * time.Hour}} // a copy of the first one, brought back
		if got := held(t, l.Check(t.Context())); got != fence {
			t.Errorf("waits %s for an older copy", got)
		}
	})
}

// TestVersionedIntentIsNotHeld: of two requests made from one version one is
// carried out, whatever the ledger forgot.
func TestVersionedIntentIsNotHeld(t *testing.T) {
	l := ledger.New(&ledgertest.Stream{}, config())
	l.AskFunc(func() ledger.Told { return ledger.Told{Origin: ledger.Origin{Created: made}, Used: true} })
	held(t, l.Check(t.Context()))
	e := closing(session(1), outcome("a"), 1)
	e.ValidUntil, e.BaseVersion = nil, ptr(uint64(1))
	mustAppend(t, l, settlement.Head{Session: session(1)}, e)
}

// TestNothingIsSentOnAGuess: where it can't be told which stream it is, or whether
// it was lost, or its settings endanger money, an intent gives no right to send.
func TestNothingIsSentOnAGuess(t *testing.T) {
	for name, is := range map[string]ledger.Told{
		"no answer":                  {Err: errLost},
		"no stream":                  {Err: ledger.ErrMissing},
		"the outcomes can't be seen": {Origin: ledger.Origin{Created: made}, UsedErr: errLost},
		"made by hand, carelessly":   {Origin: ledger.Origin{Created: made, Age: time.Hour, Dangers: []string{"max_age 1h: drops old entries"}}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := ledger.New(&ledgertest.Stream{}, config())
				now := is
				l.AskFunc(func() ledger.Told { return now })
				if err := l.Check(t.Context()); err == nil {
					t.Error("nothing is wrong")
				}
				head, err := l.Append(t.Context(), settlement.Head{Session: session(1)}, closing(session(1), outcome("a"), 1))
				if err == nil || errors.Is(err, settlement.ErrHeadMoved) {
					t.Errorf("append answers %+v, %v", head, err)
				}
				now = ledger.Told{Origin: ledger.Origin{Created: made, Age: time.Hour}}
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
		l.AskFunc(func() ledger.Told {
			looks++
			<-release
			return ledger.Told{Origin: ledger.Origin{Created: made, Age: time.Hour}}
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
		stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{strings.ToLower(name) + ".*"}})
		if err != nil {
			t.Fatal(err)
		}
		for range messages {
			if _, err := js.Publish(t.Context(), strings.ToLower(name)+".x", nil); err != nil {
				t.Fatal(err)
			}
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
				if _, err := js.Publish(t.Context(), "outcomes.x", nil); err != nil {
					t.Fatal(err)
				}
			},
		},
		"old outcomes were purged": {before: func(t *testing.T, js jetstream.JetStream) {
			if err := other(t, js, "OUTCOMES", 2).Purge(t.Context()); err != nil {
				t.Fatal(err)
			}
		}, held: true},
	} {
		t.Run(name, func(t *testing.T) {
			js := connect(t, runServer(t, serverOptions)) // of its own: a server may still be removing what was deleted
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

// TestReplacedOnAServer: deleted, missing, made again by somebody else, also badly.
func TestReplacedOnAServer(t *testing.T) {
	js := connect(t, runServer(t, serverOptions))
	l := mustOpen(t, js, config())
	if err := l.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	fill(t, l, 1, 2)
	if err := js.DeleteStream(t.Context(), "SETTLEMENTS"); err != nil {
		t.Fatal(err)
	}
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
	if err := js.DeleteStream(t.Context(), "SETTLEMENTS"); err != nil {
		t.Fatal(err)
	}
	var anew *ledger.Ledger
	await(t, "the server to have removed it once more", func() bool {
		var err error
		anew, _, err = ledger.Open(t.Context(), js, config())
		return err == nil
	})
	fill(t, anew, 1, 5)
	held(t, l.Check(t.Context()))
}
