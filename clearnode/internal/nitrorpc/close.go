package nitrorpc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"settled/clearnode/internal/protocol"
	"settled/settlement"
)

// CloseMethod closes a session, in all versions of NitroRPC. Some builds answer it under
// the method closedMethod.
const (
	CloseMethod  = "close_app_session"
	closedMethod = "app_session_closed"
)

// closeParams are the params of a close, in the order that is signed
// (testdata/vectors.json). Without session data the node keeps what it has.
type closeParams struct {
	Session     settlement.SessionID    `json:"app_session_id"`
	Allocations []settlement.Allocation `json:"allocations"`
	SessionData *string                 `json:"session_data,omitempty"`
}

// sessionOfClose is the part of a close's params that says which session it closes.
type sessionOfClose struct {
	Session settlement.SessionID `json:"app_session_id"`
}

// scheme: the node finds the signer among the participants byte by byte, and only as
// EIP-55 spells it (measured: a judge whose definition is in lower case is an unknown
// participant).
var scheme = protocol.Scheme{Digest: protocol.Plain.Digest, Checksummed: true}

// Prepare makes the request that closes a session.
func (n *Node) Prepare(ctx context.Context, o settlement.Outcome, plan settlement.Plan, s settlement.Session) (settlement.Request, error) {
	stamp, err := n.client.CloseStamp()
	if err != nil {
		return settlement.Request{}, err
	}
	return n.prepareAt(ctx, o, plan, s, stamp)
}

func (n *Node) prepareAt(ctx context.Context, o settlement.Outcome, plan settlement.Plan, s settlement.Session, stamp uint64) (settlement.Request, error) {
	id := protocol.NextID()
	req, err := encodeRequest(id, CloseMethod, closeParams{plan.Session, plan.Allocations, o.SessionData}, stamp)
	if err != nil {
		return settlement.Request{}, err
	}
	sigs, err := n.client.CollectSignatures(ctx, n.protocolOf(s.ID), req, scheme, o, plan, s)
	if err != nil {
		return settlement.Request{}, err
	}
	return NewClose(n.client, id, stamp, req, sigs), nil
}

// CheckProposal checks that a payload is byte for byte the close that we would write, so
// that nothing is signed that another reader reads differently.
func (n *Node) CheckProposal(payload []byte, plan settlement.Plan, o settlement.Outcome, s settlement.Session) (protocol.Scheme, time.Time, error) {
	return CheckClose(n.client, scheme, payload, new(closeParams), s, func(id, stamp uint64) ([]byte, error) {
		return encodeRequest(id, CloseMethod, closeParams{s.ID, plan.Allocations, o.SessionData}, stamp)
	})
}

// VerifyPrepared verifies a prepared request once more before it is sent.
func (n *Node) VerifyPrepared(r settlement.Request) (protocol.Prepared, error) {
	var params sessionOfClose
	err := VerifyClose(r, &params)
	return protocol.Prepared{
		Request: protocol.Request{ID: r.Ref.ID, Method: CloseMethod, Frame: r.Frame},
		Result:  func(a protocol.Answer) (settlement.Answer, error) { return n.parseResult(params.Session, a) },
	}, err
}

// parseResult reads the answer to a close of a session.
func (n *Node) parseResult(session settlement.SessionID, a protocol.Answer) (settlement.Answer, error) {
	version, err := ParseClosed(a, session)
	if err != nil {
		return settlement.Answer{}, protocol.InDoubt(CloseMethod, err)
	}
	return settlement.Answer{Version: version, Evidence: protocol.Evidence(a, n.protocolOf(session))}, nil
}

// protocolOf is the protocol that a session is closed by. Its definition names it, and
// was read before the close was planned.
func (n *Node) protocolOf(id settlement.SessionID) string {
	if d, known := n.definitions.Get(id); known {
		if name, err := protocolName(d.Protocol); err == nil {
			return name
		}
	}
	if p := n.settings.Protocol; p == Protocol02 || p == Protocol04 {
		return p
	}
	return Protocol02
}

// NewClose is a close of any version of NitroRPC, with its signatures.
func NewClose(c protocol.Client, id, stamp uint64, req []byte, signatures []string) settlement.Request {
	return settlement.Request{
		Ref:        settlement.RequestRef{ID: id, Timestamp: stamp, Digest: protocol.Digest(req)},
		ValidUntil: c.ValidUntil(stamp), Closes: true, Frame: Envelope(req, signatures...),
	}
}

// CheckClose compares another party's payload with the close that encode makes of its id
// and timestamp. params is what the payload's params must decode into. It returns until
// when the close may take effect.
func CheckClose(c protocol.Client, h protocol.Scheme, payload []byte, params any, s settlement.Session, encode func(id, stamp uint64) ([]byte, error)) (protocol.Scheme, time.Time, error) {
	var id, stamp uint64
	if err := json.Unmarshal(payload, &[]any{&id, new(string), params, &stamp}); err != nil {
		return h, time.Time{}, settlement.Fail(settlement.NodeRejected, "the payload can't be read: %s", err)
	}
	want, err := encode(id, stamp)
	if err != nil {
		return h, time.Time{}, err
	}
	if !bytes.Equal(want, payload) {
		return h, time.Time{}, settlement.Fail(settlement.AllocationRejected, "the payload is not the close of session %s as proposed", s.ID)
	}
	if err := c.CheckStamp(stamp); err != nil {
		return h, time.Time{}, err
	}
	return h, c.ValidUntil(stamp), nil
}

// ErrNotRecorded says that a request is not the close that was recorded.
var ErrNotRecorded = errors.New("the request is not the close that was recorded")

// VerifyClose reads the params of a prepared close, and verifies that the bytes to be sent
// are those that were recorded.
func VerifyClose(r settlement.Request, params any) error {
	var frame struct {
		Req json.RawMessage `json:"req"`
	}
	if err := json.Unmarshal(r.Frame, &frame); err != nil {
		return fmt.Errorf("the request can't be read: %w", err)
	}
	if protocol.Digest(frame.Req) != r.Ref.Digest {
		return errors.New("the request is not the one that was recorded")
	}
	var id, stamp uint64
	var method string
	if err := json.Unmarshal(frame.Req, &[]any{&id, &method, params, &stamp}); err != nil {
		return fmt.Errorf("the request can't be read: %w", err)
	}
	if id != r.Ref.ID || stamp != r.Ref.Timestamp || method != CloseMethod {
		return ErrNotRecorded
	}
	return nil
}

// ParseClosed reads the answer to a close, and returns the session's version where the
// answer shows it, else 0. The public guides show more forms than one build uses: the
// method is close_app_session or app_session_closed, the session is named app_session_id
// or app_id, and there may be no status. An error says that the answer does not show the
// session closed: it is about another one, or has another status.
func ParseClosed(a protocol.Answer, session settlement.SessionID) (uint64, error) {
	method := CloseMethod
	if a.Method == closedMethod {
		method = closedMethod
	}
	var p struct {
		Session *string `json:"app_session_id"`
		App     *string `json:"app_id"`
		Status  *string `json:"status"`
		Version uint64  `json:"version"`
	}
	if err := a.Decode(method, &p); err != nil {
		return 0, err
	}
	if p.Session == nil && p.App == nil {
		return 0, errors.New("the answer names no session")
	}
	for _, id := range []*string{p.Session, p.App} {
		if id != nil && *id != string(session) {
			return 0, fmt.Errorf("the answer is about session %s", protocol.Quote(*id))
		}
	}
	if p.Status != nil && *p.Status != "closed" {
		return 0, fmt.Errorf("the node answers that the session is %s", protocol.Quote(*p.Status))
	}
	return p.Version, nil
}
