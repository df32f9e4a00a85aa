package cosigner

import (
	"errors"
	"sync"

	"settled/clearnode"
	"settled/settlement"
)

// maxEndorsed bounds how many endorsements are remembered.
const maxEndorsed = 10_000

// endorsements are the plans for sessions of a nitronode that this process found to
// be its own. There a plan is settled by two requests, and after the first one the
// node no longer tells who had funded the session: the second is signed on the
// strength of the first.
type endorsements struct {
	mu    sync.Mutex
	young map[settlement.SessionID]clearnode.Proposal
	old   map[settlement.SessionID]clearnode.Proposal
}

func (e *endorsements) add(p clearnode.Proposal) {
	if p.BaseVersion == 0 {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.young == nil || len(e.young) >= maxEndorsed/2 {
		e.old, e.young = e.young, map[settlement.SessionID]clearnode.Proposal{}
	}
	p.Payload = nil
	e.young[p.Session] = p
}

// has reports whether the same plan for the same outcome was endorsed, made from the
// version before the one that the session has now, and carried out in its first half.
func (e *endorsements) has(p clearnode.Proposal, s settlement.Session) bool {
	if !secondHalf(p, s) {
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

// secondHalf: the session stands one version after the plan's, split as it says.
func secondHalf(p clearnode.Proposal, s settlement.Session) bool {
	return s.Versioned && s.Open && s.Version == p.BaseVersion+1 && s.IsSplit(p.Allocations)
}

// unendorsed is the answer where the plan isn't this party's own. Who funded a session
// can't be told any more once its first half is done: whoever started since then
// doesn't know, which is no refusal.
func (c *Cosigner) unendorsed(f *settlement.Failure, j judged, s settlement.Session) error {
	if s.Undisclosed.Funding && f.Code == settlement.InvalidOutcome && secondHalf(j.proposal, s) {
		return waits(settlement.ReadFailed, errors.New(f.Message)) // not the failure itself, which would be a refusal
	}
	return c.explained(f, j)
}
