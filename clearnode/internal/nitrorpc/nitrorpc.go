// Package nitrorpc speaks NitroRPC 0.2 and 0.4, as ClearNode 0.5.2 does. Its facts were
// recorded from a running node (testdata); those marked "source" were read in its code,
// and those marked "measured" were found by experiments on it.
package nitrorpc

import (
	"context"
	"time"

	"github.com/ethereum/go-ethereum/common/lru"

	"settled/clearnode/internal/protocol"
	"settled/settlement"
)

// The names of the protocol. Both versions are one generation, which goes by the later
// name when it was found out rather than configured.
const (
	Protocol02 = "nitrorpc/0.2"
	Protocol04 = "nitrorpc/0.4"
)

// Node speaks to a node of this generation.
type Node struct {
	client      protocol.Client
	settings    *protocol.Settings
	definitions *lru.Cache[settlement.SessionID, Definition]
	assets      protocol.Assets
	reserved    map[settlement.Address]bool // our accounts that are; guarded by the login's turn
}

// New returns a Node that uses a client.
func New(c protocol.Client, s *protocol.Settings) *Node {
	return &Node{
		client: c, settings: s, reserved: map[settlement.Address]bool{},
		definitions: NewDefinitionCache(),
		assets:      protocol.Assets{Method: "get_assets", Params: struct{}{}, Read: readAssets},
	}
}

// Traits are the properties of the generation.
func (n *Node) Traits() protocol.Traits {
	return protocol.Traits{
		Protocol: Protocol04, SignsAnswers: true, PublicReads: true, SettleMethod: CloseMethod,
		Expiry: &expiry, EmptyClose: closeParams{Allocations: []settlement.Allocation{}},
		ClockRead: protocol.Question{Method: "ping", Params: struct{}{}},
	}
}

// expiry is a private read: the node checks the age of those only.
var expiry = protocol.Expiry{
	Method: "get_ledger_balances", Params: struct{}{},
	Stale: func(text string) bool { return text == staleText },
}

// Ping also shows the node's clock and its address.
func (n *Node) Ping(ctx context.Context, c protocol.Conn) error {
	var nothing any
	return c.Ask(ctx, "ping", struct{}{}, "pong", &nothing)
}

// LearnAddress makes the node show its address.
func (n *Node) LearnAddress(ctx context.Context, c protocol.Conn) error { return n.Ping(ctx, c) }

// NewRequest makes a request that needs no signature.
func (n *Node) NewRequest(method string, params any, at time.Time) (protocol.Request, error) {
	id := protocol.NextID()
	req, err := encodeRequest(id, method, params, protocol.Millis(at))
	if err != nil {
		return protocol.Request{}, err
	}
	return protocol.Request{ID: id, Method: method, Frame: Envelope(req)}, nil
}

// Classify says what an error means for a request that changes a session.
func (n *Node) Classify(text string) protocol.Refusal { return refusals.Find(text) }

// VerifyAnswer checks the node's signature.
func (n *Node) VerifyAnswer(a protocol.Answer) error { return VerifySignature(n.client, a) }
