// Package legacy speaks NitroRPC as the first public ClearNodes do (recorded from that of
// May 2025: testdata/legacy; facts marked "source" were read in its code, and those marked
// "measured" were found by experiments on it). The node answers nothing before sign-in;
// params and results stand in arrays; signatures cover the request as the node encodes it
// again.
package legacy

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common/lru"

	"settled/clearnode/internal/nitrorpc"
	"settled/clearnode/internal/protocol"
	"settled/settlement"
)

// Protocol is the name of the protocol.
const Protocol = "nitrorpc/legacy"

// Node speaks to a node of this generation.
type Node struct {
	client      protocol.Client
	settings    *protocol.Settings
	definitions *lru.Cache[settlement.SessionID, nitrorpc.Definition]

	mu      sync.Mutex
	lengths map[string]int // of participants' lists of sessions, see shortestList

	lastSignIn time.Time // when it began; guarded by the login's turn
}

// New returns a Node that uses a client.
func New(c protocol.Client, s *protocol.Settings) *Node {
	return &Node{client: c, settings: s, definitions: nitrorpc.NewDefinitionCache(), lengths: map[string]int{}}
}

// Traits are the properties of the generation.
func (n *Node) Traits() protocol.Traits {
	return protocol.Traits{
		Protocol: Protocol, SignsAnswers: true, SettleMethod: nitrorpc.CloseMethod,
		Expiry: &expiry, EmptyClose: closeParams{Allocations: []settlement.Allocation{}},
		ClockRead: protocol.Question{Method: expiry.Method},
	}
}

// expiry is a read that doesn't need the node's database. The node checks the age of all
// requests.
var expiry = protocol.Expiry{Method: "get_config", Stale: isStale}

func isStale(text string) bool {
	return strings.HasPrefix(text, stalePrefix) && refusals.Find(text).Text == staleText
}

// Classify says what an error means for a request that changes a session.
func (n *Node) Classify(text string) protocol.Refusal { return refusals.Find(text) }

// VerifyAnswer checks the node's signature. Errors and the frames of a sign-in are signed
// over the four bytes "null", which proves no more than that the node once signed them; so
// nothing is learned from them, neither its address nor its clock.
func (n *Node) VerifyAnswer(a protocol.Answer) error {
	if !a.Loose {
		return nitrorpc.VerifySignature(n.client, a)
	}
	signer, err := protocol.RecoverHex(a.Signed, a.Signature)
	if err != nil {
		return fmt.Errorf("an answer without the node's signature: %w", err)
	}
	if node, known := n.client.Address(); !known || signer == node {
		return nil
	}
	a.Signed = a.Response // another build may sign these properly
	return nitrorpc.VerifySignature(n.client, a)
}

// NewRequest makes a request that needs no signature.
func (n *Node) NewRequest(method string, params any, at time.Time) (protocol.Request, error) {
	id := protocol.NextID()
	req, err := encodeRequest(id, method, params, protocol.Millis(at))
	if err != nil {
		return protocol.Request{}, err
	}
	return protocol.Request{ID: id, Method: method, Frame: nitrorpc.Envelope(req)}, nil
}

// Ping is not sent before sign-in, when the node answers it with an error that could be
// about the sign-in too.
func (n *Node) Ping(ctx context.Context, c protocol.Conn) error {
	if !c.SignedIn() {
		return protocol.NotSent("ping", protocol.ErrSignedOut)
	}
	return n.ping(ctx, c)
}

// neverStale is a timestamp that is never too old: the node checks nothing but the age.
// Only the answer to a ping shows the node's clock, and shows it again after that was set
// forward.
const neverStale = 9_999_999_999_999

// ping shows the node's clock and its address.
func (n *Node) ping(ctx context.Context, c protocol.Conn) error {
	r, err := n.NewRequest("ping", nil, protocol.FromMillis(neverStale))
	if err != nil {
		return err
	}
	answers, err := c.RoundTrip(ctx, r)
	if err != nil {
		return err
	}
	var nothing any
	if err := answers[0].Decode("pong", &nothing); err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	return nil
}

// LearnAddress does nothing: the node shows its address only after sign-in.
func (n *Node) LearnAddress(context.Context, protocol.Conn) error { return nil }
