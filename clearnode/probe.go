package clearnode

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// probeLead is how much older than message_expiry the probe's stale read is.
const probeLead = 2 * time.Second

// prober finds out whether the node's message expiry is the configured one, on
// which the whole fence rests: a node that accepts older requests could carry
// out one that was given up. A good verdict ends with its connection, for a node
// may be configured anew where it is started anew. Connections ask for a probe when
// they have signed in. They are served one at a time: those that were never probed
// at once, for closes wait for them; the others not faster than the pace.
type prober struct {
	client *Client
	asked  chan struct{}

	mu    sync.Mutex
	queue []*conn
	doubt error // why the last probe told nothing
}

func newProber(c *Client) *prober { return &prober{client: c, asked: make(chan struct{}, 1)} }

// ask queues a connection for a probe.
func (p *prober) ask(c *conn) {
	p.mu.Lock()
	if !slices.Contains(p.queue, c) {
		p.queue = append(p.queue, c)
	}
	p.mu.Unlock()
	select {
	case p.asked <- struct{}{}:
	default:
	}
}

// next is the connection that has waited longest and is still signed in; one
// that isn't asks again when it is. Not rested: only one that was never tried.
func (p *prober) next(rested bool) *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queue = slices.DeleteFunc(p.queue, func(c *conn) bool { return !p.client.pool.signedIn(c) })
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

func (p *prober) run(ctx context.Context) {
	every := time.NewTicker(p.client.pace.probeEvery)
	defer every.Stop()
	rest := time.NewTimer(0)
	defer rest.Stop()
	for rested := false; ctx.Err() == nil; {
		if c := p.next(rested); c != nil {
			p.serve(ctx, c)
			rested = false
			rest.Reset(p.client.pace.probeGap)
			continue
		}
		select {
		case <-ctx.Done():
		case <-p.asked:
		case <-rest.C:
			rested = true
		case <-every.C:
			p.askAll()
		}
	}
}

func (p *prober) serve(ctx context.Context, c *conn) {
	times, refusal := p.client.pool.distrusting()
	err := c.dialect.probe(ctx, c)
	if err == nil && refusal != nil {
		err = c.dialect.takesCloses(ctx, c)
	}
	if !p.note(c, err, times) {
		p.ask(c) // bad, or nothing learned: again, after a while
	}
	p.client.reconsider()
}

// distrust has every connection probed again, each as if for the first time: the
// node refused a close as not allowed on its connection. Until one of them has shown
// that it takes closes the client is not ready, so that nothing is prepared.
func (p *prober) distrust(refusal error) {
	conns := p.client.pool.distrust(refusal)
	p.mu.Lock()
	for _, c := range conns {
		c.tried = false
	}
	p.mu.Unlock()
	for _, c := range conns {
		p.ask(c)
	}
	p.client.reconsider()
}

// takesCloses shows that the node handles closes on a connection, by one that names
// no session and bears no signature: it can close nothing, and the node says what is
// missing in it, after it has looked at the connection's sign-in and at the time.
func (c *conn) takesCloses(ctx context.Context, params any) error {
	r, err := c.dialect.question(closeMethod, params, c.nodeTime())
	if err != nil {
		return err
	}
	a, err := c.deliver(ctx, ctx, r)
	if err != nil {
		return err
	}
	text, failed := a.failed()
	if failed && c.dialect.classify(text).unproven() {
		return &nodeError{text: text}
	}
	return nil
}

func (p *prober) askAll() {
	p.client.pool.mu.Lock()
	conns := slices.Clone(p.client.pool.conns)
	p.client.pool.mu.Unlock()
	for _, c := range conns {
		p.ask(c)
	}
}

// fenceOpen is the verdict against a node.
type fenceOpen struct{ why string }

func (e *fenceOpen) Error() string {
	return e.why + ": set clearnode.message_expiry to the node's (its MSG_EXPIRY_TIME)"
}

// expiry is how a generation of node is asked whether it refuses an old request:
// by a read that changes nothing and whose age the node looks at.
type expiry struct {
	ask    string
	params any
	stale  func(text string) bool // the error that a request too old is refused with
}

// note keeps what a probe told. It reports whether the connection is done with
// for now.
func (p *prober) note(c *conn, err error, distrusted uint64) bool {
	var differs *fenceOpen
	told := err == nil || errors.As(err, &differs)
	if told && p.client.pool.probed(c, err, distrusted) {
		p.client.log.Error().Err(err).Int("connection", c.line.number).Msg("nothing is sent: the message expiry differs")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !told {
		p.doubt = err
	} else if err == nil {
		p.doubt = nil
	}
	return err == nil
}

// state is nil where some connection that is up was found good, and no line bad.
func (p *prober) state() error {
	fit, bad := p.client.pool.fit()
	if fit || bad != nil {
		return bad
	}
	_, refusal := p.client.pool.distrusting()
	p.mu.Lock()
	defer p.mu.Unlock()
	if refusal != nil {
		return fmt.Errorf("the node refused a close for the state of the connection, and no connection has shown since that it takes closes: %w", cmp.Or(p.doubt, refusal))
	}
	if p.doubt != nil {
		return fmt.Errorf("the node's message expiry is not probed yet: %w", p.doubt)
	}
	return errors.New("the node's message expiry is not probed yet")
}

// probe makes two harmless private reads: one older than any request may be, and
// one as old as a close is when it is sent. Nil: both were answered as configured.
func (p *prober) probe(ctx context.Context, c *conn, e expiry) error {
	if err := c.dialect.ping(ctx, c); err != nil {
		return err // for a fresh bound: a low one would make the reads too old
	}
	now := c.nodeTime()
	stale, err := c.dialect.question(e.ask, e.params, now.Add(-p.tooOld()))
	if err != nil {
		return err
	}
	fresh, err := c.dialect.question(e.ask, e.params, now.Add(-p.client.setBack()))
	if err != nil {
		return err
	}
	answers, err := c.round(ctx, stale, fresh)
	if err != nil {
		return err
	}
	return errors.Join(p.judgeStale(e, answers[0], now), p.judgeFresh(e, answers[1], now))
}

// tooOld is the age that the node must refuse. Below a short fence margin the
// lead shrinks, so that what it proves is always inside the margin.
func (p *prober) tooOld() time.Duration {
	cfg := &p.client.cfg
	return cfg.MessageExpiry + min(probeLead, cfg.FenceMargin/2)
}

// judgeStale looks at the time between the stamps of the request and of the
// answer. The request was at most that old. Refused though it was much older than
// meant proves nothing; nor does accepted where the node's clock was set back in
// between, and it was not old at all.
func (p *prober) judgeStale(e expiry, a answer, now time.Time) error {
	cfg := &p.client.cfg
	stamp := now.Add(-p.tooOld())
	refused, err := e.refused(a)
	switch {
	case err != nil:
		return err
	case !refused && a.at.Sub(stamp) <= cfg.MessageExpiry:
		return errors.New("the node's clock was set back during the probe")
	case !refused:
		return &fenceOpen{fmt.Sprintf("the node accepts a request %s old and is configured to refuse it after %s, so a close that was given up could still land", p.tooOld(), cfg.MessageExpiry)}
	case a.at.Sub(stamp) > p.tooOld()+cfg.FenceMargin/4:
		return errors.New("the probe was answered too slowly to prove anything")
	}
	return nil
}

// judgeFresh: a refusal counts only if the answer came before the request's
// validity was half over.
func (p *prober) judgeFresh(e expiry, a answer, now time.Time) error {
	refused, err := e.refused(a)
	switch {
	case err != nil:
		return err
	case !refused:
		return nil
	case a.at.Sub(now) > p.client.cfg.RequestValidity/2:
		return errors.New("the probe was answered too slowly to prove anything")
	}
	return &fenceOpen{fmt.Sprintf("message_expiry (%s) is larger than the node's: it would refuse every close, which is stamped %s old", p.client.cfg.MessageExpiry, p.client.setBack())}
}

// refused reads the answer: taken, or refused for its age, or neither.
func (e expiry) refused(a answer) (bool, error) {
	text, failed := a.failed()
	if failed && e.stale(text) {
		return true, nil
	}
	var result any
	return false, a.into(e.ask, &result)
}
