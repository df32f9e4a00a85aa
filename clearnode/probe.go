package clearnode

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"settled/clearnode/internal/protocol"
)

// probeLead is how much older than message_expiry the probe's stale read is.
const probeLead = 2 * time.Second

// prober finds out whether the node's message expiry is the configured one, on which the
// whole fence rests: a node that accepts older requests could execute one that was given
// up. A success ends with its connection, because a node may be configured again where it is
// restarted. Connections request a probe when they have signed in. They are served one at a
// time: those that were never probed at once, because closes wait for them; the others not
// faster than the pace.
type prober struct {
	client    *Client
	requested chan struct{}

	mu           sync.Mutex
	queue        []*conn
	inconclusive error // why the last probe showed nothing
}

func newProber(c *Client) *prober { return &prober{client: c, requested: make(chan struct{}, 1)} }

// request queues a connection for a probe.
func (p *prober) request(c *conn) {
	p.mu.Lock()
	if !slices.Contains(p.queue, c) {
		p.queue = append(p.queue, c)
	}
	p.mu.Unlock()
	select {
	case p.requested <- struct{}{}:
	default:
	}
}

func (p *prober) run(ctx context.Context) {
	every := time.NewTicker(p.client.cfg.pace.probeEvery)
	defer every.Stop()
	rest := time.NewTimer(0)
	defer rest.Stop()
	for rested := false; ctx.Err() == nil; {
		if c := p.next(rested); c != nil {
			p.probe(ctx, c)
			rested = false
			rest.Reset(p.client.cfg.pace.probeGap)
			continue
		}
		select {
		case <-ctx.Done():
		case <-p.requested:
		case <-rest.C:
			rested = true
		case <-every.C:
			p.client.pool.mu.Lock()
			conns := slices.Clone(p.client.pool.conns)
			p.client.pool.mu.Unlock()
			for _, c := range conns {
				p.request(c)
			}
		}
	}
}

// next is the connection that has waited longest and is still signed in; one that isn't
// requests a probe again when it is. Not rested: only one that was never tried.
func (p *prober) next(rested bool) *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queue = slices.DeleteFunc(p.queue, func(c *conn) bool { return !c.SignedIn() })
	at := slices.IndexFunc(p.queue, func(c *conn) bool { return !c.tried })
	if at < 0 && rested && len(p.queue) > 0 {
		at = 0
	}
	if at < 0 {
		return nil
	}
	c := p.queue[at]
	p.queue = slices.Delete(p.queue, at, at+1)
	c.tried = true
	return c
}

// probe probes a connection and keeps the result.
func (p *prober) probe(ctx context.Context, c *conn) {
	refusals, refusal := p.client.pool.refusals()
	err := p.probeExpiry(ctx, c)
	if err == nil && refusal != nil {
		err = c.probeCloses(ctx)
	}
	var mismatch *expiryMismatch
	conclusive := err == nil || errors.As(err, &mismatch)
	if conclusive && p.client.pool.setProbed(c, err, refusals) {
		p.client.log.Error().Err(err).Int("connection", c.connector.number).Msg("nothing is sent: the message expiry differs")
	}
	p.mu.Lock()
	if !conclusive {
		p.inconclusive = err
	} else if err == nil {
		p.inconclusive = nil
	}
	p.mu.Unlock()
	if err != nil {
		p.request(c)
	}
	p.client.notifyReadiness()
}

// distrust has every connection probed again, each as if for the first time: the node
// refused a close as not allowed on its connection. Until one of them has shown that it
// accepts closes the client is not ready, so that nothing is prepared.
func (p *prober) distrust(refusal error) {
	conns := p.client.pool.distrust(refusal)
	p.mu.Lock()
	for _, c := range conns {
		c.tried = false
	}
	p.mu.Unlock()
	for _, c := range conns {
		p.request(c)
	}
	p.client.notifyReadiness()
}

// probeCloses shows that the node handles closes on a connection, by one that names no
// session and has no signature: it can close nothing, and the node answers what is missing
// in it after it has checked the connection's sign-in and the time.
func (c *conn) probeCloses(ctx context.Context) error {
	traits := c.dialect.Traits()
	if traits.EmptyClose == nil {
		return nil
	}
	r, err := c.dialect.NewRequest(traits.SettleMethod, traits.EmptyClose, c.NodeTime())
	if err != nil {
		return err
	}
	k, err := c.send(ctx, r)
	if err != nil {
		return err
	}
	a, err := c.await(ctx, k)
	if err != nil {
		return err
	}
	if text, failed := a.ErrorText(); failed && c.dialect.Classify(text).Meaning.AboutConnection() {
		return &protocol.NodeError{Text: text}
	}
	return nil
}

// expiryMismatch says that the node's message expiry is not the configured one.
type expiryMismatch struct{ reason string }

func (e *expiryMismatch) Error() string {
	return e.reason + ": set clearnode.message_expiry to the node's (its MSG_EXPIRY_TIME)"
}

// state is nil where the probe of some connection that is up succeeded, and no connector has
// a mismatch.
func (p *prober) state() error {
	canSend, mismatch := p.client.pool.canSend()
	if canSend || mismatch != nil {
		return mismatch
	}
	_, refusal := p.client.pool.refusals()
	p.mu.Lock()
	defer p.mu.Unlock()
	if refusal != nil {
		return fmt.Errorf("the node refused a close for the state of the connection, and no connection has shown since that it takes closes: %w", cmp.Or(p.inconclusive, refusal))
	}
	if p.inconclusive != nil {
		return fmt.Errorf("the node's message expiry is not probed yet: %w", p.inconclusive)
	}
	return errors.New("the node's message expiry is not probed yet")
}

// probeExpiry sends two harmless private reads: one older than any request may be, and one
// as old as a close is when it is sent. Nil: both were answered as configured.
func (p *prober) probeExpiry(ctx context.Context, c *conn) error {
	e := c.dialect.Traits().Expiry
	if e == nil {
		return nil
	}
	if err := c.dialect.Ping(ctx, c); err != nil {
		return err // for a fresh bound: a low one would make the reads too old
	}
	now := c.NodeTime()
	stale, err := c.dialect.NewRequest(e.Method, e.Params, now.Add(-p.staleAge()))
	if err != nil {
		return err
	}
	fresh, err := c.dialect.NewRequest(e.Method, e.Params, now.Add(-p.client.setBack()))
	if err != nil {
		return err
	}
	answers, err := c.RoundTrip(ctx, stale, fresh)
	if err != nil {
		return err
	}
	return errors.Join(p.checkStale(e, answers[0], now), p.checkFresh(e, answers[1], now))
}

// staleAge is the age that the node must refuse. With a short fence margin the lead
// shrinks, so that what it proves is always inside the margin.
func (p *prober) staleAge() time.Duration {
	cfg := &p.client.cfg
	return cfg.MessageExpiry + min(probeLead, cfg.FenceMargin/2)
}

// checkStale compares the stamps of the request and of the answer. The request was at most
// that old. A refusal of one much older than intended proves nothing; nor does an answer
// where the node's clock was set back in between, so that the request was not old at all.
func (p *prober) checkStale(e *protocol.Expiry, a protocol.Answer, now time.Time) error {
	cfg := &p.client.cfg
	stamp := now.Add(-p.staleAge())
	refused, err := e.Refused(a)
	switch {
	case err != nil:
		return err
	case !refused && a.At.Sub(stamp) <= cfg.MessageExpiry:
		return errors.New("the node's clock was set back during the probe")
	case !refused:
		return &expiryMismatch{fmt.Sprintf("the node accepts a request %s old and is configured to refuse it after %s, so a close that was given up could still take effect", p.staleAge(), cfg.MessageExpiry)}
	case a.At.Sub(stamp) > p.staleAge()+cfg.FenceMargin/4:
		return errors.New("the probe was answered too slowly to prove anything")
	}
	return nil
}

// checkFresh: a refusal counts only if the answer came before half of the request's
// validity was over.
func (p *prober) checkFresh(e *protocol.Expiry, a protocol.Answer, now time.Time) error {
	refused, err := e.Refused(a)
	switch {
	case err != nil:
		return err
	case !refused:
		return nil
	case a.At.Sub(now) > p.client.cfg.RequestValidity/2:
		return errors.New("the probe was answered too slowly to prove anything")
	}
	return &expiryMismatch{fmt.Sprintf("message_expiry (%s) is larger than the node's: it would refuse every close, which is stamped %s old", p.client.cfg.MessageExpiry, p.client.setBack())}
}
