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

const closeMethod = "close_app_session"

// closeParams is what close_app_session takes, in the order that is signed
// (testdata/vectors.json). Session data is left as it is by naming none.
type closeParams struct {
	Session     settlement.SessionID    `json:"app_session_id"`
	Allocations []settlement.Allocation `json:"allocations"`
}

// Prepare builds and signs the close of a session as planned. Its timestamp is
// the node's clock set back, so that the request stays acceptable for
// RequestValidity only. A *settlement.Failure says that our key can never sign
// for the session; *settlement.Waiting that the client isn't ready.
func (c *Client) Prepare(ctx context.Context, plan settlement.Plan, s settlement.Session) (settlement.Request, error) {
	if f := c.maySign(s); f != nil {
		return settlement.Request{}, f
	}
	if plan.Session != s.ID {
		return settlement.Request{}, fmt.Errorf("prepare: the plan is for session %s, not for %s", plan.Session, s.ID)
	}
	if err := c.Ready(); err != nil {
		return settlement.Request{}, &settlement.Waiting{Reason: settlement.NotReady, Err: err}
	}
	now, known := c.clock.bound(time.Now())
	if !known {
		return settlement.Request{}, &settlement.Waiting{Reason: settlement.NotReady, Err: errors.New("the node's clock is not known yet")}
	}
	r, err := c.sign(ctx, plan, now)
	if err != nil {
		return settlement.Request{}, fmt.Errorf("prepare: %w", err)
	}
	return r, nil
}

// maySign holds our one key to the session's quorum.
func (c *Client) maySign(s settlement.Session) *settlement.Failure {
	own := c.cfg.Signer.Address()
	for _, p := range s.Participants {
		if p.Address != own {
			continue
		}
		if p.Weight < s.Quorum {
			return settlement.Fail(settlement.QuorumNotReached, "our key %s has a weight of %d, and the session's quorum is %d", own, p.Weight, s.Quorum)
		}
		return nil
	}
	return settlement.Fail(settlement.NotAParticipant, "our key %s is no participant of the session", own)
}

func (c *Client) sign(ctx context.Context, plan settlement.Plan, now time.Time) (settlement.Request, error) {
	id, stamp := nextID(), millis(now.Add(-c.setBack()))
	req, err := body(id, closeMethod, closeParams{plan.Session, plan.Allocations}, stamp)
	if err != nil {
		return settlement.Request{}, err
	}
	sig, err := signText(ctx, c.cfg.Signer, keccak(req))
	if err != nil {
		return settlement.Request{}, err
	}
	return settlement.Request{
		Ref:        settlement.RequestRef{ID: id, Timestamp: stamp, Digest: digestOf(req)},
		ValidUntil: fromMillis(stamp).Add(c.cfg.MessageExpiry + c.cfg.FenceMargin),
		Frame:      envelope(req, sig),
	}, nil
}

func fromMillis(ms uint64) time.Time { return time.UnixMilli(int64(ms)).UTC() } // #nosec G115 -- milliseconds since 1970

func digestOf(req []byte) string {
	sum := sha256.Sum256(req)
	return hex.EncodeToString(sum[:])
}

// Send sends a close once, on a connection that is signed in and was probed
// itself, for which it waits up to Config.RequestTimeout. Nil: the node
// closed the session by it. *settlement.Refused: it never left, or the node
// refused it before doing anything. Any other error: in doubt.
func (c *Client) Send(ctx context.Context, r settlement.Request) (settlement.Answer, error) {
	session, err := readClose(r)
	began, a := time.Now(), answer{}
	if err != nil {
		err = notSent(closeMethod, err)
	} else {
		a, err = c.sendOnce(ctx, request{id: r.Ref.ID, method: closeMethod, frame: r.Frame})
	}
	c.report(closeMethod, began, a, err)
	if errors.Is(err, ErrNotSent) {
		return settlement.Answer{}, &settlement.Refused{Err: err}
	}
	if err != nil {
		return settlement.Answer{}, err
	}
	return c.closed(a, session)
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

// readClose reads a prepared request back. That the bytes to be sent are those
// that were recorded is looked at once more before money moves.
func readClose(r settlement.Request) (settlement.SessionID, error) {
	var frame struct {
		Req json.RawMessage `json:"req"`
	}
	if err := json.Unmarshal(r.Frame, &frame); err != nil {
		return "", fmt.Errorf("the request can't be read: %w", err)
	}
	if digestOf(frame.Req) != r.Ref.Digest {
		return "", errors.New("the request is not the one that was recorded")
	}
	var id, stamp uint64
	var method string
	var params closeParams
	if err := json.Unmarshal(frame.Req, &[]any{&id, &method, &params, &stamp}); err != nil {
		return "", fmt.Errorf("the request can't be read: %w", err)
	}
	if id != r.Ref.ID || stamp != r.Ref.Timestamp || method != closeMethod {
		return "", errors.New("the request is not the close that was recorded")
	}
	return params.Session, nil
}

// closed reads the answer to a close.
func (c *Client) closed(a answer, session settlement.SessionID) (settlement.Answer, error) {
	if text, failed := a.failed(); failed {
		return settlement.Answer{}, refused(text)
	}
	var p struct {
		Session string `json:"app_session_id"`
		Status  string `json:"status"`
		Version uint64 `json:"version"`
	}
	if err := a.into(closeMethod, &p); err != nil {
		return settlement.Answer{}, fmt.Errorf("%s: %w: %w", closeMethod, ErrNoAnswer, err)
	}
	if p.Session != string(session) || p.Status != "closed" {
		return settlement.Answer{}, fmt.Errorf("%s: %w: the node answers that session %s is %s", closeMethod, ErrNoAnswer, quote(p.Session), quote(p.Status))
	}
	return settlement.Answer{Version: p.Version, Evidence: c.evidence(a, c.protocol(session))}, nil
}

// protocol is by which a session is closed: the definition says so, and it was
// read before the close was planned.
func (c *Client) protocol(id settlement.SessionID) string {
	if d, known := c.shelf.definition(id); known {
		if name, err := protocolOf(d.protocol); err == nil {
			return name
		}
	}
	if c.cfg.Protocol != protocolAuto {
		return c.cfg.Protocol
	}
	return protocol02
}
