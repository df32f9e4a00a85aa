package clearnode

import (
	"context"
	"errors"
	"fmt"
	"time"

	"settled/clearnode/internal/protocol"
	"settled/settlement"
)

// Prepare builds and signs the next request of a plan: the close, or, at a node that closes
// in two steps, the state update that comes before it. A *settlement.Failure says
// that no such request can ever be made: our keys and the co-signers don't reach the quorum,
// or this node can't pay such a plan. *settlement.Waiting says that the client isn't ready,
// that too few co-signers answered in time, or that more requests wait than may be sent in
// time: what could not be sent is not prepared, because once it is recorded it counts as an
// attempt.
func (c *Client) Prepare(ctx context.Context, o settlement.Outcome, plan settlement.Plan, s settlement.Session) (settlement.Request, error) {
	r, err := c.prepare(ctx, o, plan, s)
	if err != nil {
		return settlement.Request{}, fmt.Errorf("prepare: %w", err)
	}
	return r, nil
}

func (c *Client) prepare(ctx context.Context, o settlement.Outcome, plan settlement.Plan, s settlement.Session) (settlement.Request, error) {
	if plan.Session != s.ID {
		return settlement.Request{}, fmt.Errorf("the plan is for session %s, not for %s", plan.Session, s.ID)
	}
	if f := c.checkQuorum(s, o.Signatures); f != nil {
		return settlement.Request{}, f
	}
	c.awaitProbe(ctx)
	d := c.currentDialect()
	if err := c.Ready(); err != nil || d == nil {
		return settlement.Request{}, &settlement.Waiting{Reason: settlement.NotReady, Err: err}
	}
	if c.pool.crowded(c.cfg.RequestTimeout) {
		return settlement.Request{}, &settlement.Waiting{Reason: settlement.NotReady, Err: errCrowded}
	}
	return d.Prepare(ctx, o, plan, s)
}

// awaitProbe waits a second for a connection to show that it accepts closes, where the node
// refused one: signing in again takes little time.
func (c *Client) awaitProbe(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	for ctx.Err() == nil {
		changed := c.Changed()
		if _, refusal := c.pool.refusals(); refusal == nil || c.Ready() == nil {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// Send sends a request once, on a connection that is signed in and was probed itself, for
// which it waits up to Config.RequestTimeout. Nil: the node executed it.
// *settlement.Refused: it never left, or the node refused it before doing anything. Any
// other error: in doubt.
func (c *Client) Send(ctx context.Context, r settlement.Request) (settlement.Answer, error) {
	d := c.currentDialect()
	if d == nil {
		return settlement.Answer{}, &settlement.Refused{Err: fmt.Errorf("%w: the node's protocol is not known yet", ErrNotSent)}
	}
	began := time.Now()
	var a protocol.Answer
	request, err := d.VerifyPrepared(r)
	if err != nil {
		err = protocol.NotSent(request.Method, err)
	} else {
		a, err = c.sendOnce(ctx, request.Request)
	}
	c.reportCall(ctx, d, request.Method, began, a, err)
	if errors.Is(err, ErrNotSent) {
		return settlement.Answer{}, &settlement.Refused{Err: err}
	}
	if err != nil {
		return settlement.Answer{}, err
	}
	if text, failed := a.ErrorText(); failed {
		refusal := d.Classify(text)
		if refusal.Meaning.AboutConnection() {
			c.prober.distrust(&protocol.NodeError{Text: text})
		}
		if refusal.Meaning == protocol.Unknown {
			c.log.Warn().Str("method", request.Method).Str("error", protocol.Quote(text)).Msg("the node answers with an error that settled does not know: it counts as in doubt")
			if c.cfg.UnknownErrorFunc != nil {
				c.cfg.UnknownErrorFunc(request.Method, text)
			}
		}
		return settlement.Answer{}, refusal.Err(request.Method, text)
	}
	result, err := request.Result(a)
	if err == nil {
		c.pool.trust()
		c.completeEvidence(&result.Evidence)
	}
	return result, err
}

// errNoPermit says that a request found no permit in time.
var errNoPermit = errors.New("more requests wait for the node than it answers within clearnode.request_timeout")

// Acquire waits for a permit for one request, up to Config.RequestTimeout. How many there
// are adapts to the node, unless Config.Connections fixes it.
func (c *Client) Acquire(ctx context.Context) (release func(), waited time.Duration, err error) {
	began := time.Now()
	waiting, cancel := context.WithTimeoutCause(ctx, c.cfg.RequestTimeout, errNoPermit)
	defer cancel()
	if err := c.limiter.acquire(waiting); err != nil {
		return nil, time.Since(began), &settlement.Waiting{Reason: settlement.NotReady, Err: err}
	}
	return c.limiter.release, time.Since(began), nil
}

// sendOnce tries connections until one accepts the request. Once one has accepted it, it is
// not sent on another, whatever the result.
func (c *Client) sendOnce(ctx context.Context, r protocol.Request) (protocol.Answer, error) {
	sending, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
	defer cancel()
	for {
		k, err := c.pool.lease(sending, true, closeWeight)
		if err != nil {
			return protocol.Answer{}, fmt.Errorf("%s: %w", r.Method, err)
		}
		a, err := c.sendOn(ctx, sending, k, r)
		c.pool.release(k, closeWeight)
		if !errors.Is(err, ErrNotSent) || !k.ended() {
			return a, err
		}
	}
}

// sendOn sends the request on a connection, and tells the limiter how long the node took. That
// does not include the wait for our own throttle: send returns when the frame leaves.
func (c *Client) sendOn(ctx, sending context.Context, k *conn, r protocol.Request) (protocol.Answer, error) {
	select {
	case k.closeSlots <- struct{}{}:
	case <-k.done:
		return protocol.Answer{}, protocol.NotSent(r.Method, k.cause)
	case <-sending.Done():
		return protocol.Answer{}, protocol.NotSent(r.Method, context.Cause(sending))
	}
	defer func() { <-k.closeSlots }()
	pending, err := k.send(sending, r)
	if err != nil {
		return protocol.Answer{}, err
	}
	epoch, left := c.limiter.begin(), time.Now()
	a, err := k.await(ctx, pending)
	switch now := time.Now(); {
	case err == nil:
		c.limiter.answered(epoch, now.Sub(left), now)
	case ctx.Err() == nil:
		c.limiter.lost(epoch)
	}
	c.adaptConnections()
	return a, err
}
