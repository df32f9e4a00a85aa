package clearnode_test

import (
	"errors"
	"testing"

	"settled/clearnode/clearnodetest"
	"settled/settlement"
)

// TestNothingIsPreparedThatCouldNotLeave: a request that our own rate holds back
// waits before it is recorded, where it costs no attempt.
func TestNothingIsPreparedThatCouldNotLeave(t *testing.T) {
	n := startNode(t, clearnodetest.Config{})
	cfg := config(n.URL())
	cfg.RateLimit, cfg.RateBurst = 50, 50
	c := ready(t, cfg)
	id := openDuel(t, n)
	s := look(t, c, id, settlement.ReadOptions{})
	leave := c.Crowd()
	_, err := c.Prepare(t.Context(), settlement.Outcome{}, share(t, s, "7"), s)
	var waiting *settlement.Waiting
	if !errors.As(err, &waiting) || waiting.Reason != settlement.NotReady {
		t.Errorf("prepared while crowded: %v", err)
	}
	leave()
	if a := closeDuel(t, c, id); a.Version != 2 {
		t.Errorf("afterwards: %+v", a)
	}
	wantChecked(t, n)
}
