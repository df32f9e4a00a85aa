package ledger_test

import (
	"errors"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"settled/ledger"
	"settled/ledger/ledgertest"
	"settled/settlement"
)

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
				mem, kept, is := &ledgertest.Stream{}, &tails{}, ledger.Told{Origin: ledger.Origin{Created: made, Age: time.Hour}}
				begin := func() *ledger.Ledger {
					cfg := config()
					cfg.Tail = kept
					l := ledger.New(mem, cfg)
					l.AskFunc(func() ledger.Told { return is })
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
		l.AskFunc(func() ledger.Told {
			return ledger.Told{Origin: ledger.Origin{Created: made, Age: time.Hour, Last: 5, Removed: c.removed}}
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
		l.AskFunc(func() ledger.Told { return ledger.Told{Origin: ledger.Origin{Created: made, Age: time.Hour}} })
		mem.FaultFunc = func(ledgertest.Op) (bool, error) { return false, errLost }
		var waits *settlement.Waiting
		if err := l.Check(t.Context()); err == nil || errors.As(err, &waits) {
			t.Errorf("%v", err)
		}
		mem.FaultFunc = nil
		held(t, l.Check(t.Context()))
	})
}
