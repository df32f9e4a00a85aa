package clearnode_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"settled/clearnode"
	"settled/clearnode/clearnodetest"
	"settled/settlement"
)

func wantNotReady(t testing.TB, err error) {
	t.Helper()
	if codeOf(err) != settlement.Code(settlement.NotReady) {
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
		{"twice as long: a dead close could take effect", 2 * time.Minute, time.Minute, "accepts a request"},
		{"five seconds longer", 65 * time.Second, time.Minute, "accepts a request"},
		{"half as long: every close would be refused", 30 * time.Second, time.Minute, "larger than the node's"},
		{"shorter, but closes still pass", 50 * time.Second, time.Minute, ""},
	} {
		t.Run(tc.it, func(t *testing.T) {
			wantProbed(t, clearnodetest.Nitro04, tc.node, tc.configured, tc.reason)
			wantProbed(t, clearnodetest.Legacy, tc.node, tc.configured, tc.reason)
		})
	}
}

func wantProbed(t *testing.T, protocol string, node, configured time.Duration, reason string) {
	t.Helper()
	n := startNode(t, clearnodetest.Config{Protocol: protocol, MessageExpiry: node})
	cfg := config(n.URL())
	cfg.MessageExpiry, cfg.RequestValidity = configured, configured/3
	c := run(t, cfg)
	id := openGame(t, n)
	if reason == "" {
		_ = waitReady(t, c, true)
		closeGame(t, c, id)
		return
	}
	waitReason(t, c, reason, "clearnode.message_expiry")
	s := readSession(t, c, id, settlement.ReadOptions{}) // reads are harmless
	_, err := c.Prepare(t.Context(), settlement.Outcome{}, gamePlan(t, s), s)
	wantNotReady(t, err)
}

// TestProbedBeforeReady: until the probe is answered nothing is prepared.
func TestProbedBeforeReady(t *testing.T) {
	n := startNode(t, clearnodetest.Config{})
	release := make(chan struct{})
	n.Inject(clearnodetest.Fault{Method: "get_ledger_balances", Kind: clearnodetest.Delay, Release: release})
	cfg := config(n.URL())
	cfg.Connections = 1
	c := run(t, cfg)
	waitReason(t, c, "not probed yet")
	plan, s := handmade(t)
	_, err := c.Prepare(t.Context(), settlement.Outcome{}, plan, s)
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
			waitReason(t, c, "accepts a request")
			plan, s := handmade(t)
			_, err := c.Prepare(t.Context(), settlement.Outcome{}, plan, s)
			wantNotReady(t, err)
			if _, err := c.Send(t.Context(), r); wantRefused(t, err) != nil || !errors.Is(err, clearnode.ErrNotSent) {
				t.Errorf("sent, though the fence does not hold: %v", err)
			}
			n.setExpiry(time.Minute)
			_ = waitReady(t, c, true)
			sendOK(t, c, handmadeRequest(t, c))
		})
	}
}

// TestProbeTellsNothing: an error that is none of the two answers proves nothing.
func TestProbeTellsNothing(t *testing.T) {
	n := startRaw(t)
	n.on("get_ledger_balances", func(c *rawConn, r rawRequest) { c.fail(r.id, "failed to get ledger balances") })
	c := run(t, config(n.url))
	waitReason(t, c, "not probed yet", "failed to get ledger balances")
	n.on("get_ledger_balances", (*rawConn).lawful)
	_ = waitReady(t, c, true)
}

// TestProbedAfterRestart: a node that comes back may have been configured again.
// Nothing is sent to it on the word of the one before.
func TestProbedAfterRestart(t *testing.T) {
	n, c := startReady(t, clearnodetest.Config{})
	id := openGame(t, n)
	s, r := readSession(t, c, id, settlement.ReadOptions{}), prepared(t, c, id)
	release := make(chan struct{})
	n.Inject(clearnodetest.Fault{Method: "get_ledger_balances", Kind: clearnodetest.Delay, Release: release, Times: -1})
	changed := c.Changed()
	n.DropConnections()
	<-changed
	waitReason(t, c, "not probed yet")
	_, err := c.Prepare(t.Context(), settlement.Outcome{}, gamePlan(t, s), s)
	wantNotReady(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Send(ctx, r); wantRefused(t, err) != nil || !errors.Is(err, clearnode.ErrNotSent) {
		t.Errorf("sent before the probe: %v", err)
	}
	if n.Requests("close_app_session") != 0 {
		t.Error("a close was sent before the probe")
	}
	changed = c.Changed()
	close(release)
	<-changed
	_ = waitReady(t, c, true)
	closeGame(t, c, id)
	wantChecked(t, n)
}

// TestFirstProbesDoNotWait: the pace is for probing again. Until a connection is
// probed no close is sent on it.
func TestFirstProbesDoNotWait(t *testing.T) {
	n := startRaw(t)
	c := ready(t, config(n.url).ProbeGap(time.Hour))
	for dials := 2; dials <= 6; dials += 2 {
		eventually(t, "all probed", func() bool { return n.dials() == dials && c.Fit() == 2 })
		n.drop()
	}
}

// TestProbesAgainAtTheirPace: a bad or unclear connection isn't probed again
// at once, nor does it keep a new connection waiting.
func TestProbesAgainAtTheirPace(t *testing.T) {
	n := startRaw(t)
	var probes atomic.Int64
	n.on("get_ledger_balances", func(c *rawConn, r rawRequest) {
		probes.Add(1)
		c.fail(r.id, "failed to get ledger balances")
	})
	cfg := config(n.url).ProbeGap(time.Hour)
	cfg.Connections = 1
	c := run(t, cfg)
	waitReason(t, c, "failed to get ledger balances")
	if got := probes.Load(); got != 2 {
		t.Errorf("%d reads, want those of one probe", got)
	}
	n.on("get_ledger_balances", (*rawConn).lawful)
	n.drop()
	_ = waitReady(t, c, true)
}

// TestOneLineReconnects: as long as another connection was probed the client stays
// ready, without a change of readiness.
func TestOneLineReconnects(t *testing.T) {
	n := startRaw(t)
	c := ready(t, config(n.url))
	for dials := 2; dials < 8; dials++ {
		eventually(t, "all probed", func() bool { return n.dials() == dials && c.Fit() == 2 })
		changed := c.Changed()
		n.dropOne()
		eventually(t, "all probed again", func() bool { return n.dials() == dials+1 && c.Fit() == 2 })
		select {
		case <-changed:
			t.Fatalf("readiness changed: %v", c.Ready())
		default:
		}
	}
}

// TestBadVerdictStays: what was found bad stays so until it is found good, for it
// is all that is known of the node behind the line.
func TestBadVerdictStays(t *testing.T) {
	n := startRaw(t)
	c := one(t, n.url)
	r := handmadeRequest(t, c)
	n.setExpiry(2 * time.Minute)
	n.drop()
	bad := func() bool {
		err := c.Ready()
		return err != nil && strings.Contains(err.Error(), "accepts a request")
	}
	eventually(t, "the reason", bad)
	n.on("get_ledger_balances", func(c *rawConn, r rawRequest) { c.fail(r.id, "failed to get ledger balances") })
	n.drop()
	eventually(t, "the reason after a reconnect", func() bool { return n.dials() == 3 && bad() })
	_, err := c.Send(t.Context(), r)
	if wantRefused(t, err) != nil || !strings.Contains(err.Error(), "accepts a request") {
		t.Errorf("sent, though the fence does not hold: %v", err)
	}
}

// TestSentOnlyWhereProbed: behind a balancer each connection may reach another
// node. A busy one that was probed is better than an idle one that wasn't.
func TestSentOnlyWhereProbed(t *testing.T) {
	n := startRaw(t)
	var mu sync.Mutex
	var probed *rawConn
	unprobed := make(chan struct{})
	var once sync.Once
	n.on("get_ledger_balances", func(c *rawConn, r rawRequest) {
		mu.Lock()
		defer mu.Unlock()
		if probed == nil {
			probed = c
		}
		if probed == c {
			c.lawful(r)
			return
		}
		once.Do(func() { close(unprobed) })
	})
	var closes []*rawConn
	both := make(chan struct{})
	n.on("close_app_session", func(c *rawConn, r rawRequest) {
		mu.Lock()
		defer mu.Unlock()
		if closes = append(closes, c); len(closes) == 2 {
			close(both)
			c.lawful(r)
		}
	})
	c := ready(t, config(n.url))
	<-unprobed
	ctx, cancel := context.WithCancel(t.Context())
	var sending sync.WaitGroup
	first, second := handmadeRequest(t, c), handmadeRequest(t, c)
	sending.Go(func() { _, _ = c.Send(ctx, first) })
	eventually(t, "the first close", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(closes) == 1
	})
	sending.Go(func() { _, _ = c.Send(ctx, second) })
	<-both
	cancel()
	sending.Wait()
	mu.Lock()
	defer mu.Unlock()
	for _, on := range closes {
		if on != probed {
			t.Error("a close was sent on a connection that was not probed")
		}
	}
}
