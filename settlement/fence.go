package settlement

import (
	"errors"
	"fmt"
	"time"
)

// FenceExpired reports whether the fence has fallen: no request of this outcome can
// land any more. Where requests expire, the instant compared is one before which
// the read did not begin; where versions fence, the session has gone past the path
// of the recorded plan.
func (obs Observation) FenceExpired() bool {
	switch {
	case obs.Intent == nil:
		return true
	case obs.recordedByOtherProtocol():
		return false
	case obs.Session.Versioned:
		return !obs.onPath() && !obs.staleRead()
	default:
		return obs.Refused != nil || !obs.Session.AsOf.Before(*obs.Intent.ValidUntil)
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

// waitForFence looks again after 1, 2, 4 … seconds, as old as the doubt is, the
// last time when the fence falls: most doubts end by finding the session closed.
func (obs Observation) waitForFence() Decision {
	if obs.recordedByOtherProtocol() {
		return Decision{Action: ActionWait, Waiting: &Waiting{Reason: InDoubt, Err: obs.otherProtocolError()}}
	}
	w := &Waiting{Reason: InDoubt, Err: errors.New("a request of ours may still land")}
	if obs.Intent.ValidUntil != nil {
		w.Until = *obs.Intent.ValidUntil
		w.Delay = min(max(obs.Session.AsOf.Sub(obs.Intent.Time), time.Second), w.Until.Sub(obs.Session.AsOf))
	}
	return Decision{Action: ActionWait, Waiting: w}
}

// waitForStableRead looks again after a fence margin, and after that whenever the doubt is
// twice as old, at most maxStableReadWait margins later.
func (obs Observation) waitForStableRead(why string) Decision {
	since := obs.Session.AsOf.Sub(*obs.Intent.ValidUntil)
	delay := min(max(since, obs.FenceMargin), maxStableReadWait*obs.FenceMargin)
	return Decision{Action: ActionWait, Waiting: &Waiting{Reason: InDoubt, Delay: delay, Err: errors.New(why)}}
}

// maxStableReadWait is in fence margins.
const maxStableReadWait = 6

// expiredInDoubt reports whether a request of ours expired without the node having
// refused it: it may still be at work.
func (obs Observation) expiredInDoubt() bool {
	return obs.Intent != nil && obs.Intent.ValidUntil != nil && obs.Refused == nil && !obs.Session.Versioned
}
