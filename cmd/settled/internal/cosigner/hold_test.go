package cosigner

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"settled/cmd/settled/internal/config"
	"settled/settlement"
)

func TestCosignHold(t *testing.T) {
	h := NewCosignHold(&config.Config{NodeMessageExpiry: 60 * time.Second, NodeRequestValidity: 20 * time.Second, NodeFenceMargin: 20 * time.Second})
	at := func(seconds int) time.Time { return fenceStart.Add(time.Duration(seconds) * time.Second) }
	waits := func(until int) error { return fmt.Errorf("in a round: %w", &cosignerWaits{until: at(until)}) }
	want := func(session string, now, until int) {
		t.Helper()
		got := h.check("s", at(now))
		if session != "s" {
			got = h.check("other", at(now))
		}
		if until == 0 && !got.IsZero() || until > 0 && !got.Equal(at(until)) {
			t.Errorf("%s at %d: held until %s", session, now, got)
		}
	}
	h.note("s", nil, at(0))
	want("s", 1, 0) // a signature alone holds nothing: at some nodes another request comes next
	h.note("s", errors.New("away"), at(1))
	h.note("s", &cosignerWaits{}, at(1))
	want("s", 1, 0)
	h.note("s", waits(10), at(1))
	want("s", 2, 41) // what was signed at 0 has a life of 41 s
	want("other", 2, 0)
	h.note("s", waits(50), at(3))
	want("s", 49, 50)
	want("s", 50, 0)
	want("s", 50, 0)
	h.note("s", waits(100_000), at(60))
	want("s", 60, 60+160) // nobody holds a session for ever
}

// Its memory is of what may still run.
func TestCosignHoldForgets(t *testing.T) {
	h := NewCosignHold(&config.Config{NodeMessageExpiry: time.Minute})
	for i := range 10 * minSweepSize {
		h.note(settlement.SessionID(fmt.Sprint(i)), nil, fenceStart.Add(time.Duration(i)*time.Second))
	}
	if n := len(h.sessions); n > minSweepSize {
		t.Errorf("%d sessions are remembered", n)
	}
}
