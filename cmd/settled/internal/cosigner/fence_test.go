package cosigner

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"settled/settlement"
)

var fenceStart = time.Unix(1_800_000_000, 0)

// fenceCase asks a fence at an instant, which is the node's clock too.
func fenceCase(f *cosignFence, session, payload string, at, until time.Time) error {
	s := settlement.Session{ID: settlement.SessionID(session), Open: true, AsOf: at, ConfirmedStable: true}
	return f.sign(s, []byte(payload), at, func() (time.Time, error) { return until, nil })
}

func wantWaiting(t *testing.T, what string, err error, until time.Time) {
	t.Helper()
	var w *settlement.Waiting
	if !errors.As(err, &w) || w.Reason != settlement.InDoubt || !w.Until.Equal(until) {
		t.Errorf("%s: %v, want to wait until %s", what, err, until)
	}
}

func TestCosignFence(t *testing.T) {
	f := NewCosignFence(fenceStart, 80*time.Second)
	open, until := fenceStart.Add(80*time.Second), fenceStart.Add(120*time.Second)
	wantWaiting(t, "a life after the start, less a moment", fenceCase(f, "s", "a", open.Add(-time.Nanosecond), until), open)
	for _, c := range []struct {
		session, payload string
		at               time.Time
		waits            bool
	}{
		{"s", "a", open, false},
		{"s", "a", open.Add(time.Second), false}, // the same bytes again
		{"s", "b", open.Add(time.Second), true},
		{"other", "b", open.Add(time.Second), false},
		{"s", "b", until.Add(-time.Nanosecond), true},
		{"s", "b", until, false},
	} {
		err := fenceCase(f, c.session, c.payload, c.at, until)
		if c.waits {
			wantWaiting(t, fmt.Sprint(c), err, until)
		} else if err != nil {
			t.Errorf("%v: %v", c, err)
		}
	}
}

// What wasn't signed is not remembered, and a session seen in a troubled moment,
// or a request that would never expire, is not signed for.
func TestCosignFenceSignsNothingElse(t *testing.T) {
	f := NewCosignFence(fenceStart, 0)
	s := settlement.Session{ID: "s", Open: true, AsOf: fenceStart, ConfirmedStable: true}
	broken := errors.New("broken")
	if err := f.sign(s, []byte("a"), fenceStart, func() (time.Time, error) { return fenceStart.Add(time.Minute), broken }); !errors.Is(err, broken) {
		t.Error(err)
	}
	if err := fenceCase(f, "s", "b", fenceStart, fenceStart.Add(time.Minute)); err != nil {
		t.Errorf("nothing was signed, and %v", err)
	}
	if err := fenceCase(f, "endless", "a", fenceStart, time.Time{}); err == nil {
		t.Error("a request that never expires was signed")
	}
	s.ID, s.ConfirmedStable = "loud", false
	wantWaiting(t, "seen in a troubled moment", f.sign(s, []byte("a"), fenceStart, func() (time.Time, error) {
		t.Error("it was signed")
		return fenceStart, nil
	}), time.Time{})
}

// Its memory is bounded: what has run out is forgotten, and nothing else ever is.
func TestCosignFenceIsBounded(t *testing.T) {
	f := NewCosignFence(fenceStart, 0)
	f.limit = 3000
	until := fenceStart.Add(time.Minute)
	for i := range f.limit {
		if err := fenceCase(f, fmt.Sprint("a", i), "x", fenceStart, until); err != nil {
			t.Fatal(i, err)
		}
	}
	wantWaiting(t, "one too many", fenceCase(f, "b", "x", fenceStart, until), time.Time{})
	wantWaiting(t, "other bytes", fenceCase(f, "a7", "y", fenceStart, until), until)
	if err := fenceCase(f, "b", "x", until, until.Add(time.Minute)); err != nil || len(f.signed) != 1 {
		t.Errorf("%d remembered after all had run out: %v", len(f.signed), err)
	}
}

// Of many different requests for one session at once, one is signed.
func TestCosignFenceSignsOneAtATime(t *testing.T) {
	f := NewCosignFence(fenceStart, 0)
	var all sync.WaitGroup
	var mu sync.Mutex
	signed := 0
	for i := range 50 {
		all.Go(func() {
			if fenceCase(f, "s", fmt.Sprint(i), fenceStart, fenceStart.Add(time.Minute)) == nil {
				mu.Lock()
				signed++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if signed != 1 {
		t.Errorf("%d were signed", signed)
	}
}
