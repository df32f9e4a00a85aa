package legacy

import (
	"context"
	"slices"
	"time"

	"settled/clearnode/internal/nitrorpc"
	"settled/clearnode/internal/protocol"
	"settled/settlement"
)

// closeParams are the params of a close: these members, in this order, and no other,
// because the node signs nothing else.
type closeParams struct {
	Session     settlement.SessionID    `json:"app_session_id"`
	Allocations []settlement.Allocation `json:"allocations"`
}

// Prepare makes the request that closes a session.
func (n *Node) Prepare(ctx context.Context, o settlement.Outcome, plan settlement.Plan, s settlement.Session) (settlement.Request, error) {
	stamp, err := n.client.CloseStamp()
	if err != nil {
		return settlement.Request{}, err
	}
	return n.prepareAt(ctx, o, plan, s, protocol.NextID(), stamp)
}

func (n *Node) prepareAt(ctx context.Context, o settlement.Outcome, plan settlement.Plan, s settlement.Session, id, stamp uint64) (settlement.Request, error) {
	req, err := encodeClose(o, plan, s, id, stamp)
	if err != nil {
		return settlement.Request{}, err
	}
	sigs, err := n.client.CollectSignatures(ctx, Protocol, req, protocol.Plain, o, plan, s)
	if err != nil {
		return settlement.Request{}, err
	}
	return nitrorpc.NewClose(n.client, id, stamp, req, sigs), nil
}

// encodeClose makes the bytes to sign. A *settlement.Failure: this node can't close the
// session so.
func encodeClose(o settlement.Outcome, plan settlement.Plan, s settlement.Session, id, stamp uint64) ([]byte, error) {
	if o.SessionData != nil {
		return nil, settlement.Fail(settlement.InvalidOutcome, "session_data: this node keeps none, leave it out")
	}
	rows, f := closeRows(plan.Allocations, s)
	if f != nil {
		return nil, f
	}
	return encodeRequest(id, nitrorpc.CloseMethod, closeParams{s.ID, rows}, stamp)
}

// CheckProposal checks that a payload is byte for byte the close that we would write.
func (n *Node) CheckProposal(payload []byte, plan settlement.Plan, o settlement.Outcome, s settlement.Session) (protocol.Scheme, time.Time, error) {
	return nitrorpc.CheckClose(n.client, protocol.Plain, payload, new(any), s, func(id, stamp uint64) ([]byte, error) {
		return encodeClose(o, plan, s, id, stamp)
	})
}

// VerifyPrepared verifies a prepared request once more before it is sent.
func (n *Node) VerifyPrepared(r settlement.Request) (protocol.Prepared, error) {
	var params []struct {
		Session settlement.SessionID `json:"app_session_id"`
	}
	err := nitrorpc.VerifyClose(r, &params)
	if err == nil && len(params) != 1 {
		err = nitrorpc.ErrNotRecorded
	}
	return protocol.Prepared{
		Request: protocol.Request{ID: r.Ref.ID, Method: nitrorpc.CloseMethod, Frame: r.Frame},
		Result:  func(a protocol.Answer) (settlement.Answer, error) { return n.parseResult(params[0].Session, a) },
	}, err
}

// parseResult reads the answer to a close of a session. It shows no version: in this
// generation that never changes.
func (n *Node) parseResult(session settlement.SessionID, a protocol.Answer) (settlement.Answer, error) {
	version, err := nitrorpc.ParseClosed(a, session)
	if err != nil {
		return settlement.Answer{}, protocol.InDoubt(nitrorpc.CloseMethod, err)
	}
	if version == 0 {
		d, _ := n.definitions.Get(session)
		version = d.Version
	}
	return settlement.Answer{Version: version, Evidence: protocol.Evidence(a, Protocol)}, nil
}

// closeRows is a plan as this generation takes it: exactly one row for each participant,
// in the order of the definition, 0 where nothing is due, and all of one asset.
//
// A row takes out of the session only what its own participant deposited of the row's own
// asset, and the node does not check an asset that no row names (source, measured). So with
// two assets money stays in the closed session, or is paid out and stays there as well,
// unless everybody happens to get what they deposited; and this node doesn't show who deposited
// what. Such plans are refused.
func closeRows(plan []settlement.Allocation, s settlement.Session) ([]settlement.Allocation, *settlement.Failure) {
	if f := checkSpelling(s); f != nil {
		return nil, f
	}
	if len(plan) == 0 {
		return nil, settlement.Fail(settlement.AllocationRejected, "the plan names no asset, and this node wants a row for each participant")
	}
	asset, due := plan[0].Asset, map[string]settlement.Amount{}
	for _, a := range plan {
		if !slices.ContainsFunc(s.Participants, func(p settlement.Participant) bool { return p.Spelling == a.Participant }) {
			return nil, settlement.Fail(settlement.NotAParticipant, "%s is no participant of the session, or is spelled otherwise there", protocol.Quote(a.Participant))
		}
		if a.Amount.IsZero() {
			continue
		}
		if _, twice := due[a.Participant]; twice && a.Asset == asset {
			return nil, settlement.Fail(settlement.AllocationRejected, "%s stands twice in the plan", a.Participant)
		}
		if len(due) > 0 && a.Asset != asset {
			return nil, settlement.Fail(settlement.AllocationRejected, "the plan pays %s as well as %s, and this node settles sessions of one asset only: of two it would keep money, or make some", protocol.Quote(string(asset)), protocol.Quote(string(a.Asset)))
		}
		asset, due[a.Participant] = a.Asset, a.Amount
	}
	rows := make([]settlement.Allocation, len(s.Participants))
	for i, p := range s.Participants {
		rows[i] = settlement.Allocation{Participant: p.Spelling, Asset: asset, Amount: due[p.Spelling]}
	}
	return rows, nil
}

// checkSpelling rejects a definition that spells a participant otherwise than with its
// EIP-55 checksum. The node compares participants in any case, but keeps their money by the
// spelling. What they deposited is under the checksummed spelling: the node demands a
// signature for it, and ignores it when the session is closed under another. What they are
// paid under another spelling belongs to no account (measured: the money is lost).
func checkSpelling(s settlement.Session) *settlement.Failure {
	seen := map[settlement.Address]bool{}
	for _, p := range s.Participants {
		if p.Spelling != p.Address.String() {
			return settlement.Fail(settlement.AllocationRejected,
				"the session's definition spells participant %s as %s: this node keeps money by the spelling, and would pay it to an account that is nobody's; the session can't be settled without loss, ask the node's operator", p.Address, p.Spelling)
		}
		if seen[p.Address] {
			return settlement.Fail(settlement.AllocationRejected, "the session lists participant %s twice", p.Address)
		}
		seen[p.Address] = true
	}
	return nil
}
