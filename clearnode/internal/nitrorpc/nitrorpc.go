// Package nitrorpc speaks NitroRPC 0.2 and 0.4, as ClearNode 0.5.2 does. Its facts were
// recorded from a running node (testdata); those marked "source" were read in its code,
// and those marked "measured" were found by experiments on it.
//
// # Open or closed
//
// No request by session id says whether a session is open. Two sources together do: the
// session's transactions, which the node writes in one step with what they record, and the
// lists of the sessions of a participant. Of each asset, let "in" be the sum of the deposits
// and "out" that of the withdrawals. A close pays out exactly what is in the session, of
// every asset (measured), so that afterwards as much is out as was in.
//
//	the session is              its transactions show       so it is
//	open, with money in it,     less out than in of some    open; only its version is in the lists
//	  some withdrawn or not       asset
//	  (0.4), reallocated or not
//	open, all withdrawn (0.4)   as much out as in           what the lists say
//	open, never funded          nothing                     what the lists say, in two reads
//	closed                      as much out as in           what the lists say
//	closed, with nothing in it  rows of 0                   what the lists say
//	closed twice at once        more out than in            overpaid, whatever the lists say
//	closed, and shown as open   as much out as in           what the lists say: settlement compares
//	  (an update of another       the payouts with what it recorded
//	  party came at once)
//	unknown to the node         nothing, no definition      absent if no list has it, in two reads
//
// A closed session is never opened again. Reallocating (operate) writes no transaction and
// changes no sum. A transaction is listed by session id, so that none of this depends on
// whose keys ask: on whether our account is a participant, or how many must sign. A deposit
// that comes together with a close, or amounts finer than the node's books, can leave less
// out than in of a closed session. It is then taken for open, with the lists or without them,
// and the node refuses to close it.
//
// So the lists are read where the transactions don't show that the session is open, where
// its version is needed, and after a request in doubt (settlement.ReadOptions). They are
// most of what a read costs: a page of a hundred sessions is 46 KB.
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
