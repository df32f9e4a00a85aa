package clearnode_test

import (
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
	id := openGame(t, n)
	s := readSession(t, c, id, settlement.ReadOptions{})
	leave := c.Crowd()
	_, err := c.Prepare(t.Context(), settlement.Outcome{}, gamePlan(t, s), s)
	wantNotReady(t, err)
	leave()
	if a := closeGame(t, c, id); a.Version != 2 {
		t.Errorf("afterwards: %+v", a)
	}
	wantChecked(t, n)
}
