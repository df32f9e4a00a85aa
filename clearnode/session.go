package clearnode

import (
	"context"
	"errors"
	"fmt"
	"time"

	"settled/settlement"
)

// readWeight is what a read counts for when the least loaded connection is
// looked for: as many requests as it usually makes at once.
const readWeight = 3

// Session reads the session at the node, on one connection. "Not found"
// (settlement.ErrSessionNotFound) and a session with nothing in it are answered
// only when a second look, a second later, shows the same. A *settlement.Failure
// inside the error means that the session's definition, which never changes, can
// never be read. Any other error means that nothing is known: a *settlement.Waiting
// with ReadFailed inside, that the node answered, and this session could not be
// read; none, that there was no connection, no answer (ErrNotSent, ErrNoAnswer) or
// no time.
func (c *Client) Session(ctx context.Context, id settlement.SessionID, options settlement.ReadOptions) (settlement.Session, error) {
	s, err := c.session(ctx, id, options)
	if err != nil {
		return settlement.Session{}, fmt.Errorf("session %s: %w", id.Token(), err)
	}
	return s, nil
}

func (c *Client) session(ctx context.Context, id settlement.SessionID, options settlement.ReadOptions) (settlement.Session, error) {
	k, err := c.pool.lease(ctx, false, readWeight)
	if err != nil {
		return settlement.Session{}, err
	}
	defer c.pool.giveBack(k, readWeight)
	if _, known := k.clock.bound(time.Now()); !known {
		if err := k.dialect.ping(ctx, k); err != nil {
			return settlement.Session{}, err
		}
	}
	began := time.Now()
	asOf, _ := c.clocks.bound(began)
	s, err := k.dialect.session(ctx, k, id, options)
	if err != nil {
		return s, unread(ctx, err)
	}
	// An answer of this read may have shown that the node's clock was set back, and
	// that it stood earlier when the read began than was thought.
	if corrected, _ := c.clocks.bound(began); corrected.Before(asOf) {
		asOf = corrected
	}
	s.AsOf, s.QuorumNeedsUs = asOf.Add(-stampStep), c.needed(s)
	return s, nil
}

// unread tells errors that are about the session from those of the connection,
// and from those that are answers by themselves.
func unread(ctx context.Context, err error) error {
	var never *settlement.Failure
	switch {
	case errors.Is(err, ErrNotSent), errors.Is(err, ErrNoAnswer), ctx.Err() != nil,
		errors.Is(err, settlement.ErrSessionNotFound), errors.As(err, &never):
		return err
	}
	return &settlement.Waiting{Reason: settlement.ReadFailed, Err: err}
}

// errNoParticipants is of a session whose definition lists none, explicitly: nobody can
// be paid, and a definition never changes.
var errNoParticipants = settlement.Fail(settlement.NotAParticipant, "the session's definition names no participants")

// evidence is an answer as it is recorded.
func (c *Client) evidence(a answer, protocol string) settlement.NodeAnswer {
	address, _ := c.Address() // known: the answer was verified against it
	return settlement.NodeAnswer{
		URL: publicURL(c.url), Protocol: protocol, Address: address.String(),
		RequestID: a.id, Response: a.response, Signature: a.signature,
	}
}
