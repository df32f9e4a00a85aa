package clearnodetest

import (
	"fmt"

	"github.com/ethereum/go-ethereum/common"
	"github.com/shopspring/decimal"

	"settled/clearnode/clearnodetest/internal/legacy"
	"settled/clearnode/clearnodetest/internal/nitronode"
	"settled/clearnode/clearnodetest/internal/nitrorpc"
	"settled/clearnode/clearnodetest/internal/server"
)

// The protocols for Config.Protocol.
const (
	Nitro02     = "nitrorpc/0.2"    // ClearNode 0.5.2, which serves sessions of both its protocols whichever is configured
	Nitro04     = "nitrorpc/0.4"    // the same node
	Legacy      = "nitrorpc/legacy" // the ClearNode of May 2025
	NitronodeV1 = "nitronode/v1"    // nitronode 1.4.1
)

// What configures a node, and what it reports.
type (
	Config       = server.Config
	Asset        = server.Asset
	CloseAnswer  = server.CloseAnswer
	LegacyBuild  = server.LegacyBuild
	Definition   = server.Definition
	Allocation   = server.Allocation
	SessionState = server.SessionState
	CloseRecord  = server.CloseRecord
)

// Node is a running node. Its methods may be called from any goroutine.
type Node struct {
	state     *server.State
	protocol  server.Protocol
	nitronode *nitronode.Node // nil in the other generations
}

// Start listens and serves until Close.
func Start(cfg Config) (*Node, error) { return StartFrom(cfg, nil) }

// newNode makes a node that doesn't listen yet.
func newNode(cfg Config) (*Node, error) {
	state, err := server.New(cfg)
	if err != nil {
		return nil, err
	}
	n := &Node{state: state}
	switch cfg.Protocol {
	case "", Nitro02, Nitro04:
		n.protocol = nitrorpc.New(state)
	case Legacy:
		n.protocol = legacy.New(state)
	case NitronodeV1:
		n.nitronode = nitronode.New(state)
		n.protocol = n.nitronode
	default:
		return nil, fmt.Errorf("protocol %q is none of %q, %q, %q and %q", cfg.Protocol, Nitro02, Nitro04, Legacy, NitronodeV1)
	}
	return n, nil
}

// URL is where clients connect, ws://host:port/ws. It stays the same while the node is stopped.
func (n *Node) URL() string { return n.state.URL }

// Address is the broker's: the signer of every answer.
func (n *Node) Address() common.Address { return n.state.Address }

// Fund gives a wallet an amount of an asset from outside; Check counts it as brought in. A negative amount is taken away.
// Connected clients aren't notified.
func (n *Node) Fund(wallet common.Address, asset string, amount decimal.Decimal) {
	n.state.Lock()
	defer n.state.Unlock()
	n.state.Ledger.ApplyFaucet(wallet.Hex())
	n.state.Ledger.Fund(wallet.Hex(), asset, amount)
}

// Stop ends the node as a kill does: connections are reset, new ones are refused, requests not yet begun and closes not yet
// committed are forgotten. Stopping a stopped node does nothing.
func (n *Node) Stop() { n.state.Stop() }

// Resume starts a stopped node again at the same address. Money, sessions and session keys are as they were; logins are
// forgotten, but tokens issued before still log in, as recorded from ClearNode 0.5.2 (testdata, 08_outage).
func (n *Node) Resume() { n.state.Resume() }

// Close stops the node permanently and waits for everything that it started.
func (n *Node) Close() error { return n.state.Close() }

// DropConnections resets every connection. Requests already read from them are handled.
func (n *Node) DropConnections() { n.state.DropConnections() }

// SendRaw sends one text frame, unsigned and unasked for, to every connection.
func (n *Node) SendRaw(frame []byte) {
	for _, c := range n.state.Connections() {
		c.Send(frame)
	}
}

// Requests is the number of requests of a method that the node took from its queues, refused ones included; "" counts all,
// unreadable ones too. Requests that a fault lost or still delays on the wire don't count.
func (n *Node) Requests(method string) int {
	n.state.Lock()
	defer n.state.Unlock()
	return n.state.Records.Requests[method]
}

// Sent is how many frames the node has sent to its clients, notifications included, and how many bytes they have.
func (n *Node) Sent() (frames, bytes uint64) { return n.state.Sent() }

// Closes are the closes of a session in the order in which the node took them from its queues.
func (n *Node) Closes(session string) []CloseRecord {
	n.state.Lock()
	defer n.state.Unlock()
	var all []CloseRecord
	for _, c := range n.state.Records.Closes[session] {
		all = append(all, *c)
	}
	return all
}

// MaxClosesInFlight is the largest number of closes of one session that were ever in work at once, from the check of their age
// to their commit or refusal. With a NitronodeV1 every state update counts.
func (n *Node) MaxClosesInFlight() int {
	n.state.Lock()
	defer n.state.Unlock()
	return n.state.Records.MaxInFlight
}

// Crowded is the session of MaxClosesInFlight; empty if no close was ever in work.
func (n *Node) Crowded() (session string) {
	n.state.Lock()
	defer n.state.Unlock()
	return n.state.Records.MaxSession
}
