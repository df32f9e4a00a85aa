package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/time/rate"

	"settled/clearnode"
	"settled/cmd/settled/internal/background"
	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/terminal"
	"settled/settlement"
)

// SessionNode is the node, as far as it shows sessions.
type SessionNode interface {
	Session(ctx context.Context, id settlement.SessionID, options settlement.ReadOptions) (settlement.Session, error)
}

// closedLister is the node, as far as it lists closed sessions.
type closedLister interface {
	ClosedSessions(of settlement.Address, since time.Time) *clearnode.ClosedList
}

// NodeReader reads sessions for who compares the books with the node's: no more
// than so many a second, so that whoever settles has the node to itself.
type NodeReader struct {
	Node  SessionNode
	Lists closedLister // nil: no lists are asked for
	Limit *rate.Limiter
	Why   func() error // why the node can't be reached
	stop  func()
}

// errNodeGone says that the node can't be reached: no other session can be read
// either.
var errNodeGone = errors.New("the node can't be reached")

// nodePatience is how long a connection is waited for.
const nodePatience = 20 * time.Second

// auditConnections are few: an audit is in no hurry.
const auditConnections = 4

// OpenNode connects to the configured node. It needs no key, and signs in only
// where a node answers nobody else: an audit must not be able to move money.
func OpenNode(c *config.Config, perSecond float64) (*NodeReader, error) {
	cfg, err := c.NodeWithoutKeys()
	if err != nil {
		return nil, err
	}
	cfg.ReadOnly, cfg.Connections = true, min(cfg.Connections, auditConnections)
	client, err := clearnode.New(cfg)
	if err != nil {
		return nil, err
	}
	stop := background.Run(context.Background(), func(ctx context.Context) { _ = client.Run(ctx) }) // it ends with the context, and well
	return &NodeReader{Node: client, Lists: client, Limit: terminal.Limiter(perSecond), Why: client.Ready, stop: stop}, nil
}

// Close ends the connections. A reader that was never opened has none.
func (r *NodeReader) Close() {
	if r != nil && r.stop != nil {
		r.stop()
	}
}

// ReadSession reads one session, when it is its turn. errNodeGone: there is no
// connection, and for nodePatience there was none.
func (r *NodeReader) ReadSession(ctx context.Context, id settlement.SessionID) (settlement.Session, error) {
	return r.Session(ctx, id, settlement.ReadOptions{})
}

// Session is session, with what the read is for.
func (r *NodeReader) Session(ctx context.Context, id settlement.SessionID, options settlement.ReadOptions) (s settlement.Session, err error) {
	err = r.inTurn(ctx, func(ctx context.Context) (err error) {
		s, err = r.Node.Session(ctx, id, options)
		return err
	})
	return s, err
}

// inTurn reads something when it is its turn, and again while there is no answer.
// errNodeGone: as of session.
func (r *NodeReader) inTurn(ctx context.Context, read func(context.Context) error) error {
	if err := r.Limit.Wait(ctx); err != nil {
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

func (r *NodeReader) gone(err error) error {
	if r.Why != nil && r.Why() != nil {
		err = r.Why()
	}
	return fmt.Errorf("%w: %w", errNodeGone, err)
}
