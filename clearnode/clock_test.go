package clearnode

import (
	"testing"
	"time"

	"settled/clearnode/internal/nitrorpc"

	"pgregory.net/rapid"
)

// TestClockBound: whatever the order and the delays of the answers, the bound is
// never above the node's clock. Once that was set back it holds again from the
// first answer to a request sent after it, and after the last answer stamped
// before it came in; but for the time that request took to reach the node, which
// no lower bound can see.
func TestClockBound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		begin := time.Now()
		now := begin
		truth := func(at time.Time) time.Time { return at }
		var k nodeClock
		type flight struct{ sent, stamped, stamp time.Time }
		var flights []flight
		var set, stale time.Time    // when the node's clock was last set back; when an answer from before that was last heard
		unseen := time.Duration(-1) // the quickest way to the node since; -1: none
		check := func() {
			at, known := k.lowerBound(now)
			if !known || unseen < 0 && !set.IsZero() {
				return
			}
			slack := time.Duration(0)
			if !set.IsZero() {
				slack = unseen
			}
			if at.After(truth(now).Add(slack)) {
				t.Fatalf("bound %s, node's clock %s", at.Sub(begin), truth(now).Sub(begin))
			}
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 5000).Draw(t, "ms")) * time.Millisecond)
			switch rapid.SampledFrom([]string{"ask", "ask", "hear", "hear", "set"}).Draw(t, "what") {
			case "ask":
				sent := now
				now = now.Add(time.Duration(rapid.IntRange(0, 300).Draw(t, "way")) * time.Millisecond)
				flights = append(flights, flight{sent, now, truth(now).Truncate(time.Millisecond)})
			case "hear":
				if len(flights) == 0 {
					continue
				}
				n := rapid.IntRange(0, len(flights)-1).Draw(t, "which")
				f := flights[n]
				flights = append(flights[:n], flights[n+1:]...)
				k.learn(f.stamp, f.sent, now)
				way := f.stamped.Sub(f.sent)
				switch {
				case f.stamped.Before(set):
					unseen, stale = -1, now
				case !f.sent.Before(set) && f.sent.After(stale) && (unseen < 0 || way < unseen):
					unseen = way
				}
			case "set":
				old, back := truth, time.Duration(rapid.IntRange(1, 100000).Draw(t, "back"))*time.Millisecond
				truth = func(at time.Time) time.Time { return old(at).Add(-back) }
				now = now.Add(time.Nanosecond)
				set, unseen = now, -1
			}
			check()
		}
	})
}

func TestClockKeepsTheHighest(t *testing.T) {
	var k nodeClock
	m := time.Now()
	node := time.UnixMilli(1_700_000_000_000)
	at := func(d time.Duration) time.Time { return m.Add(d) }
	if _, known := k.lowerBound(m); known {
		t.Error("known before any answer")
	}
	k.learn(node, at(0), at(5*time.Second)) // took five seconds to come
	if got, _ := k.lowerBound(at(6 * time.Second)); !got.Equal(node.Add(time.Second)) {
		t.Errorf("bound %s", got)
	}
	k.learn(node.Add(6*time.Second), at(6*time.Second), at(6*time.Second)) // at once: better by five
	if got, _ := k.lowerBound(at(6 * time.Second)); !got.Equal(node.Add(6 * time.Second)) {
		t.Errorf("bound %s", got)
	}
	if k.learn(node.Add(6*time.Second), at(5*time.Second), at(9*time.Second)) != 0 {
		t.Error("a slow answer was taken for a clock set back")
	}
	if got, _ := k.lowerBound(at(9 * time.Second)); !got.Equal(node.Add(9 * time.Second)) {
		t.Errorf("a slow answer lowered the bound to %s", got)
	}
}

// TestClockSetBack: an answer older than its own question; what was asked before
// that was seen counts no more.
func TestClockSetBack(t *testing.T) {
	var k nodeClock
	m := time.Now()
	node := time.UnixMilli(1_700_000_000_000)
	at := func(d time.Duration) time.Time { return m.Add(d) }
	k.learn(node, at(0), at(0))
	if back := k.learn(node.Add(-time.Hour), at(time.Second), at(2*time.Second)); back != time.Hour+time.Second {
		t.Errorf("seen set back by %s", back)
	}
	want := node.Add(-time.Hour)
	if got, _ := k.lowerBound(at(2 * time.Second)); !got.Equal(want) {
		t.Errorf("bound %s", got)
	}
	k.learn(node.Add(time.Second), at(time.Second), at(3*time.Second)) // stamped before the step
	if got, _ := k.lowerBound(at(3 * time.Second)); !got.Equal(want.Add(time.Second)) {
		t.Errorf("an answer from before raised the bound to %s", got)
	}
	k.learn(want.Add(3*time.Second), at(3*time.Second), at(4*time.Second))
	if got, _ := k.lowerBound(at(4 * time.Second)); !got.Equal(want.Add(3 * time.Second)) {
		t.Errorf("bound %s", got)
	}
}

// clockedConn is a connection without a socket, whose clock the test feeds.
func clockedConn(c *Client) *conn {
	return newConn(&connector{client: c}, nil, nitrorpc.New(dialectHost{c}, &c.settings))
}

// TestLowestClock: nodes with clocks of their own behind one address. Whatever answers come in
// on which connection, and whichever connection ends, the bound is at or below the clock
// of every node that a connection leads to, or led to within the last fence.
func TestLowestClock(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const keep = time.Hour
		client := &Client{cfg: Config{}.withDefaults(), clocks: clockSet{keep: keep, limit: 10 * time.Second}}
		begin := time.Now()
		now := begin
		offsets := map[*conn]time.Duration{}
		open := []*conn{}
		for range rapid.IntRange(2, 40).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 2000).Draw(t, "ms")) * time.Millisecond)
			what := rapid.SampledFrom([]string{"open", "hear", "hear", "hear", "end"}).Draw(t, "what")
			if len(open) == 0 || what == "open" {
				c := clockedConn(client)
				offsets[c] = time.Duration(rapid.IntRange(-90, 90).Draw(t, "offset")) * time.Second
				open = append(open, c)
			}
			n := rapid.IntRange(0, len(open)-1).Draw(t, "connection")
			c := open[n]
			switch what {
			case "end":
				close(c.done)
				client.clocks.remove(c, now)
				open = append(open[:n:n], open[n+1:]...)
			default:
				received := now.Add(time.Duration(rapid.IntRange(0, 300).Draw(t, "way")) * time.Millisecond)
				c.clock.learn(now.Add(offsets[c]).Truncate(time.Millisecond), now, received)
				client.clocks.compareWith(c, received)
				now = received
			}
			at, known := client.clocks.lowerBound(now)
			for c, offset := range offsets {
				_, heard := c.clock.lowerBound(now)
				if heard && !known {
					t.Fatal("a clock that was heard is not known")
				}
				if heard && at.After(now.Add(offset)) {
					t.Fatalf("bound %s, the clock of one node %s", at.Sub(begin), now.Add(offset).Sub(begin))
				}
			}
		}
	})
}

// TestEndedClock: the clock of a connection that ended counts for as long as what was sent
// on it may take effect, and no longer.
func TestEndedClock(t *testing.T) {
	client := &Client{cfg: Config{}.withDefaults(), clocks: clockSet{keep: time.Minute, limit: 10 * time.Second}}
	now := time.Now()
	fast, slow := clockedConn(client), clockedConn(client)
	hear := func(c *conn, offset time.Duration) {
		c.clock.learn(now.Add(offset), now, now)
		client.clocks.compareWith(c, now)
	}
	hear(fast, time.Hour)
	hear(slow, 0)
	if apart := client.clocks.difference(); apart != 0 || len(fast.refresh) != 1 {
		t.Errorf("before the fast clock is read again the two differ by %s", apart)
	}
	hear(fast, time.Hour)
	if apart := client.clocks.difference(); apart < time.Hour-time.Second {
		t.Errorf("clocks an hour apart differ by %s", apart)
	}
	if at, _ := client.clocks.stamp(now); !at.Equal(now) {
		t.Errorf("a request is stamped %s ahead of the slow clock", at.Sub(now))
	}
	bound := func() time.Duration {
		at, _ := client.clocks.lowerBound(now)
		return at.Sub(now)
	}
	close(slow.done)
	client.clocks.remove(slow, now.Add(-59*time.Second))
	if got := bound(); got != 0 {
		t.Errorf("within the fence of the slow node's last connection the bound is %s ahead of its clock", got)
	}
	if apart := client.clocks.difference(); apart != 0 {
		t.Errorf("the clock of an ended connection keeps the client from being ready: %s", apart)
	}
	client.clocks.ended[0].at = now.Add(-61 * time.Second)
	if got := bound(); got != time.Hour {
		t.Errorf("after its fence the bound is %s, want the other clock", got)
	}
}
