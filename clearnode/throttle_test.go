package clearnode

import (
	"context"
	"errors"
	"testing"
	"time"

	"settled/clearnode/internal/nitronode"
	"settled/clearnode/internal/nitrorpc"
	"settled/clearnode/internal/protocol"
)

// TestThrottleOf: as configured, or as the dialect's nodes allow, or none.
func TestThrottleOf(t *testing.T) {

	for _, tc := range []struct {
		it     string
		cfg    Config
		budget protocol.Budget
		frames float64
		burst  int
		bytes  bool
	}{
		{"v1 by itself", Config{}, nitronodeBudget, 10, 10, true},
		{"v1, configured", Config{RateLimit: 50, RateBurst: 5}, nitronodeBudget, 50, 5, true},
		{"v1, only the burst", Config{RateBurst: 3}, nitronodeBudget, 10, 3, true},
		{"0.4, configured", Config{RateLimit: 0.5}, protocol.Budget{}, 0.5, 1, false},
	} {
		l := newThrottle(tc.cfg, tc.budget)
		if l == nil || float64(l.frames.Limit()) != tc.frames || l.frames.Burst() != tc.burst || (l.bytes != nil) != tc.bytes {
			t.Errorf("%s: %+v", tc.it, l)
		}
	}
	if l := newThrottle(Config{}, protocol.Budget{}); l != nil {
		t.Errorf("0.4 by itself: %+v", l)
	}
}

// TestThrottleQueue: a caller without a turn in time learns it at once.
func TestThrottleQueue(t *testing.T) {
	l := newThrottle(Config{RateLimit: 0.001, RateBurst: 2}, protocol.Budget{})
	gone := make(chan struct{})
	var leave func()
	for n := range 3 {
		var err error
		if leave, err = l.enqueue(time.Hour); err != nil {
			t.Fatal(n, err)
		}
	}
	if _, err := l.enqueue(time.Minute); !errors.Is(err, errCrowded) {
		t.Errorf("a fourth: %v", err)
	}
	leave()
	if _, err := l.enqueue(time.Minute); err != nil {
		t.Errorf("when one has left: %v", err)
	}
	for range 2 {
		if !l.wait(gone) {
			t.Error("the burst waits")
		}
	}
	close(gone)
	if l.wait(gone) {
		t.Error("a frame may leave a connection that is gone")
	}
}

// One request after the other uses the burst of every connection before any of them waits.
func TestLeastUsedConnectionIsLeased(t *testing.T) {
	const connections, burst = 3, 2
	client := &Client{cfg: Config{RateLimit: 0.001, RateBurst: burst}.withDefaults()}
	p := newPool()
	p.setRunning(true)
	p.setWanted(connections)
	for n := range connections {
		c := newConn(&connector{client: client, number: n + 1}, idleSocket(t), nitronode.New(nil, &client.settings))
		p.add(c)
		c.probed = true
		p.setSignedIn(c, true)
	}
	leases := map[*conn]int{}
	for range connections * burst {
		c, err := p.lease(t.Context(), true, 1)
		if err != nil {
			t.Fatal(err)
		}
		if !c.throttle.wait(c.done) {
			t.Fatal("the connection ended")
		}
		leases[c]++
		p.release(c, 1)
	}
	for c, n := range leases {
		if n != burst {
			t.Errorf("connection %d was leased %d times, want %d", c.connector.number, n, burst)
		}
	}
}

// TestThrottleBytes: what was sent is paid for before the next frame leaves.
func TestThrottleBytes(t *testing.T) {
	l := newThrottle(Config{}, nitronodeBudget)
	began := time.Now()
	for range 4 {
		l.countBytes(128 << 10)
	}
	if l.free.After(began.Add(time.Second / 10)) {
		t.Errorf("the burst is paid for in %s", l.free.Sub(began))
	}
	l.countBytes(128 << 10)
	if l.free.Before(began.Add(time.Second / 4)) {
		t.Errorf("beyond the burst a frame is paid for in %s", l.free.Sub(began))
	}
}

// TestStartCrowded: proof that nothing left, long before the context ends.
func TestStartCrowded(t *testing.T) {
	c := &Client{cfg: Config{RateLimit: 0.001, RateBurst: 1}.withDefaults()}
	k := newConn(&connector{client: c}, idleSocket(t), nitrorpc.New(nil, &c.settings)) // nobody writes
	for range 2 {
		if _, err := k.throttle.enqueue(time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	_, err := k.send(context.Background(), protocol.Request{ID: 1, Method: "ping"})
	if !errors.Is(err, ErrNotSent) || !errors.Is(err, errCrowded) {
		t.Errorf("%v", err)
	}
}

var nitronodeBudget = nitronode.New(nil, &protocol.Settings{}).Traits().Budget
