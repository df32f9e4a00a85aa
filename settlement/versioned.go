package settlement

import "fmt"

// decideVersioned decides about an open session at a node that fences by version.
func (obs Observation) decideVersioned() Decision {
	switch {
	case obs.onPath():
		return Decision{Action: ActionDrive, Plan: obs.Intent.plan()}
	case obs.staleRead():
		return Decision{Action: ActionWait, Waiting: &Waiting{Reason: InDoubt, Err: fmt.Errorf("the node shows version %d of the session, older than version %d, from which ledger entry %d was made: what it shows is out of date, or it lost data, and the recorded request may still fit one day", obs.Session.Version, *obs.Intent.BaseVersion, obs.Intent.Sequence)}}
	case !obs.FenceExpired():
		return obs.waitForFence()
	case obs.attemptsSpent():
		return obs.failExhausted()
	default:
		return obs.decideNewPlan()
	}
}

// onPath reports whether requests of the intent can still be carried out: the
// session is at the version that the plan was made from, or one above it by a
// state update to the plan's split, whoever made that. A session that went on past
// the path never comes back to it.
func (obs Observation) onPath() bool {
	s := obs.Session
	if obs.Intent == nil || obs.recordedByOtherProtocol() || !s.Versioned || !s.Open {
		return false
	}
	base := *obs.Intent.BaseVersion
	return s.Version == base || s.Version == base+1 && sameSplit(s.Current, obs.Intent.Allocation)
}

// staleRead reports whether an open session is shown as it was before the intent:
// it may yet come to the path.
func (obs Observation) staleRead() bool {
	s := obs.Session
	return obs.Intent != nil && !obs.recordedByOtherProtocol() && s.Versioned && s.Open && s.Version < *obs.Intent.BaseVersion
}

// IsSplit reports whether the split that a versioned session has now is this one.
func (s Session) IsSplit(allocations []Allocation) bool { return sameSplit(s.Current, allocations) }

// sameSplit compares by account and asset; rows of 0 count for nothing.
func sameSplit(a, b []Allocation) bool {
	x, readable := sumAllocations(a)
	y, readableToo := sumAllocations(b)
	return readable && readableToo && sameAmounts(x, y)
}

// recordedByOtherProtocol reports whether the intent was recorded with the other kind of node
// than the one that shows the session now: nothing seen here says what became of
// its request.
func (obs Observation) recordedByOtherProtocol() bool {
	if obs.Intent == nil {
		return false
	}
	expires := obs.Intent.ValidUntil != nil
	return expires == obs.Session.Versioned || !expires && obs.Intent.BaseVersion == nil
}

// otherProtocolError says it to the operator, who alone can end it.
func (obs Observation) otherProtocolError() error {
	entry, back := obs.Intent.Sequence, "set clearnode.url and clearnode.protocol back to the node that was closing this session, until it is closed"
	switch {
	case obs.Intent.ValidUntil != nil:
		return fmt.Errorf("ledger entry %d, by which this outcome holds the session, was recorded with another generation of node, whose requests expire; the requests of this one don't: %s", entry, back)
	case obs.Intent.BaseVersion != nil:
		return fmt.Errorf("ledger entry %d, by which this outcome holds the session, was recorded with another generation of node, whose requests stay good until the session's version moves; the requests of this one expire: %s", entry, back)
	default:
		return fmt.Errorf("ledger entry %d, by which this outcome holds the session, says neither until when its request may land nor from which version it was made: check it with settled ledger verify, and settle this session by hand", entry)
	}
}
