// Package nitronode speaks nitronode 1, as version 1.4.1 does (recorded: testdata/v1; facts
// marked "source" were read in its code, and those marked "measured" were found by
// experiments on it).
//
// The node has no sign-in and signs no answer: whoever answers at the node's address is
// believed, so that address needs TLS. No request expires; each session has a version, and
// of all updates to one version the node executes one.
package nitronode

import (
	"context"
	"time"

	"settled/clearnode/internal/protocol"
	"settled/settlement"
)

// Protocol is the name of the protocol.
const Protocol = "nitronode/v1"

// Methods.
const (
	methodPing         = "node.v1.ping"
	methodConfig       = "node.v1.get_config"
	methodAssets       = "node.v1.get_assets"
	methodSessions     = "app_sessions.v1.get_app_sessions"
	methodSubmit       = "app_sessions.v1.submit_app_state"
	methodTransactions = "user.v1.get_transactions"
)

// Node speaks to a node of this generation.
type Node struct {
	client       protocol.Client
	settings     *protocol.Settings
	assets       protocol.Assets
	transactions transactionCache
}

// New returns a Node that uses a client.
func New(c protocol.Client, s *protocol.Settings) *Node {
	return &Node{client: c, settings: s, assets: protocol.Assets{Method: methodAssets, Params: struct{}{}, Read: readAssets}}
}

// Traits are the properties of the generation. The budget is what a node lets one
// connection send before it resets it: 10 frames a second and 20 at once (recorded); 256
// KiB a second and 1 MiB at once (source). The bursts are halved, because frames that a
// network delays arrive together.
func (n *Node) Traits() protocol.Traits {
	return protocol.Traits{
		Protocol: Protocol, Versioned: true, SettleMethod: methodSubmit,
		Budget:    protocol.Budget{Frames: 10, Burst: 10, Bytes: 256 << 10, ByteBurst: 512 << 10},
		ClockRead: protocol.Question{Method: methodPing, Params: struct{}{}},
	}
}

// Ping shows the node's clock.
func (n *Node) Ping(ctx context.Context, c protocol.Conn) error {
	var nothing any
	return c.Ask(ctx, methodPing, struct{}{}, methodPing, &nothing)
}

// SignIn signs nobody in. It learns the node's address and its assets.
func (n *Node) SignIn(ctx context.Context, c protocol.Conn) error {
	var address settlement.Address
	err := c.AskAll(ctx,
		protocol.Question{Method: methodConfig, Params: struct{}{}, Read: func(a protocol.Answer) (err error) {
			address, err = readNodeAddress(a)
			return err
		}},
		n.assets.Question())
	if err != nil {
		return err
	}
	return n.client.VerifyAddress(address)
}

// LearnAddress makes the node show its address.
func (n *Node) LearnAddress(ctx context.Context, c protocol.Conn) error { return n.SignIn(ctx, c) }

// NewRequest makes a request that needs no signature. No node checks the envelope's time
// (recorded: a request of 1970 is answered).
func (n *Node) NewRequest(method string, params any, at time.Time) (protocol.Request, error) {
	id := protocol.NextID()
	frame, err := encodeFrame(id, method, params, protocol.Millis(at))
	return protocol.Request{ID: id, Method: method, Frame: frame}, err
}

// Classify says what an error means for a request that changes a session.
func (n *Node) Classify(text string) protocol.Refusal { return refusals.Find(text) }

// VerifyAnswer has nothing to verify: this generation signs no answer. An answer is one by
// its id, which nobody but the node's side of the connection saw.
func (n *Node) VerifyAnswer(protocol.Answer) error { return nil }
