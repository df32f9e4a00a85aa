package clearnode

import (
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
// out one that was given up. Connections ask for it when they have signed in, and
// are served one at a time, not faster than the pace.
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

// next is the connection that has waited longest and is still signed in. One
// that isn't asks again when it is.
func (p *prober) next() *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.queue) > 0 {
		c := p.queue[0]
		p.queue = p.queue[1:]
		if p.client.pool.signedIn(c) {
			return c
		}
	}
	return nil
}

func (p *prober) run(ctx context.Context) {
	every := time.NewTicker(p.client.pace.probeEvery)
	defer every.Stop()
	for ctx.Err() == nil {
		c := p.next()
		if c == nil {
			select {
			case <-ctx.Done():
			case <-p.asked:
			case <-every.C:
				p.askAll()
			}
			continue
		}
		if !p.note(c, p.probe(ctx, c)) {
			p.ask(c) // bad, or nothing learned: again, after a while
		}
		p.client.reconsider()
		_ = pause(ctx, p.client.pace.probeGap)
	}
}

func (p *prober) askAll() {
	p.client.pool.mu.Lock()
	conns := slices.Clone(p.client.pool.conns)
	p.client.pool.mu.Unlock()
	for _, c := range conns {
		p.ask(c)
	}
}

// expiryDiffers is the verdict against a node.
type expiryDiffers struct{ why string }

func (e *expiryDiffers) Error() string {
	return e.why + ": set clearnode.message_expiry to the node's (its MSG_EXPIRY_TIME)"
}

// note keeps a verdict. It reports whether the connection is done with for now.
func (p *prober) note(c *conn, err error) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	var differs *expiryDiffers
	switch {
	case err == nil:
		c.line.probed, c.line.verdict = true, nil
		p.doubt = nil
	case errors.As(err, &differs):
		if c.line.verdict == nil {
			p.client.log.Error().Err(err).Int("connection", c.line.number).Msg("nothing is sent: the message expiry differs")
		}
		c.line.probed, c.line.verdict = true, err
	default:
		p.doubt = err
	}
	return err == nil
}

// state is nil where some line was found good and none bad.
func (p *prober) state() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	good := false
	for _, l := range p.client.lines {
		if l.verdict != nil {
			return l.verdict
		}
		good = good || l.probed
	}
	if good {
		return nil
	}
	if p.doubt != nil {
		return fmt.Errorf("the node's message expiry is not probed yet: %w", p.doubt)
	}
	return errors.New("the node's message expiry is not probed yet")
}

// probe makes two harmless private reads: one older than any request may be, and
// one as old as a close is when it is sent. Nil: both were answered as configured.
func (p *prober) probe(ctx context.Context, c *conn) error {
	if err := c.ping(ctx); err != nil {
		return err // for a fresh bound: a low one would make the reads too old
	}
	now := p.client.nodeTime()
	stale, err := p.read(now.Add(-p.tooOld()))
	if err != nil {
		return err
	}
	fresh, err := p.read(now.Add(-p.client.setBack()))
	if err != nil {
		return err
	}
	answers, err := c.round(ctx, stale, fresh)
	if err != nil {
		return err
	}
	return errors.Join(p.judgeStale(answers[0], now), p.judgeFresh(answers[1], now))
}

func (p *prober) read(at time.Time) (request, error) {
	return unsigned("get_ledger_balances", struct{}{}, at)
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
func (p *prober) judgeStale(a answer, now time.Time) error {
	cfg := &p.client.cfg
	stamp := now.Add(-p.tooOld())
	refused, err := refusedAsOld(a)
	switch {
	case err != nil:
		return err
	case !refused && a.at.Sub(stamp) <= cfg.MessageExpiry:
		return errors.New("the node's clock was set back during the probe")
	case !refused:
		return &expiryDiffers{fmt.Sprintf("the node accepts a request %s old and is configured to refuse it after %s, so a close that was given up could still land", p.tooOld(), cfg.MessageExpiry)}
	case a.at.Sub(stamp) > p.tooOld()+cfg.FenceMargin/4:
		return errors.New("the probe was answered too slowly to prove anything")
	}
	return nil
}

// judgeFresh: a refusal counts only if the answer came before the request's
// validity was half over.
func (p *prober) judgeFresh(a answer, now time.Time) error {
	refused, err := refusedAsOld(a)
	switch {
	case err != nil:
		return err
	case !refused:
		return nil
	case a.at.Sub(now) > p.client.cfg.RequestValidity/2:
		return errors.New("the probe was answered too slowly to prove anything")
	}
	return &expiryDiffers{fmt.Sprintf("message_expiry (%s) is larger than the node's: it would refuse every close, which is stamped %s old", p.client.cfg.MessageExpiry, p.client.setBack())}
}

// refusedAsOld reads the answer to a private read: taken, or refused for its
// age, or neither.
func refusedAsOld(a answer) (bool, error) {
	text, failed := a.failed()
	if failed && text == staleText {
		return true, nil
	}
	var balances any
	return false, a.into("get_ledger_balances", &balances)
}

// setBack is how much older than the node's clock the stamp of a close is.
func (c *Client) setBack() time.Duration { return c.cfg.MessageExpiry - c.cfg.RequestValidity }
