package clearnode

import (
	"bytes"
	"context"
	"encoding/json"
	"time"

	"settled/settlement"
)

// legacyClose is what close_app_session takes: these members, in this order, and no
// other, for the node signs nothing else.
type legacyClose struct {
	Session     settlement.SessionID    `json:"app_session_id"`
	Allocations []settlement.Allocation `json:"allocations"`
}

func (l *legacy) prepare(ctx context.Context, o settlement.Outcome, plan settlement.Plan, s settlement.Session) (settlement.Request, error) {
	stamp, err := l.client.stamp()
	if err != nil {
		return settlement.Request{}, err
	}
	return l.close(ctx, o, plan, s, nextID(), stamp)
}

// close is the request that closes a session, with this id and stamp.
func (l *legacy) close(ctx context.Context, o settlement.Outcome, plan settlement.Plan, s settlement.Session, id, stamp uint64) (settlement.Request, error) {
	req, err := l.closing(o, plan.Allocations, s, id, stamp)
	if err != nil {
		return settlement.Request{}, err
	}
	sigs, err := l.client.gather(ctx, proposalOf(protocolLegacy, o, plan, req), s, plain, o.Signatures)
	if err != nil {
		return settlement.Request{}, err
	}
	return l.client.stamped(id, stamp, req, sigs), nil
}

// closing is the bytes to sign. A *settlement.Failure: this node can't close the
// session so.
func (l *legacy) closing(o settlement.Outcome, plan []settlement.Allocation, s settlement.Session, id, stamp uint64) ([]byte, error) {
	if o.SessionData != nil {
		return nil, settlement.Fail(settlement.InvalidOutcome, "session_data: this node keeps none, leave it out")
	}
	rows, f := legacyRows(plan, s)
	if f != nil {
		return nil, f
	}
	return legacyBody(id, closeMethod, legacyClose{s.ID, rows}, stamp)
}

// proposed: the bytes must be those that we would write.
func (l *legacy) proposed(p Proposal, o settlement.Outcome, s settlement.Session) (scheme, time.Time, error) {
	var id, stamp uint64
	if err := json.Unmarshal(p.Payload, &[]any{&id, new(string), new(any), &stamp}); err != nil {
		return plain, time.Time{}, settlement.Fail(settlement.NodeRejected, "the payload can't be read: %s", err)
	}
	want, err := l.closing(o, p.Allocations, s, id, stamp)
	if err != nil {
		return plain, time.Time{}, err
	}
	if !bytes.Equal(want, p.Payload) {
		return plain, time.Time{}, settlement.Fail(settlement.AllocationRejected, "the payload is not the close of session %s as proposed", s.ID)
	}
	if err := l.client.inPast(stamp); err != nil {
		return plain, time.Time{}, err
	}
	return plain, l.client.validUntil(stamp), nil
}

func (l *legacy) takesCloses(ctx context.Context, c *conn) error {
	return c.takesCloses(ctx, legacyClose{Allocations: []settlement.Allocation{}})
}

func (l *legacy) reread(r settlement.Request) (request, error) {
	_, err := readLegacyClose(r)
	return request{id: r.Ref.ID, method: closeMethod, frame: r.Frame}, err
}

func readLegacyClose(r settlement.Request) (settlement.SessionID, error) {
	var params []legacyClose
	if err := readBack(r, &params); err != nil {
		return "", err
	}
	if len(params) != 1 {
		return "", errNotRecorded
	}
	return params[0].Session, nil
}

// concluded reads the answer to a close. It tells no version: in this generation
// that never changes.
func (l *legacy) concluded(r settlement.Request, a answer) (settlement.Answer, error) {
	session, err := readLegacyClose(r)
	if err != nil {
		return settlement.Answer{}, inDoubt(closeMethod, err)
	}
	version, err := closedVersion(a, session)
	if err != nil {
		return settlement.Answer{}, inDoubt(closeMethod, err)
	}
	if version == 0 {
		d, _ := l.shelf.definition(session)
		version = d.version
	}
	return settlement.Answer{Version: version, Evidence: l.client.evidence(a, protocolLegacy)}, nil
}
