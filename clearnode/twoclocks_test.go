package clearnode_test

import (
	"io"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"settled/clearnode/clearnodetest"
	"settled/settlement"
)

// balance is a load balancer: it leads connections to the nodes in turn.
func balance(t *testing.T, nodes ...*clearnodetest.Node) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for n := 0; ; n++ {
			client, err := l.Accept()
			if err != nil {
				return
			}
			u, _ := url.Parse(nodes[n%len(nodes)].URL())
			node, err := net.Dial("tcp", u.Host)
			if err != nil {
				_ = client.Close()
				continue
			}
			pass := func(to, from net.Conn) {
				_, _ = io.Copy(to, from)
				_, _ = to.Close(), from.Close()
			}
			go pass(node, client)
			go pass(client, node)
		}
	}()
	u, _ := url.Parse(nodes[0].URL())
	u.Host = l.Addr().String()
	return u.String()
}

// twoClocks are two nodes with one key, the second of which has a clock that is behind.
func twoClocks(t *testing.T, behind *atomic.Int64) (fast, slow *clearnodetest.Node) {
	fast = startNode(t, clearnodetest.Config{BrokerKey: keyOf(0xb0)})
	slow = startNode(t, clearnodetest.Config{BrokerKey: keyOf(0xb0), Now: func() time.Time { return time.Now().Add(-time.Duration(behind.Load())) }})
	return fast, slow
}

// TestTwoClocksBehindOneAddress: two nodes behind a load balancer, one of which is 5 s
// behind. A read is dated by the slow clock, whichever node answers it and whatever the other
// one answered before, also when the slow one is gone. A close is stamped by it.
func TestTwoClocksBehindOneAddress(t *testing.T) {
	var behind atomic.Int64
	behind.Store(int64(5 * time.Second))
	fast, slow := twoClocks(t, &behind)
	c := ready(t, config(balance(t, fast, slow)))
	eventually(t, "both connections are probed", func() bool { return c.Fit() == 2 })
	definition := gameDefinition()
	var id settlement.SessionID
	for _, n := range []*clearnodetest.Node{fast, slow} {
		id = open(t, n, definition, put(playerA, "usdc", "10"), put(playerB, "usdc", "5"))
	}
	read := func(when string) {
		t.Helper()
		for range 4 {
			if late := readSession(t, c, id, settlement.ReadOptions{}).AsOf.Sub(time.Now().Add(-5 * time.Second)); late > 0 {
				t.Errorf("%s: a read is dated %s after the slow clock", when, late)
			}
		}
	}
	read("both up")
	if left := time.Until(prepared(t, c, id).ValidUntil); left > -5*time.Second+40*time.Second {
		t.Errorf("a close is valid for another %s by the fast clock, and 5s longer by the slow one", left)
	}
	before := fast.Requests("auth_verify")
	slow.Stop()
	eventually(t, "both connections lead to the fast node", func() bool { return fast.Requests("auth_verify") > before && c.Fit() == 2 })
	read("the slow one gone")
}

// TestClocksTooFarApart: nodes whose clocks differ by more than half a fence margin keep the
// client from being ready, until they agree.
func TestClocksTooFarApart(t *testing.T) {
	var behind atomic.Int64
	behind.Store(int64(30 * time.Second))
	fast, slow := twoClocks(t, &behind)
	c := run(t, config(balance(t, fast, slow)).Idle(20*time.Millisecond))
	eventually(t, "both connections are probed", func() bool { return c.Fit() == 2 })
	err := waitReady(t, c, false)
	if err == nil || !strings.Contains(err.Error(), "differ by") || !strings.Contains(err.Error(), "NTP") {
		t.Errorf("not ready because of %v", err)
	}
	behind.Store(0)
	_ = waitReady(t, c, true)
}

// TestOneClockSet: one node whose clock is set forward by an hour, seen first on one
// of several connections, is known on all of them without waiting for the next ping.
func TestOneClockSet(t *testing.T) {
	var ahead atomic.Int64
	n := startNode(t, clearnodetest.Config{Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }})
	cfg := config(n.URL())
	cfg.Connections = 4
	c := ready(t, cfg)
	eventually(t, "all are probed", func() bool { return c.Fit() == 4 })
	id := openGame(t, n)
	ahead.Store(int64(time.Hour))
	var s settlement.Session
	eventually(t, "the new time is known", func() bool {
		var err error
		s, err = c.Session(t.Context(), id, settlement.ReadOptions{Funding: true})
		return err == nil && s.AsOf.After(time.Now().Add(time.Hour-time.Minute))
	})
	_ = waitReady(t, c, true)
	closeGame(t, c, id)
}
