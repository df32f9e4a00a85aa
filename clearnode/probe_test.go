package clearnode_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"settled/clearnode"
	"settled/clearnode/clearnodetest"
	"settled/settlement"
)

func wantNotReady(t testing.TB, err error) {
	t.Helper()
	var w *settlement.Waiting
	if !errors.As(err, &w) || w.Reason != settlement.NotReady {
		t.Errorf("got %v, want not_ready", err)
	}
}

// TestProbe: the fence rests on the node's expiry, so it is tried, not believed.
func TestProbe(t *testing.T) {
	for _, tc := range []struct {
		it               string
		node, configured time.Duration
		reason           string // "": ready
	}{
		{"as configured", time.Minute, time.Minute, ""},
		{"as configured, short", 5 * time.Second, 5 * time.Second, ""},
		{"as configured, long", 2 * time.Minute, 2 * time.Minute, ""},
		{"twice as long: a dead close could land", 2 * time.Minute, time.Minute, "accepts a request"},
		{"five seconds longer", 65 * time.Second, time.Minute, "accepts a request"},
		{"half as long: every close would be refused", 30 * time.Second, time.Minute, "larger than the node's"},
		{"shorter, but closes still pass", 50 * time.Second, time.Minute, ""},
	} {
		t.Run(tc.it, func(t *testing.T) {
			n := startNode(t, clearnodetest.Config{MessageExpiry: tc.node})
			cfg := config(n.URL())
			cfg.MessageExpiry, cfg.RequestValidity = tc.configured, tc.configured/3
			c := run(t, cfg)
			id := openDuel(t, n)
			if tc.reason == "" {
				_ = waitReady(t, c, true)
				closeDuel(t, c, id)
				return
			}
			eventually(t, "the reason", func() bool {
				err := c.Ready()
				return err != nil && strings.Contains(err.Error(), tc.reason) && strings.Contains(err.Error(), "clearnode.message_expiry")
			})
			s := look(t, c, id, settlement.Look{}) // reads are harmless
			_, err := c.Prepare(t.Context(), share(t, s, "7"), s)
			wantNotReady(t, err)
		})
	}
}

// TestProbedBeforeReady: until the probe is answered nothing is prepared.
func TestProbedBeforeReady(t *testing.T) {
	n := startNode(t, clearnodetest.Config{})
	release := make(chan struct{})
	n.Inject(clearnodetest.Fault{Method: "get_ledger_balances", Kind: clearnodetest.Delay, Release: release})
	cfg := config(n.URL())
	cfg.Connections = 1
	c := run(t, cfg)
	eventually(t, "signed in", func() bool {
		err := c.Ready()
		return err != nil && strings.Contains(err.Error(), "not probed yet")
	})
	plan, s := handmade(t)
	_, err := c.Prepare(t.Context(), plan, s)
	wantNotReady(t, err)
	close(release)
	_ = waitReady(t, c, true)
}

// TestProbeAgain: what a node does may change, with a restart or behind a
// balancer: on a reconnect, and by the clock.
func TestProbeAgain(t *testing.T) {
	for it, again := range map[string]func(*rawNode){
		"reconnected": func(n *rawNode) { n.drop() },
		"hourly":      func(*rawNode) {},
	} {
		t.Run(it, func(t *testing.T) {
			n := startRaw(t)
			cfg := config(n.url)
			if it == "hourly" {
				cfg = cfg.ProbeEvery(10 * time.Millisecond)
			}
			c := ready(t, cfg)
			r := handmadeRequest(t, c)
			n.setExpiry(2 * time.Minute)
			again(n)
			eventually(t, "the reason", func() bool {
				err := c.Ready()
				return err != nil && strings.Contains(err.Error(), "accepts a request")
			})
			plan, s := handmade(t)
			_, err := c.Prepare(t.Context(), plan, s)
			wantNotReady(t, err)
			if _, err := c.Send(t.Context(), r); wantRefused(t, err) != nil || !errors.Is(err, clearnode.ErrNotSent) {
				t.Errorf("sent, though the fence does not hold: %v", err)
			}
			n.setExpiry(time.Minute)
			_ = waitReady(t, c, true)
			if _, err := c.Send(t.Context(), handmadeRequest(t, c)); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestProbeTellsNothing: an error that is none of the two answers proves nothing.
func TestProbeTellsNothing(t *testing.T) {
	n := startRaw(t)
	n.on("get_ledger_balances", func(c *rawConn, r rawRequest) { c.fail(r.id, "failed to get ledger balances") })
	c := run(t, config(n.url))
	eventually(t, "the reason", func() bool {
		err := c.Ready()
		return err != nil && strings.Contains(err.Error(), "not probed yet") && strings.Contains(err.Error(), "failed to get ledger balances")
	})
	n.on("get_ledger_balances", (*rawConn).lawful)
	_ = waitReady(t, c, true)
}
