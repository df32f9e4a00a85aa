package settlement

import "fmt"

// versioned decides about an open session at a node that fences by version.
func (v View) versioned() Step {
	switch {
	case v.onPath():
		return Step{Move: MoveDrive, Plan: v.Intent.plan()}
	case v.outdated():
		return Step{Move: MoveWait, Waiting: &Waiting{Reason: InDoubt, Err: fmt.Errorf("the node shows version %d of the session, older than version %d, from which ledger entry %d was made: what it shows is out of date, or it lost data, and the recorded request may still fit one day", v.Session.Version, *v.Intent.BaseVersion, v.Intent.Sequence)}}
	case !v.Fallen():
		return v.waitForFence()
	case v.spent():
		return v.exhausted()
	default:
		return v.plan()
	}
}

// onPath reports whether requests of the intent can still be carried out: the
// session is at the version that the plan was made from, or one above it by a
// state update to the plan's split, whoever made that. A session that went on past
// the path never comes back to it.
func (v View) onPath() bool {
	s := v.Session
	if v.Intent == nil || v.foreign() || !s.Versioned || !s.Open {
		return false
	}
	base := *v.Intent.BaseVersion
	return s.Version == base || s.Version == base+1 && sameSplit(s.Current, v.Intent.Allocation)
}

// outdated reports whether an open session is shown as it was before the intent:
// it may yet come to the path.
func (v View) outdated() bool {
	s := v.Session
	return v.Intent != nil && !v.foreign() && s.Versioned && s.Open && s.Version < *v.Intent.BaseVersion
}

// IsSplit reports whether the split that a versioned session has now is this one.
func (s Session) IsSplit(allocations []Allocation) bool { return sameSplit(s.Current, allocations) }

// sameSplit compares by account and asset; rows of 0 count for nothing.
func sameSplit(a, b []Allocation) bool {
	x, readable := due(a)
	y, readableToo := due(b)
	return readable && readableToo && sameAmounts(x, y)
}

// foreign reports whether the intent was recorded with the other kind of node
// than the one that shows the session now: nothing seen here says what became of
// its request.
func (v View) foreign() bool {
	if v.Intent == nil {
		return false
	}
	expires := v.Intent.ValidUntil != nil
	return expires == v.Session.Versioned || !expires && v.Intent.BaseVersion == nil
}

// otherGeneration says it to the operator, who alone can end it.
func (v View) otherGeneration() error {
	entry, back := v.Intent.Sequence, "set clearnode.url and clearnode.protocol back to the node that was closing this session, until it is closed"
	switch {
	case v.Intent.ValidUntil != nil:
		return fmt.Errorf("ledger entry %d, by which this outcome holds the session, was recorded with another generation of node, whose requests expire; the requests of this one don't: %s", entry, back)
	case v.Intent.BaseVersion != nil:
		return fmt.Errorf("ledger entry %d, by which this outcome holds the session, was recorded with another generation of node, whose requests stay good until the session's version moves; the requests of this one expire: %s", entry, back)
	default:
		return fmt.Errorf("ledger entry %d, by which this outcome holds the session, says neither until when its request may land nor from which version it was made: check it with settled ledger verify, and settle this session by hand", entry)
	}
}
