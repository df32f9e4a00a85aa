package clearnode

import (
	"bytes"
	"context"
	"encoding/json"
	"time"

	"settled/settlement"
)

const closeMethod = "close_app_session"

// closeParams is what close_app_session takes, in the order that is signed
// (testdata/vectors.json). Session data is left as it is by naming none.
type closeParams struct {
	Session     settlement.SessionID    `json:"app_session_id"`
	Allocations []settlement.Allocation `json:"allocations"`
	SessionData *string                 `json:"session_data,omitempty"`
}

func (n *nitro) prepare(ctx context.Context, o settlement.Outcome, plan settlement.Plan, s settlement.Session) (settlement.Request, error) {
	stamp, err := n.client.stamp()
	if err != nil {
		return settlement.Request{}, err
	}
	return n.close(ctx, o, plan, s, stamp)
}

// close is the request that closes a session, stamped so.
func (n *nitro) close(ctx context.Context, o settlement.Outcome, plan settlement.Plan, s settlement.Session, stamp uint64) (settlement.Request, error) {
	id := nextID()
	req, err := body(id, closeMethod, closeParams{plan.Session, plan.Allocations, o.SessionData}, stamp)
	if err != nil {
		return settlement.Request{}, err
	}
	sigs, err := n.client.gather(ctx, proposalOf(n.protocol(s.ID), o, plan, req), s, nitroScheme, o.Signatures)
	if err != nil {
		return settlement.Request{}, err
	}
	return n.client.stamped(id, stamp, req, sigs), nil
}

// nitroScheme: who signed is looked up among the participants byte by byte, and
// only as EIP-55 spells it (measured: a judge whom the definition has in lower case
// is an unknown participant).
var nitroScheme = scheme{digest: plain.digest, spelled: true}

// proposed: the bytes must be those that we would write, so that nothing is signed
// that reads differently elsewhere.
func (n *nitro) proposed(p Proposal, o settlement.Outcome, s settlement.Session) (scheme, time.Time, error) {
	var id, stamp uint64
	var method string
	var params closeParams
	if err := json.Unmarshal(p.Payload, &[]any{&id, &method, &params, &stamp}); err != nil {
		return nitroScheme, time.Time{}, settlement.Fail(settlement.NodeRejected, "the payload can't be read: %s", err)
	}
	want, err := body(id, closeMethod, closeParams{s.ID, p.Allocations, o.SessionData}, stamp)
	if err != nil || !bytes.Equal(want, p.Payload) {
		return nitroScheme, time.Time{}, settlement.Fail(settlement.AllocationRejected, "the payload is not the close of session %s as proposed", s.ID)
	}
	if err := n.client.inPast(stamp); err != nil {
		return nitroScheme, time.Time{}, err
	}
	return nitroScheme, n.client.validUntil(stamp), nil
}

func (n *nitro) takesCloses(ctx context.Context, c *conn) error {
	return c.takesCloses(ctx, closeParams{Allocations: []settlement.Allocation{}})
}

func (n *nitro) reread(r settlement.Request) (request, error) {
	_, err := readClose(r)
	return request{id: r.Ref.ID, method: closeMethod, frame: r.Frame}, err
}

func readClose(r settlement.Request) (settlement.SessionID, error) {
	var params closeParams
	err := readBack(r, &params)
	return params.Session, err
}

// concluded reads the answer to a close.
func (n *nitro) concluded(r settlement.Request, a answer) (settlement.Answer, error) {
	session, err := readClose(r)
	if err != nil {
		return settlement.Answer{}, inDoubt(closeMethod, err)
	}
	version, err := closedVersion(a, session)
	if err != nil {
		return settlement.Answer{}, inDoubt(closeMethod, err)
	}
	return settlement.Answer{Version: version, Evidence: n.client.evidence(a, n.protocol(session))}, nil
}

// protocol is by which a session is closed: the definition says so, and it was
// read before the close was planned.
func (n *nitro) protocol(id settlement.SessionID) string {
	if d, known := n.shelf.definition(id); known {
		if name, err := protocolOf(d.protocol); err == nil {
			return name
		}
	}
	if n.client.cfg.Protocol != protocolAuto {
		return n.client.cfg.Protocol
	}
	return protocol02
}
