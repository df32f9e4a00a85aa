package nitronode

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common"

	"settled/clearnode/internal/protocol"
	"settled/settlement"
)

// Values of the node's field `intent`. settled sends these two; 1 is deposit and 2 withdraw.
const (
	intentOperate = 0 // the allocation changes, and the sum of each asset stays
	intentClose   = 3 // the current allocation is paid out
)

// update is one update of a session, with its members in the order of the node's JSON.
type update struct {
	Session     settlement.SessionID    `json:"app_session_id"`
	Intent      uint8                   `json:"intent"`
	Version     string                  `json:"version"` // the session's version after the update; the node refuses a JSON number (recorded)
	Allocations []settlement.Allocation `json:"allocations"`
	SessionData string                  `json:"session_data"` // empty: it stays as it is
}

// submission is the payload of submit_app_state.
type submission struct {
	Update     update   `json:"app_state_update"`
	Signatures []string `json:"quorum_sigs"`
}

// Scheme signs the packed update: EIP-191 over its keccak256. A prefix of the signature
// names the kind of key, here a wallet's (testdata/v1/vectors.json).
var Scheme = protocol.Scheme{
	Digest: func(payload []byte) [32]byte {
		hash := protocol.Keccak(payload)
		return protocol.Keccak([]byte("\x19Ethereum Signed Message:\n32"), hash[:])
	},
	Prefix: []byte{0xa1},
}

// packing: (bytes32 id, uint8 intent, uint64 version, (address participant, string asset,
// string amount)[] allocations, string data).
var packing = newPacking("bytes32", "uint8", "uint64", "tuple[]", "string")

func newPacking(types ...string) (arguments abi.Arguments) {
	row := []abi.ArgumentMarshaling{{Name: "participant", Type: "address"}, {Name: "asset", Type: "string"}, {Name: "amount", Type: "string"}}
	for _, name := range types {
		t, err := abi.NewType(name, "", row)
		if err != nil {
			panic(err) // can't happen: the names are constants
		}
		arguments = append(arguments, abi.Argument{Type: t})
	}
	return arguments
}

// pack returns the bytes that are signed. The node packs the decoded update again, with
// canonical decimals. So a signature over "8.0" as sent would be taken for another signer's
// (recorded).
func (u update) pack() ([]byte, error) {
	version, err := strconv.ParseUint(u.Version, 10, 64)
	if err != nil {
		return nil, errors.New("the update has no version")
	}
	type row struct {
		Participant common.Address
		Asset       string
		Amount      string
	}
	rows := make([]row, len(u.Allocations))
	for i, a := range u.Allocations {
		address, err := settlement.ParseAddress(a.Participant)
		if err != nil {
			return nil, err
		}
		rows[i] = row{common.Address(address), string(a.Asset), a.Amount.String()}
	}
	return packing.Pack(common.HexToHash(string(u.Session)), u.Intent, version, rows, u.SessionData)
}

// encode builds the signed request, or fails if it is larger than the node reads.
func (u update) encode(ref settlement.RequestRef, signatures []string) ([]byte, error) {
	frame, err := encodeFrame(ref.ID, methodSubmit, submission{u, signatures}, ref.Timestamp)
	if err == nil && len(frame) > maxFrame {
		return nil, settlement.Fail(settlement.AllocationRejected, "the allocation makes a request of %d bytes, and the node reads at most %d", len(frame), maxFrame)
	}
	return frame, err
}

// Prepare builds and signs the next request of the plan: the state update, or the close.
func (n *Node) Prepare(ctx context.Context, o settlement.Outcome, plan settlement.Plan, s settlement.Session) (settlement.Request, error) {
	u, err := nextUpdate(o, plan, s)
	if err != nil {
		return settlement.Request{}, err
	}
	packed, err := u.pack()
	if err != nil {
		return settlement.Request{}, err
	}
	ref := settlement.RequestRef{ID: protocol.NextID(), Timestamp: protocol.Millis(n.client.NodeTime()), Digest: protocol.Digest(packed)}
	if _, err := u.encode(ref, make([]string, 1)); err != nil {
		return settlement.Request{}, err // before anybody is asked to sign
	}
	sigs, err := n.client.CollectSignatures(ctx, Protocol, packed, Scheme, o, plan, s)
	if err != nil {
		return settlement.Request{}, err
	}
	frame, err := u.encode(ref, sigs)
	return settlement.Request{Ref: ref, Closes: u.Intent == intentClose, Frame: frame}, err
}

// nextUpdate returns the state update to the plan's allocation, or the close if the session
// has that allocation already. With settlement.Next, whose action "drive" sends the next
// request of a recorded plan, it resumes a half-done settlement.
func nextUpdate(o settlement.Outcome, plan settlement.Plan, s settlement.Session) (update, error) {
	if !s.Open || s.Version == 0 || s.Version < plan.BaseVersion {
		return update{}, fmt.Errorf("the session is closed, or its version %d is below the plan's base version %d; it is read again", s.Version, plan.BaseVersion)
	}
	data, f := sessionData(o)
	if f != nil {
		return update{}, f
	}
	if err := checkDistinct(plan.Allocations); err != nil {
		return update{}, err
	}
	u := update{Session: s.ID, Version: strconv.FormatUint(s.Version+1, 10), SessionData: data}
	updates := s.Version - plan.BaseVersion
	switch {
	case updates <= 1 && s.HasAllocation(plan.Allocations):
		u.Intent, u.Allocations = intentClose, []settlement.Allocation{}
		for _, a := range plan.Allocations { // a close may omit rows of 0 (recorded)
			if !a.Amount.IsZero() {
				u.Allocations = append(u.Allocations, a)
			}
		}
		return u, nil
	case updates == 0:
		u.Intent, u.Allocations = intentOperate, plan.Allocations
		return u, checkPrecision(plan.Allocations, s)
	}
	return update{}, errors.New("another party updated the session otherwise than planned; it is read again")
}

// sessionData returns the session data to send. If it is empty the node keeps what it has
// (source), so an outcome can't clear it. The node can't store a NUL: its database is
// Postgres.
func sessionData(o settlement.Outcome) (string, *settlement.Failure) {
	const most = 1024 // bytes (recorded: 1025 are refused)
	if o.SessionData == nil {
		return "", nil
	}
	data := *o.SessionData
	switch {
	case len(data) > most:
		return "", settlement.Fail(settlement.InvalidOutcome, "session_data has %d bytes, and the node takes at most %d", len(data), most)
	case !utf8.ValidString(data) || strings.ContainsRune(data, 0):
		return "", settlement.Fail(settlement.InvalidOutcome, "session_data contains a NUL or is not UTF-8; the node can't store it")
	}
	return data, nil
}

// checkDistinct rejects rows that name the same participant and asset twice.
func checkDistinct(rows []settlement.Allocation) error {
	seen := map[protocol.Holding]bool{}
	for _, a := range rows {
		wallet, err := settlement.ParseAddress(a.Participant)
		if err != nil {
			return err
		}
		of := protocol.Holding{Wallet: wallet, Asset: a.Asset}
		if seen[of] {
			return settlement.Fail(settlement.AllocationRejected, "the allocation names %s and %s twice", a.Participant, protocol.Quote(string(a.Asset)))
		}
		seen[of] = true
	}
	return nil
}

// checkPrecision rejects an amount with more decimals than the asset has. The node refuses
// such an amount in a state update, and accepts it in a close (source).
func checkPrecision(rows []settlement.Allocation, s settlement.Session) error {
	for _, a := range rows {
		unit, listed := s.Decimals[a.Asset]
		switch {
		case !listed:
			return settlement.Fail(settlement.AllocationRejected, "the node does not list asset %s, so the session's allocation can't be changed", protocol.Quote(string(a.Asset)))
		case a.Amount.Decimals() > unit:
			return settlement.Fail(settlement.AllocationRejected, "%s of %s is finer than the %d decimals that the node allows", a.Amount, protocol.Quote(string(a.Asset)), unit)
		}
	}
	return nil
}

// CheckProposal checks that a payload is byte for byte the update that we would sign for
// this plan and this session. It returns no expiry: the session's version is the fence. The
// update is for the version after the one that we read.
func (n *Node) CheckProposal(payload []byte, plan settlement.Plan, o settlement.Outcome, s settlement.Session) (protocol.Scheme, time.Time, error) {
	u, err := nextUpdate(o, plan, s)
	if err != nil {
		return Scheme, time.Time{}, err
	}
	if u.packsTo(payload) {
		return Scheme, time.Time{}, nil
	}
	// The other party may have read the session after that update.
	s.Version, s.Current = s.Version+1, plan.Allocations
	if after, err := nextUpdate(o, plan, s); err == nil && after.packsTo(payload) {
		return Scheme, time.Time{}, &settlement.Waiting{Reason: settlement.ReadFailed, Err: errors.New("the proposal is for a version that this node does not show yet")}
	}
	return Scheme, time.Time{}, settlement.Fail(settlement.AllocationRejected, "the payload is not the update of session %s to version %s that the plan requires", s.ID, u.Version)
}

func (u update) packsTo(payload []byte) bool {
	packed, err := u.pack()
	return err == nil && bytes.Equal(packed, payload)
}

// VerifyPrepared verifies a prepared request once more before it is sent.
func (n *Node) VerifyPrepared(r settlement.Request) (protocol.Prepared, error) {
	u, err := verifyUpdate(r)
	return protocol.Prepared{
		Request: protocol.Request{ID: r.Ref.ID, Method: methodSubmit, Frame: r.Frame},
		Result:  u.parseResult,
	}, err
}

// verifyUpdate reads a prepared request, and verifies that its update is the one that was
// recorded.
func verifyUpdate(r settlement.Request) (update, error) {
	var kind uint8
	var id, ts uint64
	var method string
	var s submission
	if err := json.Unmarshal(r.Frame, &[]any{&kind, &id, &method, &s, &ts}); err != nil {
		return update{}, fmt.Errorf("the request can't be read: %w", err)
	}
	packed, err := s.Update.pack()
	if err != nil {
		return update{}, fmt.Errorf("the request can't be read: %w", err)
	}
	if protocol.Digest(packed) != r.Ref.Digest {
		return update{}, errors.New("the signed bytes do not have the recorded digest")
	}
	if kind != kindRequest || id != r.Ref.ID || ts != r.Ref.Timestamp || method != methodSubmit || (s.Update.Intent == intentClose) != r.Closes {
		return update{}, errors.New("the frame's kind, id, time or method is not that of the prepared request")
	}
	return s.Update, nil
}

// parseResult reads the answer to the update, which is empty if the node executed it.
func (u update) parseResult(a protocol.Answer) (settlement.Answer, error) {
	version, err := strconv.ParseUint(u.Version, 10, 64)
	if err == nil {
		err = a.Decode(methodSubmit, new(struct{}))
	}
	if err != nil {
		return settlement.Answer{}, protocol.InDoubt(methodSubmit, err)
	}
	return settlement.Answer{Version: version, Evidence: protocol.Evidence(a, Protocol)}, nil
}
