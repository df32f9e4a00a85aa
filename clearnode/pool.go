package clearnode

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// pool is the connections that are up.
type pool struct {
	mu      sync.Mutex
	conns   []*conn
	running bool
	wanted  int           // how many connections there should be: those of the first connectors
	changed chan struct{} // closed and replaced when a connection comes, goes, signs in or is probed, or wanted changes

	// mismatches are the failed probes of connectors. Unlike a successful probe, one
	// outlives its connection: until the next connection is probed it is all that is known
	// of the node that the connector reaches.
	mismatches map[*connector]error

	// closeRefusal is why the node refused a close as not allowed on the connection; nil
	// once a later close was executed. As long as it is set, a probe also shows that the
	// connection accepts closes. closeRefusals counts such refusals.
	closeRefusal  error
	closeRefusals uint64
}

func newPool() *pool {
	return &pool{changed: make(chan struct{}), mismatches: map[*connector]error{}}
}

func (p *pool) wake() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// setRunning says whether there will be connections at all.
func (p *pool) setRunning(running bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running = running
	p.wake()
}

// setWanted says how many connections there should be.
func (p *pool) setWanted(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n != p.wanted {
		p.wanted = n
		p.wake()
	}
}

// surplus reports whether a connector should have no connection. One with a mismatch keeps
// it, since only another probe on it ends the mismatch. The lock is held.
func (p *pool) surplus(l *connector) bool { return l.number > p.wanted && p.mismatches[l] == nil }

// awaitWanted waits until a connector should have a connection, or the context ends.
func (p *pool) awaitWanted(ctx context.Context, l *connector) {
	for ctx.Err() == nil {
		p.mu.Lock()
		surplus, changed := p.surplus(l), p.changed
		p.mu.Unlock()
		if !surplus {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// retire removes a surplus connection that nobody uses, and reports whether it did.
func (p *pool) retire(c *conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.surplus(c.connector) || c.load > 0 {
		return false
	}
	p.conns = slices.DeleteFunc(p.conns, func(other *conn) bool { return other == c })
	return true
}

func (p *pool) add(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns = append(p.conns, c)
	p.wake()
}

func (p *pool) remove(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns = slices.DeleteFunc(p.conns, func(other *conn) bool { return other == c })
	c.signedIn, c.probed = false, false
	p.wake()
}

// distrust discards every connection's successful probe: the node refused a close for a
// reason that most likely applies to all of them. It returns them all.
func (p *pool) distrust(refusal error) []*conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closeRefusal = refusal
	p.closeRefusals++
	for _, c := range p.conns {
		c.probed = false
	}
	p.wake()
	return slices.Clone(p.conns)
}

// trust forgets the last refusal: a close was executed.
func (p *pool) trust() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closeRefusal = nil
}

// refusals returns why the node refused the last close as not allowed on its connection,
// and how often it has.
func (p *pool) refusals() (times uint64, refusal error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closeRefusals, p.closeRefusal
}

// setProbed keeps a probe's result: nil, or a mismatch. A success counts only of a
// connection that is up, and only if the node has refused no close since the probe began.
// It reports whether a mismatch is the first of its connector.
func (p *pool) setProbed(c *conn, mismatch error, refusalsBefore uint64) (first bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case mismatch != nil:
		first = p.mismatches[c.connector] == nil
		p.mismatches[c.connector], c.probed = mismatch, false
	case refusalsBefore != p.closeRefusals:
		return false
	case slices.Contains(p.conns, c) && !c.ended():
		c.probed = true
		delete(p.mismatches, c.connector)
	}
	p.wake()
	return first
}

// canSend reports whether a close may be sent on some connection, and a mismatch that keeps
// closes from being sent at all.
func (p *pool) canSend() (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.conns, (*conn).canSend), p.mismatch()
}

// mismatch is that of the first connector that has one: a node behind it accepts expired
// requests. The lock is held.
func (p *pool) mismatch() error {
	var first *connector
	for l := range p.mismatches {
		if first == nil || l.number < first.number {
			first = l
		}
	}
	return p.mismatches[first]
}

// canSend reports whether a close may be sent on the connection. The pool's lock is held.
func (c *conn) canSend() bool { return c.signedIn && c.probed && !c.ended() }

// setSignedIn marks a connection as signed in, or not.
func (p *pool) setSignedIn(c *conn, signedIn bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.signedIn = signedIn && slices.Contains(p.conns, c)
	p.wake()
}

// count is how many connections are up, and how many of them signed in.
func (p *pool) count() (up, signedIn int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		if c.ended() {
			continue
		}
		up++
		if c.signedIn {
			signedIn++
		}
	}
	return up, signedIn
}

// Why there is nothing to lease.
var (
	errNotRunning   = errors.New("the client is not running")
	errNoConnection = errors.New("no connection to the node")
	errNotProbed    = errors.New("no connection that is signed in and probed")
)

// crowded reports whether every connection that a close may be sent on has more waiting for
// it than it may send in that time.
func (p *pool) crowded(left time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	sendable := 0
	for _, c := range p.conns {
		if !c.canSend() {
			continue
		}
		if sendable++; !c.throttle.crowded(left) {
			return false
		}
	}
	return sendable > 0
}

// lease takes the least loaded connection, for work of a weight, until it is released. For
// closes it is one that a close may be sent on, waited for until the context ends, and an
// error at once where a mismatch forbids closes. Otherwise it is any, and an error at once
// where there is none.
func (p *pool) lease(ctx context.Context, closes bool, weight int) (*conn, error) {
	for {
		c, changed, err := p.leastLoaded(closes, weight)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
		}
		if c != nil {
			return c, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w: %w", ErrNotSent, errNotProbed, context.Cause(ctx))
		}
	}
}

// leastLoaded returns no connection where it is worth waiting for a change, and an error
// where it isn't.
func (p *pool) leastLoaded(closes bool, weight int) (best *conn, changed <-chan struct{}, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		if !c.canSend() && (closes || c.ended()) {
			continue
		}
		if best == nil || p.before(c, best) {
			best = c
		}
	}
	switch {
	case !p.running:
		return nil, nil, errNotRunning
	case closes && p.mismatch() != nil:
		return nil, nil, p.mismatch()
	case best != nil:
		best.load += weight
	case !closes && len(p.conns) == 0:
		return nil, nil, errNoConnection
	}
	return best, p.changed, nil
}

// before reports whether to lease a before b. A connection that is signed in comes first,
// because a legacy node answers on no other, and a surplus one last, so that it can be
// retired. Of equally loaded connections it is the one that may send most frames at once.
// The lock is held.
func (p *pool) before(a, b *conn) bool {
	if a.signedIn != b.signedIn {
		return a.signedIn
	}
	if sa, sb := p.surplus(a.connector), p.surplus(b.connector); sa != sb {
		return sb
	}
	if a.load != b.load {
		return a.load < b.load
	}
	return a.throttle.available() > b.throttle.available()
}

func (p *pool) release(c *conn, weight int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.load -= weight
}
