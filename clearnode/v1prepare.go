package clearnode

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"settled/settlement"
)

// maxV1Data is how long a session's data may be, in bytes (recorded: 1025 are
// refused).
const maxV1Data = 1024

func (v *v1) prepare(ctx context.Context, o settlement.Outcome, plan settlement.Plan, s settlement.Session) (settlement.Request, error) {
	u, err := nextUpdate(o, plan, s)
	if err != nil {
		return settlement.Request{}, err
	}
	packed, err := u.pack()
	if err != nil {
		return settlement.Request{}, err
	}
	ref := settlement.RequestRef{ID: nextID(), Timestamp: millis(v.client.nodeTime()), Digest: digestOf(packed)}
	if _, err := u.sized(ref, make([]string, 1)); err != nil {
		return settlement.Request{}, err // before anybody is asked to sign
	}
	sigs, err := v.client.gather(ctx, proposalOf(protocolV1, o, plan, packed), s, v1Scheme, o.Signatures)
	if err != nil {
		return settlement.Request{}, err
	}
	frame, err := u.sized(ref, sigs)
	return settlement.Request{Ref: ref, Closes: u.Intent == v1Close, Frame: frame}, err
}

// sized is the frame, where the node reads one so large.
func (u v1Update) sized(ref settlement.RequestRef, signatures []string) ([]byte, error) {
	frame, err := u.frame(ref.ID, ref.Timestamp, signatures)
	if err == nil && len(frame) > maxV1Frame {
		return nil, settlement.Fail(settlement.AllocationRejected, "the allocation makes a request of %d bytes, and the node reads none above %d", len(frame), maxV1Frame)
	}
	return frame, err
}

// nextUpdate is the one update that comes next on the way to the session closed as
// planned: to the plan's split, or, where that is the session's already, the close.
func nextUpdate(o settlement.Outcome, plan settlement.Plan, s settlement.Session) (v1Update, error) {
	if !s.Open || s.Version == 0 || s.Version < plan.BaseVersion {
		return v1Update{}, fmt.Errorf("the session is at version %d, and the plan was made from version %d of an open one: looking again later", s.Version, plan.BaseVersion)
	}
	data, f := sessionData(o)
	if f != nil {
		return v1Update{}, f
	}
	if err := distinct(plan.Allocations); err != nil {
		return v1Update{}, err
	}
	u := v1Update{Session: s.ID, Version: strconv.FormatUint(s.Version+1, 10), SessionData: data}
	moved := s.Version - plan.BaseVersion
	switch {
	case moved <= 1 && s.IsSplit(plan.Allocations):
		u.Intent, u.Allocations = v1Close, withoutZeros(plan.Allocations)
		return u, nil
	case moved == 0:
		u.Intent, u.Allocations = v1Operate, plan.Allocations
		return u, operable(plan.Allocations, s)
	}
	return v1Update{}, errors.New("the session was moved on otherwise than planned: looking again later")
}

// sessionData is what the node is to keep with the session. It leaves what it has
// where it is given nothing (source), so an outcome can't empty it. It stores no
// NUL (its database is Postgres, whose texts have none).
func sessionData(o settlement.Outcome) (string, *settlement.Failure) {
	if o.SessionData == nil {
		return "", nil
	}
	data := *o.SessionData
	switch {
	case len(data) > maxV1Data:
		return "", settlement.Fail(settlement.InvalidOutcome, "session_data has %d bytes, and the node takes at most %d", len(data), maxV1Data)
	case !utf8.ValidString(data) || strings.ContainsRune(data, 0):
		return "", settlement.Fail(settlement.InvalidOutcome, "session_data holds a NUL or is no UTF-8, and the node can't store that")
	}
	return data, nil
}

// distinct demands that rows name each participant and asset once.
func distinct(rows []settlement.Allocation) error {
	seen := map[holding]bool{}
	for _, a := range rows {
		at, err := holdingOf(a)
		if err != nil {
			return err
		}
		if seen[at] {
			return settlement.Fail(settlement.AllocationRejected, "the allocation names %s and %s twice", a.Participant, quote(string(a.Asset)))
		}
		seen[at] = true
	}
	return nil
}

// operable holds rows to what the node takes in an update of the split: none finer
// than its asset. A close isn't held to that (source).
func operable(rows []settlement.Allocation, s settlement.Session) error {
	for _, a := range rows {
		unit, listed := s.Decimals[a.Asset]
		switch {
		case !listed:
			return settlement.Fail(settlement.AllocationRejected, "the node does not list asset %s, so the session's split can't be changed", quote(string(a.Asset)))
		case a.Amount.Decimals() > unit:
			return settlement.Fail(settlement.AllocationRejected, "%s of %s is finer than the %d decimals that the node allows", a.Amount, quote(string(a.Asset)), unit)
		}
	}
	return nil
}

// withoutZeros: a close need not name them (recorded).
func withoutZeros(rows []settlement.Allocation) []settlement.Allocation {
	kept := []settlement.Allocation{}
	for _, a := range rows {
		if !a.Amount.IsZero() {
			kept = append(kept, a)
		}
	}
	return kept
}

// holding is one account's part of one asset.
type holding struct {
	wallet settlement.Address
	asset  settlement.Asset
}

func holdingOf(a settlement.Allocation) (holding, error) {
	wallet, err := settlement.ParseAddress(a.Participant)
	return holding{wallet, a.Asset}, err
}

// proposed: the bytes must be those that we would sign for this allocation and
// this session as we see it. Nothing expires them; that they are for the version
// next after the one we see is what fences them.
func (v *v1) proposed(p Proposal, o settlement.Outcome, s settlement.Session) (scheme, time.Time, error) {
	plan := settlement.Plan{Session: p.Session, BaseVersion: p.BaseVersion, Allocations: p.Allocations}
	u, err := nextUpdate(o, plan, s)
	if err != nil {
		return v1Scheme, time.Time{}, err
	}
	want, err := u.pack()
	if err == nil && !bytes.Equal(want, p.Payload) && v.ahead(p, o, s) {
		return v1Scheme, time.Time{}, &settlement.Waiting{Reason: settlement.ReadFailed, Err: errors.New("the proposal is for a version that I don't see yet")}
	}
	if err != nil || !bytes.Equal(want, p.Payload) {
		return v1Scheme, time.Time{}, settlement.Fail(settlement.AllocationRejected, "the payload is not the update of session %s to version %s that I would make of the proposal", s.ID, u.Version)
	}
	return v1Scheme, time.Time{}, nil
}

// ahead reports whether the payload is the update that comes after the one that I
// would make: the other party has seen that carried out already.
func (v *v1) ahead(p Proposal, o settlement.Outcome, s settlement.Session) bool {
	s.Version, s.Current = s.Version+1, p.Allocations
	u, err := nextUpdate(o, settlement.Plan{Session: p.Session, BaseVersion: p.BaseVersion, Allocations: p.Allocations}, s)
	if err != nil {
		return false
	}
	after, err := u.pack()
	return err == nil && bytes.Equal(after, p.Payload)
}

func (v *v1) reread(r settlement.Request) (request, error) {
	_, err := readV1Request(r)
	return request{id: r.Ref.ID, method: v1Submit, frame: r.Frame}, err
}

// concluded reads the answer to an update: nothing, where it was carried out.
func (v *v1) concluded(r settlement.Request, a answer) (settlement.Answer, error) {
	u, err := readV1Request(r)
	if err != nil {
		return settlement.Answer{}, inDoubt(v1Submit, err)
	}
	var nothing struct{}
	if err := a.into(v1Submit, &nothing); err != nil {
		return settlement.Answer{}, inDoubt(v1Submit, err)
	}
	version, err := strconv.ParseUint(u.Version, 10, 64)
	if err != nil {
		return settlement.Answer{}, inDoubt(v1Submit, err)
	}
	return settlement.Answer{Version: version, Evidence: v.client.evidence(a, protocolV1)}, nil
}
