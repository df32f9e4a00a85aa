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
	changed chan struct{} // closed and replaced when a connection comes, goes, signs in or is probed

	// against says of a line what speaks against sending closes. Unlike a good
	// verdict it outlives its connection: until the next one is probed it is all
	// that is known of what the line reaches.
	against map[*line]error

	// refusal is why the node refused a close as not allowed on the connection; nil once
	// a close was carried out after it. As long as it is set, a probe also shows that the
	// connection takes closes. distrusted counts such refusals.
	refusal    error
	distrusted uint64
}

func newPool() *pool {
	return &pool{changed: make(chan struct{}), against: map[*line]error{}}
}

func (p *pool) wake() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// run says whether there will be connections at all.
func (p *pool) run(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running = on
	p.wake()
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
	c.signed, c.probed = false, false
	p.wake()
}

// distrust takes every connection's good verdict away, and keeps why: the node
// refused a close for what is true of all of them, most likely. It returns them all.
func (p *pool) distrust(refusal error) []*conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refusal = refusal
	p.distrusted++
	for _, c := range p.conns {
		c.probed = false
	}
	p.wake()
	return slices.Clone(p.conns)
}

// trust forgets the last refusal: a close was carried out.
func (p *pool) trust() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refusal = nil
}

// distrusting is why closes are not trusted to be taken, and how often they were
// refused so.
func (p *pool) distrusting() (times uint64, refusal error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.distrusted, p.refusal
}

// probed keeps a probe's verdict: nil, it is good. A good one is of a connection
// that lasts, and was not distrusted since the probe began, or nothing. It reports
// whether the verdict is the first bad one of its line.
func (p *pool) probed(c *conn, verdict error, distrusted uint64) (news bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case verdict != nil:
		news = p.against[c.line] == nil
		p.against[c.line], c.probed = verdict, false
	case distrusted != p.distrusted:
		return false
	case slices.Contains(p.conns, c) && !c.over():
		c.probed = true
		delete(p.against, c.line)
	}
	p.wake()
	return news
}

// fit reports whether a close may be sent on some connection.
func (p *pool) fit() (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.conns, (*conn).fit), p.barred()
}

// barred is what speaks against sending closes at all: a node behind one line
// whose fence doesn't hold. The lock is held.
func (p *pool) barred() error {
	var first *line
	for l := range p.against {
		if first == nil || l.number < first.number {
			first = l
		}
	}
	return p.against[first]
}

// fit: the pool's lock is held.
func (c *conn) fit() bool { return c.signed && c.probed && !c.over() }

// sign marks a connection as signed in, or not.
func (p *pool) sign(c *conn, in bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.signed = in && slices.Contains(p.conns, c)
	p.wake()
}

func (p *pool) signedIn(c *conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return c.signed && !c.over()
}

// count is how many connections are up, and how many of them signed in.
func (p *pool) count() (up, signed int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		if c.over() {
			continue
		}
		up++
		if c.signed {
			signed++
		}
	}
	return up, signed
}

// Why there is nothing to lease.
var (
	errNotRunning   = errors.New("the client is not running")
	errNoConnection = errors.New("no connection to the node")
	errNotFit       = errors.New("no connection that is signed in and probed")
)

// crowded reports whether every connection that a close may be sent on has more
// waiting for it than it may send in that time.
func (p *pool) crowded(left time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	fit := 0
	for _, c := range p.conns {
		if !c.fit() {
			continue
		}
		if fit++; !c.limit.crowded(left) {
			return false
		}
	}
	return fit > 0
}

// lease takes the least loaded connection, for work of a weight, until it is
// given back. Fit: one that a close may be sent on, waited for until the context
// ends, and an error at once where closes are barred. Otherwise any, and an error
// at once where there is none.
func (p *pool) lease(ctx context.Context, fit bool, weight int) (*conn, error) {
	for {
		c, changed, err := p.least(fit, weight)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
		}
		if c != nil {
			return c, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w: %w", ErrNotSent, errNotFit, context.Cause(ctx))
		}
	}
}

// least is the least loaded connection; none where it is worth waiting for a
// change; an error where it isn't.
func (p *pool) least(fit bool, weight int) (best *conn, changed <-chan struct{}, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		if (c.fit() || !fit && !c.over()) && (best == nil || c.better(best)) {
			best = c
		}
	}
	switch {
	case !p.running:
		return nil, nil, errNotRunning
	case fit && p.barred() != nil:
		return nil, nil, p.barred()
	case best != nil:
		best.load += weight
	case !fit && len(p.conns) == 0:
		return nil, nil, errNoConnection
	}
	return best, p.changed, nil
}

// better: one that is signed in, for a legacy node answers no other; then the less
// loaded. The pool's lock is held.
func (c *conn) better(other *conn) bool {
	if c.signed != other.signed {
		return c.signed
	}
	return c.load < other.load
}

func (p *pool) giveBack(c *conn, weight int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.load -= weight
}

// over reports whether the connection has ended.
func (c *conn) over() bool {
	select {
	case <-c.gone:
		return true
	default:
		return false
	}
}
