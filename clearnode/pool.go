package clearnode

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// pool is the connections that are up.
type pool struct {
	mu      sync.Mutex
	conns   []*conn
	running bool
	changed chan struct{} // closed and replaced when a connection comes, goes or signs in
}

func newPool() *pool { return &pool{changed: make(chan struct{})} }

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
	c.signed = false
	p.wake()
}

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
	errNotSignedIn  = errors.New("no connection that is signed in")
)

// lease takes the least loaded connection, for work of a weight, until it is
// given back. Signed: one that is signed in, waited for until the context ends.
// Otherwise any, and an error at once where there is none.
func (p *pool) lease(ctx context.Context, signed bool, weight int) (*conn, error) {
	for {
		c, changed, err := p.least(signed, weight)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
		}
		if c != nil {
			return c, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w: %w", ErrNotSent, errNotSignedIn, context.Cause(ctx))
		}
	}
}

// least is the least loaded connection; none where it is worth waiting for a
// change; an error where it isn't.
func (p *pool) least(signed bool, weight int) (best *conn, changed <-chan struct{}, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		if (c.signed || !signed) && !c.over() && (best == nil || c.load < best.load) {
			best = c
		}
	}
	switch {
	case !p.running:
		return nil, nil, errNotRunning
	case best != nil:
		best.load += weight
	case !signed && len(p.conns) == 0:
		return nil, nil, errNoConnection
	}
	return best, p.changed, nil
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
