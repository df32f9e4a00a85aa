package clearnode

import (
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// nodeClock is a lower bound of the clock of the node behind one connection.
//
// An answer that carries ts was stamped before it was received, at m on our monotonic
// clock. So the node's clock stood at ts or later at m, and stands at ts + (now - m) or
// later now, as long as both run on evenly. Of several such bounds each is true, so the
// highest is the best.
//
// They stop being true when the node's clock is set back. An answer shows that: it was
// stamped after its request was sent, at s; if the bound says that at s the node's clock
// already stood later than ts, then the bound is wrong, and the answer is newer knowledge
// than all that made it. The bound starts again from it, even though it is lower. Answers
// to requests that were sent before may have been stamped before the clock was set, and no
// longer raise the bound.
//
// A bound that is too low is harmless: fences fall later, requests look older. One that is
// too high would let a fence expire early. That is why only verified answers to our own
// requests count.
type nodeClock struct {
	mu      sync.Mutex
	known   bool
	at      time.Time // the node's clock, at least, when ...
	seen    time.Time // ... ours stood here
	setBack time.Time // ours, when the node's was last seen set back

	upper time.Time // the node's clock, at most, by the newest answer, when ...
	sent  time.Time // ... ours stood here
}

// stampStep is how finely the node's answers show its clock. A bound that is too high by
// less, because the node's clock runs slower than ours, shows in no answer: a read is dated
// so much earlier.
const stampStep = time.Millisecond

// lowerBound is the bound at an instant of our own clock, past or present. It is not known
// before the first answer.
func (k *nodeClock) lowerBound(now time.Time) (at time.Time, known bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.extrapolate(now), k.known
}

func (k *nodeClock) extrapolate(now time.Time) time.Time { return k.at.Add(now.Sub(k.seen)) }

// learn learns from a verified answer stamped ts, of a request sent at an instant of our
// clock and received at another. It returns by how much the node's clock was set back, at
// least: by hand, or little by little by whatever corrects it.
func (k *nodeClock) learn(ts, sent, received time.Time) (back time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.upper, k.sent = ts.Add(stampStep), sent
	switch {
	case !k.known:
		k.known, k.at, k.seen = true, ts, received
	case ts.Before(k.extrapolate(sent).Truncate(time.Millisecond)): // a stamp has whole milliseconds
		back = k.extrapolate(sent).Sub(ts)
		k.at, k.seen, k.setBack = ts, received, received
	case !sent.Before(k.setBack) && ts.After(k.extrapolate(received)):
		k.at, k.seen = ts, received
	}
	return back
}

// sentBefore reports whether the newest answer is to a request sent before an instant.
func (k *nodeClock) sentBefore(at time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.sent.Before(at)
}

// bounds are the lower and the upper bound at an instant of ours.
func (k *nodeClock) bounds(now time.Time) (lower, upper time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.extrapolate(now), k.upper.Add(now.Sub(k.sent))
}

// difference is by how much two clocks differ at least; zero or less where they may agree.
func (k *nodeClock) difference(other *nodeClock, now time.Time) time.Duration {
	lower, upper := k.bounds(now)
	otherLower, otherUpper := other.bounds(now)
	return max(lower.Sub(otherUpper), otherLower.Sub(upper))
}

// clockSet is the clocks behind all connections. A load balancer may lead them to several
// nodes, whose clocks differ. A request may reach any of them, so the lowest bound
// decides whether it has expired: an answer of one connection never raises the bound that
// another one's clock sets.
//
// The clock of a connection that ended counts for one message expiry and fence margin
// longer. By then, what was sent on it has expired by that clock.
//
// Only clocks of connections of this process are known. Those that differ by more than the
// limit keep the client from being ready, since requests of another replica, or of a
// process before this one, may wait at a node that no connection leads to.
type clockSet struct {
	keep  time.Duration // for how long the clock of a connection that ended counts
	limit time.Duration // by how much clocks may differ

	mu      sync.Mutex
	live    []*conn // whose clock is known
	ended   []endedClock
	differs time.Duration // by how much clocks differ at least; zero: within the limit
}

type endedClock struct {
	clock *nodeClock
	at    time.Time // when its connection ended
}

// lowerBound is the lowest of all lower bounds at an instant of our own clock, past or
// present: what has expired by it has expired wherever it may have been sent to. It is not
// known before the first answer.
func (s *clockSet) lowerBound(now time.Time) (lowest time.Time, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(time.Now())
	lowest, known = s.lowest(now)
	for _, e := range s.ended {
		if at, _ := e.clock.lowerBound(now); !known || at.Before(lowest) {
			lowest, known = at, true
		}
	}
	return lowest, known
}

// stamp is the lowest bound of the connections that are up, for the timestamps of requests.
func (s *clockSet) stamp(now time.Time) (lowest time.Time, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lowest(now)
}

// lowest is the lowest bound of the live connections. The lock is held.
func (s *clockSet) lowest(now time.Time) (lowest time.Time, known bool) {
	for _, c := range s.live {
		if at, _ := c.clock.lowerBound(now); !known || at.Before(lowest) {
			lowest, known = at, true
		}
	}
	return lowest, known
}

// forget drops clocks of connections that ended long ago. The lock is held.
func (s *clockSet) forget(now time.Time) {
	s.ended = slices.DeleteFunc(s.ended, func(e endedClock) bool { return now.Sub(e.at) > s.keep })
}

// compareWith records that a connection's clock has learned from an answer. Where other
// clocks differ from it they are read again, because a node's clock may have been set. Two
// that still differ after that count as different. It reports whether the clocks began or
// ceased to differ.
func (s *clockSet) compareWith(c *conn, now time.Time) (changed bool) {
	// minRefreshGap is the least time between two readings of one clock because others
	// differ.
	const minRefreshGap = 500 * time.Millisecond
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.ended() {
		return false // remove keeps its clock
	}
	if !slices.Contains(s.live, c) {
		s.live = append(s.live, c)
	}
	readAgain := !c.clockAsk.IsZero() && !c.clock.sentBefore(c.clockAsk)
	confirmed := false
	for _, other := range s.live {
		apart := c.clock.difference(&other.clock, now)
		if apart <= min(clockTolerance, s.limit) {
			continue
		}
		pending := other.clock.sentBefore(other.clockAsk)
		confirmed = confirmed || readAgain && !pending && apart > s.limit
		if !pending && now.Sub(other.clockAsk) > minRefreshGap {
			other.clockAsk = now
			select {
			case other.refresh <- struct{}{}:
			default:
			}
		}
	}
	return s.updateDifference(now, confirmed)
}

// remove moves a connection's clock to those of ended connections.
func (s *clockSet) remove(c *conn, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(now)
	s.live = slices.DeleteFunc(s.live, func(other *conn) bool { return other == c })
	if _, known := c.clock.lowerBound(now); known {
		s.ended = append(s.ended, endedClock{&c.clock, now})
	}
	s.updateDifference(now, false)
}

// updateDifference finds out by how much the clocks of live connections differ. That counts
// once it is confirmed. The lock is held.
func (s *clockSet) updateDifference(now time.Time, confirmed bool) (changed bool) {
	most := time.Duration(0)
	for i, c := range s.live {
		for _, other := range s.live[:i] {
			most = max(most, c.clock.difference(&other.clock, now))
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

// difference is by how much clocks of live connections differ at least; zero where they
// agree within the limit.
func (s *clockSet) difference() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.differs
}

// learnClock learns from an answer of a connection, and logs what it shows about the
// clocks.
func (c *Client) learnClock(k *conn, at, sent, received time.Time) {
	if back := k.clock.learn(at, sent, received); back > 0 {
		level := zerolog.DebugLevel // two clocks never run evenly
		if back >= time.Second {
			level = zerolog.WarnLevel
		}
		c.log.WithLevel(level).Dur("by", back).Msg("the node's clock was set back")
	}
	if !c.clocks.compareWith(k, received) {
		return
	}
	if apart := c.clocks.difference(); apart > 0 {
		c.log.Warn().Dur("by", apart).Msg("the clocks behind the node's address differ from connection to connection")
	} else {
		c.log.Info().Msg("the clocks behind the node's address agree again")
	}
	c.notifyReadiness()
}
