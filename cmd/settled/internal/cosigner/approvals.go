package cosigner

import (
	"errors"

	lru "github.com/hashicorp/golang-lru/v2"

	"settled/clearnode"
	"settled/settlement"
)

// maxApprovals bounds the number of remembered approvals.
const maxApprovals = 10_000

// approvals are the plans for sessions of a nitronode that this process approved. Such a plan
// is settled by two requests, and after the first the node no longer shows who funded the
// session; the second is signed because the first was approved.
type approvals struct {
	*lru.Cache[settlement.SessionID, clearnode.Proposal]
}

func newApprovals() approvals {
	cache, _ := lru.New[settlement.SessionID, clearnode.Proposal](maxApprovals) // fails only for a size below 1
	return approvals{cache}
}

func (e approvals) add(p clearnode.Proposal) {
	if p.BaseVersion == 0 {
		return
	}
	p.Payload = nil
	e.Add(p.Session, p)
}

// has reports whether the same plan for the same outcome was approved, made from the
// previous version of the session, and its first half executed.
func (e approvals) has(p clearnode.Proposal, s settlement.Session) bool {
	known, found := e.Get(p.Session)
	return found && isSecondHalf(p, s) && known.Outcome.Same(p.Outcome) && known.BaseVersion == p.BaseVersion && s.HasAllocation(known.Allocations)
}

// isSecondHalf reports whether the first half of the plan is executed: the session is one
// version later, with the plan's allocation.
func isSecondHalf(p clearnode.Proposal, s settlement.Session) bool {
	return s.Versioned && s.Open && s.Version == p.BaseVersion+1 && s.HasAllocation(p.Allocations)
}

// disagreement returns the answer to a plan that this party would not have made. If the node
// no longer shows who funded the session, the answer is to wait, not a refusal.
func (c *Cosigner) disagreement(f *settlement.Failure, j evaluation, s settlement.Session) error {
	if s.Undisclosed.Funding && f.Code == settlement.InvalidOutcome && isSecondHalf(j.proposal, s) {
		return waits(settlement.ReadFailed, errors.New(f.Message)) // not the failure itself, which would be a refusal
	}
	return c.withPolicyHint(f, j)
}
