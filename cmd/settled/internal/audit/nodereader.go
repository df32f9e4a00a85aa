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

// SessionNode reads sessions at the node.
type SessionNode interface {
	Session(ctx context.Context, id settlement.SessionID, options settlement.ReadOptions) (settlement.Session, error)
}

// closedLister lists closed sessions at the node.
type closedLister interface {
	ClosedSessions(of settlement.Address, since time.Time) *clearnode.ClosedList
}

// NodeReader reads sessions for a comparison with the ledger, at a limited rate that leaves
// the node to the settling service.
type NodeReader struct {
	Node      SessionNode
	Lists     closedLister // nil: nothing is listed
	Limit     *rate.Limiter
	ReadyFunc func() error // an error while the node can't be reached
	stop      func()
}

// errNodeUnreachable says that the node can't be reached, for any session.
var errNodeUnreachable = errors.New("the node can't be reached")

// nodeTimeout is how long a read waits for a connection.
const nodeTimeout = 20 * time.Second

// auditConnections is the most connections that an audit uses.
const auditConnections = 4

// OpenNode connects to the configured node without a key, so that it can't move money.
func OpenNode(c *config.Config, perSecond float64) (*NodeReader, error) {
	cfg, err := c.NodeWithoutKeys()
	if err != nil {
		return nil, err
	}
	cfg.ReadOnly, cfg.Connections = true, min(c.MostNodeConnections(), auditConnections)
	client, err := clearnode.New(cfg)
	if err != nil {
		return nil, err
	}
	stop := background.Run(context.Background(), func(ctx context.Context) { _ = client.Run(ctx) }) // returns when ctx ends
	return &NodeReader{Node: client, Lists: client, Limit: terminal.NewLimiter(perSecond), ReadyFunc: client.Ready, stop: stop}, nil
}

// Close closes the connections, if OpenNode opened them.
func (r *NodeReader) Close() {
	if r != nil && r.stop != nil {
		r.stop()
	}
}

// Session reads one session. It returns errNodeUnreachable after nodeTimeout without a
// connection.
func (r *NodeReader) Session(ctx context.Context, id settlement.SessionID, options settlement.ReadOptions) (s settlement.Session, err error) {
	err = r.retry(ctx, func(ctx context.Context) (err error) {
		s, err = r.Node.Session(ctx, id, options)
		return err
	})
	return s, err
}

// retry calls read once the rate allows it, and again while there is no answer. It returns
// errNodeUnreachable as Session does.
func (r *NodeReader) retry(ctx context.Context, read func(context.Context) error) error {
	if err := r.Limit.Wait(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, nodeTimeout)
	defer cancel()
	for {
		err := read(ctx)
		if !errors.Is(err, clearnode.ErrNotSent) && !errors.Is(err, clearnode.ErrNoAnswer) {
			return err
		}
		if !background.Sleep(ctx, 100*time.Millisecond) {
			return r.unreachable(err)
		}
	}
}

func (r *NodeReader) unreachable(err error) error {
	if r.ReadyFunc != nil && r.ReadyFunc() != nil {
		err = r.ReadyFunc()
	}
	return fmt.Errorf("%w: %w", errNodeUnreachable, err)
}
