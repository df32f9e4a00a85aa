package clearnode

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// legacy is NitroRPC as the first public ClearNodes speak it (recorded from that
// of May 2025). Nothing is answered before sign-in; params and results stand in
// arrays; what is signed is the request as the node writes it anew.
type legacy struct {
	client *Client
	shelf  shelf // definitions only: assets may be listed later, and a split must not miss that
	lists  lengths

	entered time.Time // when the last sign-in began; whose turn it is guards it
}

func newLegacy(c *Client) *legacy { return &legacy{client: c} }

// question puts the params into the array that this generation wants.
func (l *legacy) question(method string, params any, at time.Time) (request, error) {
	id := nextID()
	req, err := legacyBody(id, method, params, millis(at))
	if err != nil {
		return request{}, err
	}
	return request{id: id, method: method, frame: envelope(req)}, nil
}

func (l *legacy) classify(text string) classified { return legacyRefusals.find(text) }

// verify holds an answer to the node. Errors and the frames of a sign-in are signed
// over the four bytes "null", which proves no more than that the node once signed
// them; so nothing is learned from them, neither its address nor its clock.
func (l *legacy) verify(a answer) error {
	if !a.loose {
		return l.client.verify(a)
	}
	signer, err := recoverText(keccak([]byte(a.signed)), a.signature)
	if err != nil {
		return fmt.Errorf("an answer without the node's signature: %w", err)
	}
	node, known := l.client.Address()
	if !known || signer == node {
		return nil
	}
	a.signed = a.response // another build may sign these properly
	return l.client.verify(a)
}

// always is a timestamp that is never too old: the node looks at nothing but the
// age. A ping needs it, for by its answer alone the node's clock is learned, and
// found again when that was set forward.
const always = 9_999_999_999_999

// ping is not asked before sign-in, when nothing answers it but an error that could
// be about the sign-in too.
func (l *legacy) ping(ctx context.Context, c *conn) error {
	if !l.client.pool.signedIn(c) {
		return notSent("ping", errSignedOut)
	}
	return l.pong(ctx, c)
}

// pong tells the node's clock and its address.
func (l *legacy) pong(ctx context.Context, c *conn) error {
	id := nextID()
	req, err := legacyBody(id, "ping", nil, always)
	if err != nil {
		return err
	}
	answers, err := c.round(ctx, request{id: id, method: "ping", frame: envelope(req)})
	if err != nil {
		return err
	}
	var nothing any
	if err := answers[0].into("pong", &nothing); err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	return nil
}

// legacyExpiry is a read that doesn't need the node's database. The age of all is
// looked at.
var legacyExpiry = expiry{ask: "get_config", stale: isLegacyStale}

func (l *legacy) probe(ctx context.Context, c *conn) error {
	return c.client.prober.probe(ctx, c, legacyExpiry)
}

func isLegacyStale(text string) bool {
	return strings.HasPrefix(text, legacyStalePrefix) && legacyRefusals.find(text).text == legacyStaleText
}
