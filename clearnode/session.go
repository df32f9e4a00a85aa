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
func (c *Client) Session(ctx context.Context, id settlement.SessionID, look settlement.Look) (settlement.Session, error) {
	s, err := c.session(ctx, id, look)
	if err != nil {
		return settlement.Session{}, fmt.Errorf("session %s: %w", id.Token(), err)
	}
	return s, nil
}

func (c *Client) session(ctx context.Context, id settlement.SessionID, look settlement.Look) (settlement.Session, error) {
	k, err := c.pool.lease(ctx, false, readWeight)
	if err != nil {
		return settlement.Session{}, err
	}
	defer c.pool.giveBack(k, readWeight)
	if _, known := c.clock.bound(time.Now()); !known {
		if err := k.ping(ctx); err != nil {
			return settlement.Session{}, err
		}
	}
	began := time.Now()
	asOf, _ := c.clock.bound(began)
	r := reading{c: c, conn: k, id: id, look: look, own: c.cfg.Signer.Address()}
	s, err := r.session(ctx)
	if err != nil {
		return s, unread(ctx, err)
	}
	s.AsOf = asOf
	// An answer of this read may have shown that the node's clock was set back, and
	// that it stood earlier when the read began than was thought.
	if corrected, _ := c.clock.bound(began); corrected.Before(asOf) {
		s.AsOf = corrected
	}
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

// reading is one read of a session, on one connection.
type reading struct {
	c    *Client
	conn *conn
	id   settlement.SessionID
	look settlement.Look
	own  settlement.Address
}

// session looks once, or twice where one look could mislead.
func (r *reading) session(ctx context.Context) (settlement.Session, error) {
	first, err := r.glance(ctx)
	if errors.Is(err, errAbsent) {
		return first.Session, r.confirmAbsent(ctx)
	}
	if err != nil || !first.Open && !first.untouched() {
		return first.Session, err
	}
	unfunded := first.Unfunded()
	if !unfunded && !r.look.InDoubt {
		return first.Session, nil
	}
	if unfunded {
		if err := pause(ctx, r.c.pace.secondLook); err != nil {
			return first.Session, err
		}
	}
	second, err := r.glance(ctx)
	if err != nil {
		return second.Session, fmt.Errorf("second look: %w", err)
	}
	if second.Open && second.Unfunded() && !unfunded {
		return second.Session, errors.New("it was emptied between two looks: looking again later")
	}
	quick := r.c.cfg.FenceMargin / 4
	second.Quiet = r.look.InDoubt && second.Open && first.took <= quick && second.took <= quick
	return second.Session, nil
}

// untouched: no money ever moved. A close writes a row even where there is nothing
// to pay, so a session that is in no list of open ones and has no rows may have
// been made while it was looked at.
func (g glimpse) untouched() bool { return len(g.Deposits)+len(g.Payouts) == 0 }

// confirmAbsent looks a second time for a session that seemed not to be there.
// The node answers the definition of an unknown session, and of any session while
// its database is away, with the same words; only a ledger read before it and
// one after it tell the two apart.
func (r *reading) confirmAbsent(ctx context.Context) error {
	if err := pause(ctx, r.c.pace.secondLook); err != nil {
		return err
	}
	var before, after []row
	var found bool
	err := r.conn.questions(ctx,
		r.askTransactions(0, &before, nil),
		question{"get_app_definition", definitionOf{r.id}, func(a answer) error {
			_, err := readDefinition(a)
			found = err == nil
			if isUnknown(err) {
				return nil
			}
			return err
		}},
		r.askTransactions(0, &after, nil),
	)
	if err != nil {
		return fmt.Errorf("second look: %w", err)
	}
	if found || len(before) > 0 || len(after) > 0 {
		return errors.New("the node did not know it at first, and then did: looking again later")
	}
	return settlement.ErrSessionNotFound
}

// isUnknown reports whether the node answered that it has no such definition,
// or that its database is away.
func isUnknown(err error) bool {
	var said *nodeError
	return errors.As(err, &said) && said.text == unknownText
}

// evidence is an answer as it is recorded.
func (c *Client) evidence(a answer, protocol string) settlement.NodeAnswer {
	address, _ := c.Address() // known: the answer was verified against it
	return settlement.NodeAnswer{
		URL: publicURL(c.url), Protocol: protocol, Address: address.String(),
		RequestID: a.id, Response: a.response, Signature: a.signature,
	}
}
