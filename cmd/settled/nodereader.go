package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/time/rate"

	"settled/clearnode"
	"settled/settlement"
)

// sessionNode is the node, as far as it shows sessions.
type sessionNode interface {
	Session(ctx context.Context, id settlement.SessionID, look settlement.Look) (settlement.Session, error)
}

// closedLister is the node, as far as it lists closed sessions.
type closedLister interface {
	ClosedSessions(of settlement.Address, since time.Time) *clearnode.ClosedList
}

// nodeReader reads sessions for who compares the books with the node's: no more
// than so many a second, so that whoever settles has the node to itself.
type nodeReader struct {
	node  sessionNode
	lists closedLister // nil: no lists are asked for
	limit *rate.Limiter
	why   func() error // why the node can't be reached
	stop  func()
}

// errNodeGone says that the node can't be reached: no other session can be read
// either.
var errNodeGone = errors.New("the node can't be reached")

// nodePatience is how long a connection is waited for.
const nodePatience = 20 * time.Second

// auditConnections are few: an audit is in no hurry.
const auditConnections = 4

// limiter lets so many through a second; 0: all.
func limiter(perSecond float64) *rate.Limiter {
	if perSecond <= 0 {
		return rate.NewLimiter(rate.Inf, 1)
	}
	return rate.NewLimiter(rate.Limit(perSecond), 1)
}

// newNodeReader connects to the configured node. It needs no key, and signs in only
// where a node answers nobody else: an audit must not be able to move money.
func (c *config) newNodeReader(perSecond float64) (*nodeReader, error) {
	cfg, err := c.nodeSpoken()
	if err != nil {
		return nil, err
	}
	cfg.ReadOnly, cfg.Connections = true, min(cfg.Connections, auditConnections)
	client, err := clearnode.New(cfg)
	if err != nil {
		return nil, err
	}
	stop := beside(context.Background(), func(ctx context.Context) { _ = client.Run(ctx) }) // it ends with the context, and well
	return &nodeReader{node: client, lists: client, limit: limiter(perSecond), why: client.Ready, stop: stop}, nil
}

// close ends the connections. A reader that was never opened has none.
func (r *nodeReader) close() {
	if r != nil && r.stop != nil {
		r.stop()
	}
}

// session reads one session, when it is its turn. errNodeGone: there is no
// connection, and for nodePatience there was none.
func (r *nodeReader) session(ctx context.Context, id settlement.SessionID) (settlement.Session, error) {
	return r.Session(ctx, id, settlement.Look{})
}

// Session is session, with what the read is for.
func (r *nodeReader) Session(ctx context.Context, id settlement.SessionID, look settlement.Look) (s settlement.Session, err error) {
	err = r.inTurn(ctx, func(ctx context.Context) (err error) {
		s, err = r.node.Session(ctx, id, look)
		return err
	})
	return s, err
}

// inTurn reads something when it is its turn, and again while there is no answer.
// errNodeGone: as of session.
func (r *nodeReader) inTurn(ctx context.Context, read func(context.Context) error) error {
	if err := r.limit.Wait(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, nodePatience)
	defer cancel()
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for {
		err := read(ctx)
		switch {
		case !errors.Is(err, clearnode.ErrNotSent) && !errors.Is(err, clearnode.ErrNoAnswer):
			return err
		case ctx.Err() != nil: // the patience is over in the middle of a read
			return r.gone(err)
		}
		select {
		case <-ctx.Done():
			return r.gone(err)
		case <-again.C:
		}
	}
}

func (r *nodeReader) gone(err error) error {
	if r.why != nil && r.why() != nil {
		err = r.why()
	}
	return fmt.Errorf("%w: %w", errNodeGone, err)
}
