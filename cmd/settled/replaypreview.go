package main

import (
	"context"
	"errors"
	"fmt"

	"settled/cmd/settled/internal/audit"
	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/natsconn"
	"settled/cmd/settled/internal/status"
	"settled/ledger"
	"settled/settlement"
)

// replayPreview determines the state of a session and the result that an outcome would
// have now. It changes nothing. It reports if the ledger or the node can't be reached.
type replayPreview struct {
	ledger    *ledger.Ledger
	ledgerErr error
	node      settlement.Node // that only reads
	settler   *settlement.Settler
	close     func()
}

// newReplayPreview opens the ledger, and the node where one is configured.
func newReplayPreview(ctx context.Context, cfg *config.Config, nc *natsconn.Link) *replayPreview {
	o := &replayPreview{close: func() {}}
	only := cfg.Ledger()
	only.Create = false
	o.ledger, _, o.ledgerErr = ledger.Open(ctx, nc.JS, only)
	reader, err := openNodeReader(cfg)
	if err != nil {
		o.node = readOnlyNode{unavailableNode{err}}
	} else {
		o.node, o.close = readOnlyNode{reader}, reader.Close
	}
	o.settler = &settlement.Settler{
		Node: o.node, Ledger: o.ledger, Policies: cfg.Policies, Limits: cfg.Limits, MaxAttempts: cfg.ConsumerMaxAttempts, FenceMargin: cfg.NodeFenceMargin,
		TrustFunc: cfg.TrustFunc(),
	}
	return o
}

// openNodeReader returns a reader of sessions at the configured node.
func openNodeReader(c *config.Config) (*audit.NodeReader, error) {
	if c.NodeURL == "" {
		return nil, errors.New("clearnode.url is not set")
	}
	return audit.OpenNode(c, 0)
}

// preview returns the decision about an outcome.
func (o *replayPreview) preview(ctx context.Context, outcome settlement.Outcome) (settlement.Decision, error) {
	if o.ledgerErr != nil {
		return settlement.Decision{}, fmt.Errorf("the ledger can't be read: %w", o.ledgerErr)
	}
	return o.settler.Preview(ctx, outcome)
}

// readOnlyNode is a node that is only read.
type readOnlyNode struct{ audit.SessionNode }

var errReadOnly = errors.New("preview only: nothing is prepared or sent")

func (readOnlyNode) Prepare(context.Context, settlement.Outcome, settlement.Plan, settlement.Session) (settlement.Request, error) {
	return settlement.Request{}, errReadOnly
}

func (readOnlyNode) Send(context.Context, settlement.Request) (settlement.Answer, error) {
	return settlement.Answer{}, errReadOnly
}

// errNodeNotAsked says that the result can't be predicted without the node.
var errNodeNotAsked = errors.New("the node is not asked")

// unavailableNode is a node that isn't asked, and why.
type unavailableNode struct{ reason error }

func (n unavailableNode) Session(context.Context, settlement.SessionID, settlement.ReadOptions) (settlement.Session, error) {
	return settlement.Session{}, &settlement.Waiting{Reason: settlement.NodeUnavailable, Err: fmt.Errorf("%w: %w", errNodeNotAsked, n.reason)}
}

// forecast translates the next decision for the user.
func (o *replayPreview) forecast(ctx context.Context, outcome settlement.Outcome) (status.Forecast, error) {
	decision, err := o.preview(ctx, outcome)
	if err != nil {
		return status.Forecast{}, err
	}
	f := status.NewForecast(outcome, decision)
	if decision.Waiting != nil && errors.Is(decision.Waiting.Err, errNodeNotAsked) {
		f.Would, f.Code = "unknown", ""
	}
	return f, nil
}
