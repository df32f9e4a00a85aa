package main

import (
	"context"
	"errors"
	"fmt"

	"settled/cmd/settled/internal/audit"
	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/natsconn"
	"settled/ledger"
	"settled/settlement"
)

// outlook sees what a session is now and what would become of an outcome, and changes
// nothing. Ledger or node may be out of reach: then it says so.
type outlook struct {
	ledger    *ledger.Ledger
	ledgerErr error
	node      settlement.Node // that only reads
	settler   *settlement.Settler
	close     func()
}

// newOutlook opens the ledger, and the node where one is configured.
func newOutlook(ctx context.Context, cfg *config.Config, nc *natsconn.Link) *outlook {
	o := &outlook{close: func() {}}
	only := cfg.Ledger()
	only.Create = false
	o.ledger, _, o.ledgerErr = ledger.Open(ctx, nc.JS, only)
	reader, err := openNodeReader(cfg)
	if err != nil {
		o.node = readOnly{noNode{err}}
	} else {
		o.node, o.close = readOnly{reader}, reader.Close
	}
	o.settler = &settlement.Settler{
		Node: o.node, Ledger: o.ledger, Policies: cfg.Policies, Limits: cfg.Limits, MaxAttempts: cfg.ConsumerMaxAttempts, FenceMargin: cfg.NodeFenceMargin,
		TrustFunc: cfg.TrustFunc(),
	}
	return o
}

// openNodeReader reads sessions at the node, where one is configured.
func openNodeReader(c *config.Config) (*audit.NodeReader, error) {
	if c.NodeURL == "" {
		return nil, errors.New("clearnode.url is not set")
	}
	return audit.OpenNode(c, 0)
}

// preview is what would become of an outcome.
func (o *outlook) preview(ctx context.Context, outcome settlement.Outcome) (settlement.Decision, error) {
	if o.ledgerErr != nil {
		return settlement.Decision{}, fmt.Errorf("the ledger can't be read: %w", o.ledgerErr)
	}
	return o.settler.Preview(ctx, outcome)
}

// readOnly is a node that is only read.
type readOnly struct{ audit.SessionNode }

var errReadOnly = errors.New("only looking: nothing is prepared or sent")

func (readOnly) Prepare(context.Context, settlement.Outcome, settlement.Plan, settlement.Session) (settlement.Request, error) {
	return settlement.Request{}, errReadOnly
}

func (readOnly) Send(context.Context, settlement.Request) (settlement.Answer, error) {
	return settlement.Answer{}, errReadOnly
}

// errNotAsked: what would become of an outcome can't be told without the node.
var errNotAsked = errors.New("the node is not asked")

// noNode is a node that isn't asked, and why.
type noNode struct{ why error }

func (n noNode) Session(context.Context, settlement.SessionID, settlement.ReadOptions) (settlement.Session, error) {
	return settlement.Session{}, &settlement.Waiting{Reason: settlement.NodeUnavailable, Err: fmt.Errorf("%w: %w", errNotAsked, n.why)}
}
