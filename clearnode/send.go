package clearnode

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"settled/settlement"
)

// Prepare builds and signs the next request of a plan: the close, or, at a node
// that closes in two steps, the update of the split that comes before it. A
// *settlement.Failure says that no such request can ever be made: our keys and
// the co-signers don't reach the quorum, or this node can't pay such a plan.
// *settlement.Waiting that the client isn't ready, that too few co-signers
// answered in time, or that more requests wait than may be sent in time: what could
// not be sent is not prepared, for once it is recorded it counts as an attempt.
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
	if f := c.maySign(s, o.Signatures); f != nil {
		return settlement.Request{}, f
	}
	c.awaitProof(ctx)
	d := c.spoken()
	if err := c.Ready(); err != nil || d == nil {
		return settlement.Request{}, &settlement.Waiting{Reason: settlement.NotReady, Err: err}
	}
	if c.pool.crowded(c.cfg.RequestTimeout) {
		return settlement.Request{}, &settlement.Waiting{Reason: settlement.NotReady, Err: errCrowded}
	}
	return d.prepare(ctx, o, plan, s)
}

// awaitProof waits a moment for a connection to show that it takes closes, where the
// node refused one: signing in again takes little time.
func (c *Client) awaitProof(ctx context.Context) {
	const moment = time.Second
	ctx, cancel := context.WithTimeout(ctx, moment)
	defer cancel()
	for ctx.Err() == nil {
		changed := c.Changed()
		if _, refusal := c.pool.distrusting(); refusal == nil || c.Ready() == nil {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// stamp is the node's clock, set back so that a request stamped with it stays
// acceptable for RequestValidity only.
func (c *Client) stamp() (uint64, error) {
	now, known := c.clocks.stamp(time.Now())
	if !known {
		return 0, &settlement.Waiting{Reason: settlement.NotReady, Err: errors.New("the node's clock is not known yet")}
	}
	return millis(now.Add(-c.setBack())), nil
}

// inPast refuses to co-sign a stamp that no close of ours would bear now: later
// than the node's clock, so that the request could land longer than anybody waits
// for, or so old that the node takes it no more. Which it is may change with the
// clock, so neither is a refusal for good.
func (c *Client) inPast(stamp uint64) error {
	now, known := c.clocks.stamp(time.Now())
	if !known {
		return &settlement.Waiting{Reason: settlement.NotReady, Err: errors.New("the node's clock is not known yet")}
	}
	age := now.Sub(fromMillis(stamp))
	switch {
	case age < -clockSlack:
		return &settlement.Waiting{Reason: settlement.NotReady, Err: fmt.Errorf("the request's timestamp is %s ahead of the node's clock", -age)}
	case age > c.cfg.MessageExpiry:
		return &settlement.Waiting{Reason: settlement.NotReady, Err: fmt.Errorf("the request is %s old, and the node takes none older than %s", age, c.cfg.MessageExpiry)}
	}
	return nil
}

// clockSlack is how far two parties' lower bounds of one clock may lie apart.
const clockSlack = 2 * time.Second

// setBack is how much older than the node's clock the stamp of a close is.
func (c *Client) setBack() time.Duration { return c.cfg.MessageExpiry - c.cfg.RequestValidity }

// validUntil is until when a request may land that was stamped so.
func (c *Client) validUntil(stamp uint64) time.Time {
	return fromMillis(stamp).Add(c.cfg.MessageExpiry + c.cfg.FenceMargin)
}

// stamped is a close of NitroRPC, of any version, with its signatures.
func (c *Client) stamped(id, stamp uint64, req []byte, signatures []string) settlement.Request {
	return settlement.Request{
		Ref:        settlement.RequestRef{ID: id, Timestamp: stamp, Digest: digestOf(req)},
		ValidUntil: c.validUntil(stamp), Closes: true, Frame: envelope(req, signatures...),
	}
}

var errNotRecorded = errors.New("the request is not the close that was recorded")

// readBack reads the params of such a close. That the bytes to be sent are those
// that were recorded is looked at once more before money moves.
func readBack(r settlement.Request, params any) error {
	var frame struct {
		Req json.RawMessage `json:"req"`
	}
	if err := json.Unmarshal(r.Frame, &frame); err != nil {
		return fmt.Errorf("the request can't be read: %w", err)
	}
	if digestOf(frame.Req) != r.Ref.Digest {
		return errors.New("the request is not the one that was recorded")
	}
	var id, stamp uint64
	var method string
	if err := json.Unmarshal(frame.Req, &[]any{&id, &method, params, &stamp}); err != nil {
		return fmt.Errorf("the request can't be read: %w", err)
	}
	if id != r.Ref.ID || stamp != r.Ref.Timestamp || method != closeMethod {
		return errNotRecorded
	}
	return nil
}

// Send sends a request once, on a connection that is signed in and was probed
// itself, for which it waits up to Config.RequestTimeout. Nil: the node carried it
// out. *settlement.Refused: it never left, or the node refused it before doing
// anything. Any other error: in doubt.
func (c *Client) Send(ctx context.Context, r settlement.Request) (settlement.Answer, error) {
	d := c.spoken()
	if d == nil {
		return settlement.Answer{}, &settlement.Refused{Err: fmt.Errorf("%w: the node's protocol is not known yet", ErrNotSent)}
	}
	began, a := time.Now(), answer{}
	sent, err := d.reread(r)
	if err != nil {
		err = notSent(sent.method, err)
	} else {
		a, err = c.sendOnce(ctx, sent)
	}
	c.report(ctx, d, sent.method, began, a, err)
	if errors.Is(err, ErrNotSent) {
		return settlement.Answer{}, &settlement.Refused{Err: err}
	}
	if err != nil {
		return settlement.Answer{}, err
	}
	if text, failed := a.failed(); failed {
		return settlement.Answer{}, c.refusedWith(sent.method, text, d.classify(text))
	}
	done, err := d.concluded(r, a)
	if err == nil {
		c.pool.trust()
	}
	return done, err
}

// refusedWith is what Send returns of the node's error about a request.
func (c *Client) refusedWith(method, text string, r classified) error {
	err := refused(method, text, r)
	if r.unproven() {
		c.prober.distrust(&nodeError{text: text})
	}
	if !r.listed {
		c.log.Warn().Str("method", method).Str("error", quote(text)).Msg("the node answers with an error that settled does not know: it counts as in doubt")
		if c.cfg.UnknownErrorFunc != nil {
			c.cfg.UnknownErrorFunc(method, text)
		}
	}
	return err
}

// sendOnce tries connections until one takes the request. One that took it had
// it, whatever comes of it: from then on there is no other.
func (c *Client) sendOnce(ctx context.Context, r request) (answer, error) {
	waiting, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
	defer cancel()
	for {
		k, err := c.pool.lease(waiting, true, 1)
		if err != nil {
			return answer{}, fmt.Errorf("%s: %w", r.method, err)
		}
		a, err := k.deliver(waiting, ctx, r)
		c.pool.giveBack(k, 1)
		if !errors.Is(err, ErrNotSent) || !k.over() {
			return a, err
		}
	}
}

// deliver sends a request as long as there is time to, and waits for its answer.
func (c *conn) deliver(sending, waiting context.Context, r request) (answer, error) {
	k, err := c.start(sending, r)
	if err != nil {
		return answer{}, err
	}
	return c.wait(waiting, k)
}

func fromMillis(ms uint64) time.Time { return time.UnixMilli(int64(ms)).UTC() } // #nosec G115 -- milliseconds since 1970

// digestOf identifies the signed bytes of a request: SHA-256, lower-case hex.
func digestOf(signed []byte) string {
	sum := sha256.Sum256(signed)
	return hex.EncodeToString(sum[:])
}
