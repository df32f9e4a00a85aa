package clearnode

import (
	"context"
	"time"

	"settled/settlement"
)

// nitro is NitroRPC 0.2 and 0.4, as ClearNode 0.5.2 speaks it.
type nitro struct {
	client      *Client
	shelf       shelf
	application string                      // of our session keys
	reserved    map[settlement.Address]bool // which of our accounts are; whoever has the login's turn guards it
}

func newNitro(c *Client) *nitro {
	return &nitro{client: c, application: replicaOf(c.cfg.Application), reserved: map[settlement.Address]bool{}}
}

func (n *nitro) question(method string, params any, at time.Time) (request, error) {
	return unsigned(method, params, at)
}

func (n *nitro) read(_ *conn, raw []byte) (incoming, error) { return readFrame(raw) }

func (n *nitro) verify(a answer) error { return n.client.verify(a) }

func (n *nitro) classify(text string) classified { return nitroRefusals.find(text) }

// ping also tells the node's clock and its address.
func (n *nitro) ping(ctx context.Context, c *conn) error {
	var nothing any
	return c.ask(ctx, "ping", struct{}{}, "pong", &nothing)
}

// nitroExpiry is a private read: only the age of those is looked at.
var nitroExpiry = expiry{
	ask: "get_ledger_balances", params: struct{}{},
	stale: func(text string) bool { return text == staleText },
}

func (n *nitro) probe(ctx context.Context, c *conn) error {
	return c.client.prober.probe(ctx, c, nitroExpiry)
}
