package clearnode

import (
	"context"
	"fmt"
	"time"

	"settled/settlement"
)

// dialect is one generation of the protocol. What all have in common, the pool of
// connections, the calls that wait for answers, the node's clock and the quorum of
// keys, is not in it.
type dialect interface {
	framing
	entrance
	settling
}

// framing is how requests are written and frames are read.
type framing interface {
	// question makes a request that needs no signature of ours.
	question(method string, params any, at time.Time) (request, error)
	// read reads no more of a frame than whose it may be: most are notifications,
	// which nobody waits for.
	read(c *conn, raw []byte) (incoming, error)
	// verify holds an answer to the node, as far as this generation can.
	verify(a answer) error
	// classify says what an error of the node means for a request of ours that
	// changes a session.
	classify(text string) classified
}

// entrance is how a connection comes to be of use, and stays so.
type entrance interface {
	// ping asks for a sign of life, and for the node's clock.
	ping(ctx context.Context, c *conn) error
	// signIn lets a connection in. *loginRefused: none can get in for now. Any
	// other error is the connection's.
	signIn(ctx context.Context, c *conn) error
	// probe finds out whether the fence holds behind a connection. *fenceOpen: it
	// doesn't. Any other error: nothing was learned.
	probe(ctx context.Context, c *conn) error
	// takesCloses finds out whether the node handles closes on a connection, without
	// closing anything. An error: it doesn't, or nothing was learned.
	takesCloses(ctx context.Context, c *conn) error
}

// settling is what settlement asks of a node.
type settling interface {
	// session is one read, on one connection. See Client.Session.
	session(ctx context.Context, c *conn, id settlement.SessionID, options settlement.ReadOptions) (settlement.Session, error)
	// stored finds a session that the node has. See Client.Stored.
	stored(ctx context.Context, c *conn, id settlement.SessionID) error
	// assets are those that the node lists now.
	assets(ctx context.Context, c *conn) ([]settlement.Asset, error)
	// prepare builds and signs a request. See Client.Prepare.
	prepare(ctx context.Context, o settlement.Outcome, plan settlement.Plan, s settlement.Session) (settlement.Request, error)
	// reread is a prepared request, looked at once more before money moves.
	reread(r settlement.Request) (request, error)
	// proposed checks that another party's payload is exactly the request that
	// settles the session as proposed, and says until when it may land.
	proposed(p Proposal, o settlement.Outcome, s settlement.Session) (scheme, time.Time, error)
	// concluded reads the answer to a request that was sent. See Client.Send.
	concluded(r settlement.Request, a answer) (settlement.Answer, error)
}

// The protocols that Config.Protocol may name. 0.2 and 0.4 are one dialect.
const (
	protocolAuto   = "auto"
	protocolLegacy = "nitrorpc/legacy"
	protocol02     = "nitrorpc/0.2"
	protocol04     = "nitrorpc/0.4"
	protocolV1     = "nitronode/v1"
)

// generation is which dialect a protocol belongs to, by the name that says it
// when it was found out rather than configured.
func generation(protocol string) string {
	if protocol == protocol02 || protocol == protocol04 {
		return protocol04
	}
	return protocol
}

func (c *Client) newDialect(protocol string) dialect {
	switch generation(protocol) {
	case protocolLegacy:
		return newLegacy(c)
	case protocol04:
		return newNitro(c)
	case protocolV1:
		return newV1(c)
	}
	return nil
}

// spoken is the dialect of the node, nil while it isn't known.
func (c *Client) spoken() dialect {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dialect
}

// Versioned reports whether what fences requests at the node is the session's
// version, and not their time; false while the node's generation isn't known.
func (c *Client) Versioned() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.generation == protocolV1
}

// speak holds the node to the generation that a connection found. It is the
// configured one, or the first that was found.
func (c *Client) speak(found string) (dialect, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.generation == "" && !(found == protocolV1 && c.cfg.NodeAddress != nil) {
		c.generation, c.dialect = found, c.newDialect(found)
		c.log.Info().Str("protocol", found).Msg("the node's protocol is found out, and held from now on")
	}
	if found == protocolV1 && c.cfg.Protocol == protocolAuto && c.cfg.NodeAddress != nil {
		return nil, fmt.Errorf("what answers speaks %s, which signs no answers, so that clearnode.node_address can't be held against it: set clearnode.protocol to %s where that is meant", found, found)
	}
	if found != c.generation {
		return nil, fmt.Errorf("the node speaks %s and not %s: check clearnode.url and clearnode.protocol, and start settled again where the node was replaced", found, c.generation)
	}
	return c.dialect, nil
}
