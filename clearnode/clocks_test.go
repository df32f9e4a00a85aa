package clearnode

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// clockedConn is a connection without a socket, whose clock the test feeds.
func clockedConn(c *Client) *conn { return newConn(&line{client: c}, nil, newNitro(c)) }

// TestLowestClock: nodes with clocks of their own behind one address. Whatever answers come in
// on which connection, and whichever connection ends, the bound is at or below the clock
// of every node that a connection leads to, or led to within the last fence.
func TestLowestClock(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const keep = time.Hour
		client := &Client{cfg: Config{}.filled(), clocks: clocks{keep: keep, limit: 10 * time.Second}}
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
				close(c.gone)
				client.clocks.end(c, now)
				open = append(open[:n:n], open[n+1:]...)
			default:
				received := now.Add(time.Duration(rapid.IntRange(0, 300).Draw(t, "way")) * time.Millisecond)
				c.clock.hear(now.Add(offsets[c]).Truncate(time.Millisecond), now, received)
				client.clocks.heard(c, received)
				now = received
			}
			at, known := client.clocks.bound(now)
			for c, offset := range offsets {
				_, heard := c.clock.bound(now)
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
// on it may land, and no longer.
func TestEndedClock(t *testing.T) {
	client := &Client{cfg: Config{}.filled(), clocks: clocks{keep: time.Minute, limit: 10 * time.Second}}
	now := time.Now()
	fast, slow := clockedConn(client), clockedConn(client)
	hear := func(c *conn, offset time.Duration) {
		c.clock.hear(now.Add(offset), now, now)
		client.clocks.heard(c, now)
	}
	hear(fast, time.Hour)
	hear(slow, 0)
	if apart := client.clocks.apart(); apart != 0 || len(fast.refresh) != 1 {
		t.Errorf("before the fast clock is read again the two differ by %s", apart)
	}
	hear(fast, time.Hour)
	if apart := client.clocks.apart(); apart < time.Hour-time.Second {
		t.Errorf("clocks an hour apart differ by %s", apart)
	}
	if at, _ := client.clocks.stamp(now); !at.Equal(now) {
		t.Errorf("a request is stamped %s ahead of the slow clock", at.Sub(now))
	}
	bound := func() time.Duration {
		at, _ := client.clocks.bound(now)
		return at.Sub(now)
	}
	close(slow.gone)
	client.clocks.end(slow, now.Add(-59*time.Second))
	if got := bound(); got != 0 {
		t.Errorf("within the fence of the slow node's last connection the bound is %s ahead of its clock", got)
	}
	if apart := client.clocks.apart(); apart != 0 {
		t.Errorf("the clock of an ended connection keeps the client from being ready: %s", apart)
	}
	client.clocks.ended[0].at = now.Add(-61 * time.Second)
	if got := bound(); got != time.Hour {
		t.Errorf("after its fence the bound is %s, want the other clock", got)
	}
}
