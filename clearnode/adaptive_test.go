package clearnode_test

import (
	"errors"
	"testing"
	"time"

	"settled/clearnode"
	"settled/clearnode/clearnodetest"
	"settled/settlement"
)

func adaptive(t *testing.T, change func(*clearnode.Config)) (*clearnodetest.Node, *clearnode.Client) {
	t.Helper()
	n := startNode(t, clearnodetest.Config{})
	cfg := config(n.URL()).Idle(10 * time.Millisecond)
	cfg.Connections, cfg.ConnectionsMax = 0, 6
	if change != nil {
		change(&cfg)
	}
	return n, ready(t, cfg)
}

func wantLimit(t *testing.T, c *clearnode.Client, want int) {
	t.Helper()
	if limit, _, _ := c.Limit(); limit != want {
		t.Errorf("the limit is %d, want %d", limit, want)
	}
}

// There is a connection for each close that may be in flight and one for reads, within the
// bounds; after a lost answer half as many. Those that are not needed end when nothing waits
// for an answer on them.
func TestConnectionsFollowTheLimit(t *testing.T) {
	n, c := adaptive(t, func(cfg *clearnode.Config) { cfg.RequestTimeout = time.Second })
	eventually(t, "two connections are up", func() bool { return c.Connected() == 2 })
	c.SetLimit(10)
	eventually(t, "the most connections are up", func() bool { return c.Fit() == 6 })
	n.Inject(clearnodetest.Fault{Method: "close_app_session", Kind: clearnodetest.LoseAnswer})
	_, err := c.Send(t.Context(), prepared(t, c, openGame(t, n)))
	wantInDoubt(t, err)
	wantLimit(t, c, 5)
	c.SetLimit(2)
	eventually(t, "three connections are up", func() bool { return c.Connected() == 3 && c.WantedConnections() == 3 })
	closeGame(t, c, openGame(t, n))
	if err := c.Ready(); err != nil {
		t.Error(err)
	}
	wantChecked(t, n)
}

// What our own rate limit keeps from leaving says nothing about the node.
func TestThrottleIsNotTheNode(t *testing.T) {
	n, c := adaptive(t, func(cfg *clearnode.Config) { cfg.RateLimit, cfg.RateBurst = 50, 50 })
	r := prepared(t, c, openGame(t, n))
	c.SetLimit(4)
	leave := c.Crowd()
	if _, err := c.Send(t.Context(), r); wantRefused(t, err) != nil || !errors.Is(err, clearnode.ErrNotSent) {
		t.Error(err)
	}
	leave()
	wantLimit(t, c, 4)
}

// A number of connections fixes the limit.
func TestFixedConnections(t *testing.T) {
	n, c := adaptive(t, func(cfg *clearnode.Config) { cfg.Connections, cfg.RequestTimeout = 3, time.Second })
	eventually(t, "three connections are up", func() bool { return c.Fit() == 3 })
	n.Inject(clearnodetest.Fault{Method: "close_app_session", Kind: clearnodetest.LoseAnswer})
	_, err := c.Send(t.Context(), prepared(t, c, openGame(t, n)))
	wantInDoubt(t, err)
	wantLimit(t, c, 12)
}

// A permit that comes too late is not waited for.
func TestNoPermitInTime(t *testing.T) {
	_, c := adaptive(t, func(cfg *clearnode.Config) { cfg.RequestTimeout = 300 * time.Millisecond })
	release, _, err := c.Acquire(t.Context())
	must(t, err)
	_, waited, err := c.Acquire(t.Context())
	var waiting *settlement.Waiting
	if !errors.As(err, &waiting) || waiting.Reason != settlement.NotReady || waited <= 0 {
		t.Errorf("a second permit: %v after %s", err, waited)
	}
	release()
	release, _, err = c.Acquire(t.Context())
	must(t, err)
	release()
	if limit, inFlight, queue := c.Limit(); limit != 1 || inFlight != 0 || queue != 0 {
		t.Errorf("limit %d, %d in flight, %d wait", limit, inFlight, queue)
	}
}
