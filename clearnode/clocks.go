package clearnode

import (
	"slices"
	"sync"
	"time"
)

// clocks are the clocks behind all connections. A load balancer may lead them to several
// nodes, whose clocks differ. A request may land at any of them, so whether it has expired
// is decided by the lowest bound: an answer of one connection never raises the bound that
// another one's clock sets.
//
// The clock of a connection that ended counts for one message expiry and fence margin
// longer. By then, what was sent on it has expired by that clock.
//
// Only clocks of connections of this process are known. Those that differ by more than the
// limit keep the client from being ready, since requests of another replica, or of a
// process before this one, may wait at a node that no connection leads to.
type clocks struct {
	keep  time.Duration // for how long the clock of a connection that ended counts
	limit time.Duration // by how much clocks may differ

	mu      sync.Mutex
	live    []*conn // whose clock is known
	ended   []endedClock
	differs time.Duration // by how much clocks differ at least; zero: within the limit
}

type endedClock struct {
	clock *clock
	at    time.Time // when its connection ended
}

// refreshGap is the least time between two readings of one clock because others differ.
const refreshGap = 500 * time.Millisecond

// bound is the lowest of all lower bounds at an instant of our own clock, past or present:
// what has expired by it has expired wherever it may have been sent to. It is not known
// before the first answer.
func (s *clocks) bound(now time.Time) (lowest time.Time, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(time.Now())
	lowest, known = s.lowest(now)
	for _, e := range s.ended {
		if at, _ := e.clock.bound(now); !known || at.Before(lowest) {
			lowest, known = at, true
		}
	}
	return lowest, known
}

// stamp is the lowest bound of the connections that are up, by which a request is stamped.
func (s *clocks) stamp(now time.Time) (lowest time.Time, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lowest(now)
}

// lowest is the lowest bound of the live connections. The lock is held.
func (s *clocks) lowest(now time.Time) (lowest time.Time, known bool) {
	for _, c := range s.live {
		if at, _ := c.clock.bound(now); !known || at.Before(lowest) {
			lowest, known = at, true
		}
	}
	return lowest, known
}

// forget drops clocks of connections that ended long ago. The lock is held.
func (s *clocks) forget(now time.Time) {
	s.ended = slices.DeleteFunc(s.ended, func(e endedClock) bool { return now.Sub(e.at) > s.keep })
}

// heard takes note of an answer that a connection's clock has learned from. Where other
// clocks differ from it, they are read again, for a node's clock may have been set. Two that
// differ still after that are told apart. It reports whether the clocks began or ceased to
// differ.
func (s *clocks) heard(c *conn, now time.Time) (changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.over() {
		return false // end keeps its clock
	}
	if !slices.Contains(s.live, c) {
		s.live = append(s.live, c)
	}
	again := !c.asked.IsZero() && !c.clock.behind(c.asked)
	confirmed := false
	for _, other := range s.live {
		apart := c.clock.apart(&other.clock, now)
		if apart <= min(clockSlack, s.limit) {
			continue
		}
		pending := other.clock.behind(other.asked)
		confirmed = confirmed || again && !pending && apart > s.limit
		if !pending && now.Sub(other.asked) > refreshGap {
			other.asked = now
			select {
			case other.refresh <- struct{}{}:
			default:
			}
		}
	}
	return s.compare(now, confirmed)
}

// end moves a connection's clock to those of ended connections.
func (s *clocks) end(c *conn, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(now)
	s.live = slices.DeleteFunc(s.live, func(other *conn) bool { return other == c })
	if _, known := c.clock.bound(now); known {
		s.ended = append(s.ended, endedClock{&c.clock, now})
	}
	s.compare(now, false)
}

// compare finds out by how much the clocks of live connections differ. That counts once it
// is confirmed. The lock is held.
func (s *clocks) compare(now time.Time, confirmed bool) (changed bool) {
	most := time.Duration(0)
	for i, c := range s.live {
		for _, other := range s.live[:i] {
			most = max(most, c.clock.apart(&other.clock, now))
		}
	}
	before := s.differs
	switch {
	case most <= s.limit:
		s.differs = 0
	case confirmed || before > 0:
		s.differs = most
	}
	return (before > 0) != (s.differs > 0)
}

// apart is by how much clocks of live connections differ at least; zero where they agree
// within the limit.
func (s *clocks) apart() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.differs
}
