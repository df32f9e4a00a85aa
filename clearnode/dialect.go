package clearnode

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/gorilla/websocket"

	"settled/clearnode/internal/legacy"
	"settled/clearnode/internal/nitronode"
	"settled/clearnode/internal/nitrorpc"
	"settled/clearnode/internal/protocol"
	"settled/settlement"
)

// dialect is one generation of the protocol. The pool of connections, the pending requests,
// the node's clock and the quorum of keys are common to all and not part of it.
type dialect interface {
	Traits() protocol.Traits

	// NewRequest makes a request that needs no signature of ours.
	NewRequest(method string, params any, at time.Time) (protocol.Request, error)
	// ReadFrame reads no more of a frame than the id: most frames are notifications.
	ReadFrame(c protocol.Conn, raw []byte) (protocol.Incoming, error)
	// VerifyAnswer verifies that an answer is the node's, as far as this generation can.
	VerifyAnswer(protocol.Answer) error
	// Classify says what an error means for a request of ours that changes a session.
	Classify(text string) protocol.Refusal

	// Ping asks for a sign of life, and for the node's clock.
	Ping(ctx context.Context, c protocol.Conn) error
	// LearnAddress makes the node show its address, where it does before sign-in.
	LearnAddress(ctx context.Context, c protocol.Conn) error
	// SignIn makes a connection ready for use. *protocol.LoginRefused: no connection can
	// sign in for now. Any other error concerns only this connection.
	SignIn(ctx context.Context, c protocol.Conn) error

	// ReadSession reads a session. See Client.Session.
	ReadSession(ctx context.Context, c protocol.Conn, id settlement.SessionID, options settlement.ReadOptions) (settlement.Session, error)
	// ReadDefinition finds a session that the node has. See Client.Stored.
	ReadDefinition(ctx context.Context, c protocol.Conn, id settlement.SessionID) error
	// ReadAssets lists the node's assets.
	ReadAssets(ctx context.Context, c protocol.Conn) ([]settlement.Asset, error)
	// ClosedSessions reads a page of a participant's closed sessions. False: there are no
	// pages.
	ClosedSessions(participant string, offset int, into *[]protocol.ClosedSession) (protocol.Question, bool)

	// Prepare builds and signs a request. See Client.Prepare.
	Prepare(ctx context.Context, o settlement.Outcome, plan settlement.Plan, s settlement.Session) (settlement.Request, error)
	// CheckProposal checks that another party's payload is exactly the request that settles
	// the session as planned, and says until when it may take effect.
	CheckProposal(payload []byte, plan settlement.Plan, o settlement.Outcome, s settlement.Session) (protocol.Scheme, time.Time, error)
	// VerifyPrepared verifies a prepared request once more before it is sent. Its Result
	// reads the answer as Client.Send returns it.
	VerifyPrepared(settlement.Request) (protocol.Prepared, error)
}

// protocolAuto is the value of Config.Protocol that finds the protocol out.
const protocolAuto = "auto"

// generationOf is the generation that a protocol belongs to, by its name when it was found
// out rather than configured. 0.2 and 0.4 are one.
func generationOf(name string) string {
	if name == nitrorpc.Protocol02 {
		return nitrorpc.Protocol04
	}
	return name
}

func (c *Client) newDialect(name string) dialect {
	host := dialectHost{c}
	switch generationOf(name) {
	case legacy.Protocol:
		return legacy.New(host, &c.settings)
	case nitrorpc.Protocol04:
		return nitrorpc.New(host, &c.settings)
	case nitronode.Protocol:
		return nitronode.New(host, &c.settings)
	}
	return nil
}

// currentDialect is the node's dialect, nil while it isn't known.
func (c *Client) currentDialect() dialect {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dialect
}

// Versioned reports whether the session's version fences requests at the node, and not
// their time; false while the node's generation isn't known.
func (c *Client) Versioned() bool {
	d := c.currentDialect()
	return d != nil && d.Traits().Versioned
}

// selectDialect compares the generation that a connection found with the configured one, or
// with the first that was found.
func (c *Client) selectDialect(found string) (dialect, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	unpinnable := found == nitronode.Protocol && c.cfg.NodeAddress != nil
	if c.generation == "" && !unpinnable {
		c.generation, c.dialect = found, c.newDialect(found)
		c.log.Info().Str("protocol", found).Msg("the node's protocol is found out, and held from now on")
	}
	if unpinnable && c.cfg.Protocol == protocolAuto {
		return nil, fmt.Errorf("what answers speaks %s, which signs no answers, so that clearnode.node_address can't be held against it: set clearnode.protocol to %s where that is meant", found, found)
	}
	if found != c.generation {
		return nil, fmt.Errorf("the node speaks %s and not %s: check clearnode.url and clearnode.protocol, and start settled again where the node was replaced", found, c.generation)
	}
	return c.dialect, nil
}

// detectGeneration finds out the node's generation by one request that each answers in its
// own way (recorded from all three): a ping of NitroRPC whose params are an empty list.
//
//	0.2, 0.4   pong
//	legacy     an error: it answers nothing before sign-in, not even a ping
//	nitronode  an error in a frame of another shape
//
// The answer is not verified. It selects how we speak, and nothing else.
func (c *Client) detectGeneration(ctx context.Context, ws *websocket.Conn) (string, error) {
	// maxFrames is how many frames may come before the answer: a ClearNode 0.5.2 sends its
	// assets first.
	const maxFrames = 64
	defer context.AfterFunc(ctx, func() { _ = ws.Close() })()
	id := protocol.NextID()
	ping, err := nitrorpc.Ping(id, c.nodeTime())
	if err != nil {
		return "", err
	}
	until := time.Now().Add(c.cfg.RequestTimeout)
	if err := errors.Join(ws.SetWriteDeadline(until), ws.SetReadDeadline(until)); err != nil {
		return "", err
	}
	if err := ws.WriteMessage(websocket.TextMessage, ping); err != nil {
		return "", fmt.Errorf("write: %w", err)
	}
	for range maxFrames {
		_, raw, err := ws.ReadMessage()
		if err != nil {
			return "", fmt.Errorf("the node does not say which protocol it speaks: %w", err)
		}
		if found := generationIn(raw, id); found != "" {
			return found, ws.SetReadDeadline(time.Time{})
		}
	}
	return "", errors.New("the node does not say which protocol it speaks")
}

// generationIn is the generation that a frame shows; "" where it does not answer the
// request.
func generationIn(raw []byte, id uint64) string {
	if bytes.HasPrefix(bytes.TrimLeft(raw, " \t\r\n"), []byte("[")) {
		if nitronode.Answers(raw, id) {
			return nitronode.Protocol
		}
		return ""
	}
	var frame struct {
		Res []json.RawMessage `json:"res"`
		Err json.RawMessage   `json:"err"`
	}
	if json.Unmarshal(raw, &frame) != nil {
		return ""
	}
	if bytes.Contains(frame.Err, []byte(legacy.SignedOutText)) {
		return legacy.Protocol // of a build that has its own frames for errors
	}
	if len(frame.Res) != 4 {
		return ""
	}
	var answered uint64
	var method string
	switch {
	case json.Unmarshal(frame.Res[0], &answered) != nil || json.Unmarshal(frame.Res[1], &method) != nil:
		return ""
	case bytes.Contains(frame.Res[2], []byte(legacy.SignedOutText)):
		return legacy.Protocol
	case answered == id:
		return nitrorpc.Protocol04
	}
	return ""
}

// dialectHost implements protocol.Client.
type dialectHost struct{ c *Client }

func (h dialectHost) NodeTime() time.Time { return h.c.nodeTime() }

func (h dialectHost) Address() (settlement.Address, bool) { return h.c.Address() }

func (h dialectHost) VerifyAddress(a settlement.Address) error { return h.c.verifyAddress(a) }

// CloseStamp is the timestamp of a close: the node's clock minus (message expiry - request
// validity).
func (h dialectHost) CloseStamp() (uint64, error) {
	now, known := h.c.clocks.stamp(time.Now())
	if !known {
		return 0, errClockUnknown
	}
	return protocol.Millis(now.Add(-h.c.setBack())), nil
}

var errClockUnknown = &settlement.Waiting{Reason: settlement.NotReady, Err: errors.New("the node's clock is not known yet")}

// clockTolerance is how far two parties' lower bounds of one clock may differ.
const clockTolerance = 2 * time.Second

// CheckStamp rejects a timestamp later than the node's clock, because the request could take
// effect for longer than settled waits, and one so old that the node refuses the request.
// Both may change with the clock, so neither rejects the proposal permanently.
func (h dialectHost) CheckStamp(stamp uint64) error {
	now, known := h.c.clocks.stamp(time.Now())
	if !known {
		return errClockUnknown
	}
	age := now.Sub(protocol.FromMillis(stamp))
	switch {
	case age < -clockTolerance:
		return &settlement.Waiting{Reason: settlement.NotReady, Err: fmt.Errorf("the request's timestamp is %s ahead of the node's clock", -age)}
	case age > h.c.cfg.MessageExpiry:
		return &settlement.Waiting{Reason: settlement.NotReady, Err: fmt.Errorf("the request is %s old, and the node takes none older than %s", age, h.c.cfg.MessageExpiry)}
	}
	return nil
}

func (h dialectHost) ValidUntil(stamp uint64) time.Time {
	return protocol.FromMillis(stamp).Add(h.c.cfg.MessageExpiry + h.c.cfg.FenceMargin)
}

func (h dialectHost) Sign(ctx context.Context, key protocol.Signer, payload []byte, scheme protocol.Scheme) ([]byte, error) {
	return h.c.sign(ctx, key, scheme, payload)
}

func (h dialectHost) CollectSignatures(ctx context.Context, name string, payload []byte, scheme protocol.Scheme, o settlement.Outcome, plan settlement.Plan, s settlement.Session) ([]string, error) {
	return h.c.collectSignatures(ctx, Proposal{
		Protocol: name, Session: plan.Session, Outcome: o.Ref, Policy: plan.Policy,
		Allocations: plan.Allocations, BaseVersion: plan.BaseVersion, Payload: payload,
	}, s, scheme, o.Signatures)
}

func (h dialectHost) DisableKey(account settlement.Address, reason error) {
	h.c.mu.Lock()
	defer h.c.mu.Unlock()
	h.c.disabledKeys[account] = true
	h.c.log.Error().Err(reason).Stringer("address", account).Msg("this key signs nothing: without it some sessions can't be settled")
}
