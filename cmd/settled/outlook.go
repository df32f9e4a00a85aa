package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"settled/clearnode"
	"settled/ledger"
	"settled/settlement"
)

// nodeTime is how long the node is waited for until it can be read.
const nodeTime = 15 * time.Second

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
func newOutlook(ctx context.Context, cfg *config, nc *natsLink) *outlook {
	o := &outlook{close: func() {}}
	only := cfg.ledgerConfig()
	only.Create = false
	o.ledger, _, o.ledgerErr = ledger.Open(ctx, nc.js, only)
	client, err := cfg.readingNode()
	if err != nil {
		o.node = noNode{err}
	} else {
		o.close = runNode(ctx, client)
		o.node = readOnly{client}
	}
	o.settler = &settlement.Settler{
		Node: o.node, Ledger: o.ledger, Policies: cfg.policies, MaxAttempts: cfg.consumerMaxAttempts, FenceMargin: cfg.nodeMargin,
	}
	return o
}

// readingNode is a client for looking at sessions, on one connection. A legacy node
// keeps one connection a key, which the running service has: it isn't asked.
func (c *config) readingNode() (*clearnode.Client, error) {
	if c.nodeProtocol == legacyProtocol {
		return nil, errors.New("a legacy node keeps one connection a key, and the running service has it")
	}
	cfg, err := c.nodeConfig(nil)
	if err != nil {
		return nil, err
	}
	cfg.Connections = 1
	return clearnode.New(cfg)
}

// legacyProtocol is clearnode.protocol of a legacy node.
const legacyProtocol = "nitrorpc/legacy"

// runNode runs a client until the function that it returns is called, and waits until
// it can be asked, or for a while.
func runNode(ctx context.Context, client *clearnode.Client) (stop func()) {
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- client.Run(running) }()
	patient, enough := context.WithTimeout(ctx, nodeTime)
	defer enough()
	for changed := client.Changed(); client.Ready() != nil && patient.Err() == nil; changed = client.Changed() {
		select {
		case <-changed:
		case <-patient.Done():
		}
	}
	return func() { cancel(); <-done }
}

// preview is what would become of an outcome.
func (o *outlook) preview(ctx context.Context, outcome settlement.Outcome) (settlement.Step, error) {
	if o.ledgerErr != nil {
		return settlement.Step{}, fmt.Errorf("the ledger can't be read: %w", o.ledgerErr)
	}
	return o.settler.Preview(ctx, outcome)
}

// readOnly is a node that is only read.
type readOnly struct{ settlement.Node }

var errReadOnly = errors.New("only looking: nothing is prepared or sent")

func (readOnly) Prepare(context.Context, settlement.Outcome, settlement.Plan, settlement.Session) (settlement.Request, error) {
	return settlement.Request{}, errReadOnly
}

func (readOnly) Send(context.Context, settlement.Request) (settlement.Answer, error) {
	return settlement.Answer{}, errReadOnly
}

// noNode is a node that isn't asked, and why.
type noNode struct{ why error }

func (n noNode) Session(context.Context, settlement.SessionID, settlement.Look) (settlement.Session, error) {
	return settlement.Session{}, &settlement.Waiting{Reason: settlement.NodeAway, Err: fmt.Errorf("the node is not asked: %w", n.why)}
}

func (noNode) Prepare(context.Context, settlement.Outcome, settlement.Plan, settlement.Session) (settlement.Request, error) {
	return settlement.Request{}, errReadOnly
}

func (noNode) Send(context.Context, settlement.Request) (settlement.Answer, error) {
	return settlement.Answer{}, errReadOnly
}
