package settlement

import (
	"errors"
	"fmt"
	"time"
)

// The fence of a request is the point after which the node can no longer execute it. If
// requests expire it is an instant on the node's clock: Node.Prepare returns it as
// Request.ValidUntil, computed in clearnode/dialect.go from the request's timestamp, the
// node's message expiry and the fence margin. Otherwise it is the session's version moving
// past the versions that the request fits.

// FenceExpired reports whether no request of this outcome can take effect any more. If
// requests expire, the fence is compared with an instant at which the read had not yet
// begun; if the version is the fence, the session has moved past the path of the recorded
// plan.
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

// onPath reports whether requests of the intent can still take effect: the session is
// at the version that the plan was made from, or one above it by a state update to the
// plan's allocation, whoever made that update. A session that has left the path never
// returns to it.
func (obs Observation) onPath() bool {
	s := obs.Session
	if obs.Intent == nil || obs.recordedByOtherProtocol() || !s.Versioned || !s.Open {
		return false
	}
	base := *obs.Intent.BaseVersion
	return s.Version == base || s.Version == base+1 && sameAllocation(s.Current, obs.Intent.Allocation)
}

// staleRead reports whether the node shows an open session as it was before the intent:
// the session may still come to the intent's path.
func (obs Observation) staleRead() bool {
	s := obs.Session
	return obs.Intent != nil && !obs.recordedByOtherProtocol() && s.Versioned && s.Open && s.Version < *obs.Intent.BaseVersion
}

// expiredInDoubt reports whether a request of ours expired without a refusal by the node:
// the node may still be executing it.
func (obs Observation) expiredInDoubt() bool {
	return obs.Intent != nil && obs.Intent.ValidUntil != nil && obs.Refused == nil && !obs.Session.Versioned
}

// recordedByOtherProtocol reports whether the intent was recorded with the other kind of
// node than the one that shows the session now. Nothing that this node shows then tells
// what happened to the intent's request.
func (obs Observation) recordedByOtherProtocol() bool {
	if obs.Intent == nil {
		return false
	}
	expires := obs.Intent.ValidUntil != nil
	return expires == obs.Session.Versioned || !expires && obs.Intent.BaseVersion == nil
}

// otherProtocolError tells the operator, who alone can resolve it.
func (obs Observation) otherProtocolError() error {
	entry, back := obs.Intent.Sequence, "set clearnode.url and clearnode.protocol back to the node that was closing this session, until it is closed"
	switch {
	case obs.Intent.ValidUntil != nil:
		return fmt.Errorf("ledger entry %d, by which this outcome holds the session, was recorded with another generation of node, whose requests expire; the requests of this one don't: %s", entry, back)
	case obs.Intent.BaseVersion != nil:
		return fmt.Errorf("ledger entry %d, by which this outcome holds the session, was recorded with another generation of node, whose requests stay valid until the session's version changes; the requests of this one expire: %s", entry, back)
	default:
		return fmt.Errorf("ledger entry %d, by which this outcome holds the session, says neither until when its request may take effect nor from which version it was made: check it with settled ledger verify, and settle this session by hand", entry)
	}
}

// waitForFence waits until the fence expires, and observes the session again after 1, 2,
// 4 … seconds meanwhile: most requests in doubt turn out to have closed the session.
func (obs Observation) waitForFence() Decision {
	if obs.recordedByOtherProtocol() {
		return Decision{Action: ActionWait, Waiting: &Waiting{Reason: InDoubt, Err: obs.otherProtocolError()}}
	}
	w := &Waiting{Reason: InDoubt, Err: errors.New("a request of ours may still take effect")}
	if obs.Intent.ValidUntil != nil {
		w.Until = *obs.Intent.ValidUntil
		w.Delay = min(max(obs.Session.AsOf.Sub(obs.Intent.Time), time.Second), w.Until.Sub(obs.Session.AsOf))
	}
	return Decision{Action: ActionWait, Waiting: w}
}

// waitForStableRead waits for a confirmed read (Session.ConfirmedStable) after a request in
// doubt: first for one fence margin, then each time as long as the time since the fence, at
// most maxStableReadWait fence margins.
func (obs Observation) waitForStableRead(why string) Decision {
	since := obs.Session.AsOf.Sub(*obs.Intent.ValidUntil)
	delay := min(max(since, obs.FenceMargin), maxStableReadWait*obs.FenceMargin)
	return Decision{Action: ActionWait, Waiting: &Waiting{Reason: InDoubt, Delay: delay, Err: errors.New(why)}}
}

// maxStableReadWait is in fence margins.
const maxStableReadWait = 6
