package cosigner

import (
	"errors"
	"sync"

	"settled/clearnode"
	"settled/settlement"
)

// maxApprovals bounds the number of remembered approvals.
const maxApprovals = 10_000

// approvals are the plans for sessions of a nitronode that this process approved. Such a plan
// is settled by two requests, and after the first the node no longer shows who funded the
// session; the second is signed because the first was approved.
type approvals struct {
	mu    sync.Mutex
	young map[settlement.SessionID]clearnode.Proposal
	old   map[settlement.SessionID]clearnode.Proposal
}

func (e *approvals) add(p clearnode.Proposal) {
	if p.BaseVersion == 0 {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.young == nil || len(e.young) >= maxApprovals/2 {
		e.old, e.young = e.young, map[settlement.SessionID]clearnode.Proposal{}
	}
	p.Payload = nil
	e.young[p.Session] = p
}

// has reports whether the same plan for the same outcome was approved, made from the
// previous version of the session, and its first half executed.
func (e *approvals) has(p clearnode.Proposal, s settlement.Session) bool {
	if !isSecondHalf(p, s) {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	known, found := e.young[p.Session]
	if !found {
		known, found = e.old[p.Session]
	}
	return found && known.Outcome.Same(p.Outcome) && known.BaseVersion == p.BaseVersion && s.IsSplit(known.Allocations)
}

// isSecondHalf reports whether the first half of the plan is executed: the session is one
// version later, split by the plan.
func isSecondHalf(p clearnode.Proposal, s settlement.Session) bool {
	return s.Versioned && s.Open && s.Version == p.BaseVersion+1 && s.IsSplit(p.Allocations)
}

// disagreement returns the answer to a plan that this party would not have made. If the node
// no longer shows who funded the session, the answer is to wait, not a refusal.
func (c *Cosigner) disagreement(f *settlement.Failure, j evaluation, s settlement.Session) error {
	if s.Undisclosed.Funding && f.Code == settlement.InvalidOutcome && isSecondHalf(j.proposal, s) {
		return waits(settlement.ReadFailed, errors.New(f.Message)) // not the failure itself, which would be a refusal
	}
	return c.withPolicyHint(f, j)
}
