package settlement

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Observation is everything that Next decides from: what the ledger has about one
// outcome, and one observation of its session.
type Observation struct {
	Outcome     Outcome
	Policy      Policy
	Limits      Limits // that a new plan is held to; what was recorded before isn't
	Session     Session
	Intent      *Entry  // the closing entry by which this outcome holds the session; nil where it does not
	Recorded    []Entry // every closing entry of this outcome
	Attempts    int     // its closing entries since its last failed one
	MaxAttempts int
	FenceMargin time.Duration

	// Refused is the node's definite refusal of this call's last request, nil
	// where there is none. The intent is then known to be dead.
	Refused error
	Sends   int // requests sent in this call

	// Doubt is why the outcome's last request is in doubt, where this process knows: for
	// the message of a failure only.
	Doubt string
}

// Action is what to do next.
type Action string

// The moves.
const (
	ActionClose Action = "close" // record the intent, send its first request
	ActionDrive Action = "drive" // send the recorded plan's next request; no new entry
	ActionDone  Action = "done"  // closed as planned: record it
	ActionFail  Action = "fail"  // record the failure
	ActionWait  Action = "wait"  // ask again later
)

// Decision is the next move, with what it needs.
type Decision struct {
	Action  Action
	Plan    *Plan    // close, drive, done
	Failure *Failure // fail
	Waiting *Waiting // wait
}

// Next decides, from one observation, what happens to an outcome. It is the whole
// lifecycle of a session, at both kinds of node.
//
// Where a request expires and the close carries the split (NitroRPC 0.x, legacy):
//
//	closed as planned            done
//	open, emptied as planned     done
//	closed, payouts not shown,   done
//	  held by an intent of this
//	  outcome, and not without us
//	closed otherwise             wait for the fence, then closed_elsewhere
//	  after a doubt, seen in     wait a fence margin
//	  a troubled moment
//	paid more than put in        wait for the fence, then overpaid
//	open, a request may land     wait for the fence
//	open after a doubt, seen in  wait a fence margin
//	  a troubled moment
//	open, refused for good, and  fail
//	  its balance is as planned
//	open, refused for a reason   wait for that reason, without a further attempt
//	  that is not the outcome's
//	open, attempts spent         attempts_exhausted
//	open, refused twice now      wait (transient)
//	open, nothing in it          session_unfunded
//	open                         plan from this observation, and close
//
// Where the version fences, and a state update to the split comes before the
// close (nitronode v1). On path: open, and at the version that the intent was made
// from, or one above it with the split as the intent has it. What was signed for
// an intent stays good as long as the session is on its path, so nothing fails
// there, however often the node refuses:
//
//	closed as planned            done
//	closed, payouts not shown    as above, at the version of the intent's close
//	closed, no intent, and the   done
//	  last payouts are as the
//	  policy pays their sum
//	closed otherwise             closed_elsewhere
//	on path                      drive: send the recorded plan's next request
//	older than the intent        wait
//	off path, attempts spent     attempts_exhausted
//	off path, nothing in it      session_unfunded
//	off path, or no intent       plan from this observation: record it, and send
//	                             its first request
//
// An intent recorded with the other kind of node: done where that is proven, else
// wait.
func Next(obs Observation) Decision {
	s := obs.Session
	if f := s.overpayment(); f != nil {
		return obs.failOrWait(f)
	}
	switch {
	case !s.Open:
		return obs.decideClosed()
	case s.Versioned:
		return obs.decideVersioned()
	default:
		return obs.decideExpiring()
	}
}

// decideExpiring decides about an open session at a node whose requests expire.
func (obs Observation) decideExpiring() Decision {
	s := obs.Session
	// ClearNode 0.5.2 may show a session open again that was closed and paid,
	// where somebody's submit_app_state met the close.
	if plan := obs.paidAsRecorded(); plan != nil && s.Unfunded() {
		return Decision{Action: ActionDone, Plan: plan}
	}
	if !obs.FenceExpired() {
		return obs.waitForFence()
	}
	if obs.expiredInDoubt() && !s.ConfirmedStable {
		return obs.waitForStableRead("the session was seen open, but the node or the connection was slow: looking again")
	}
	var permanent *Failure
	var later *Waiting
	switch {
	case errors.As(obs.Refused, &later): // not about the outcome: no further attempt now
		return Decision{Action: ActionWait, Waiting: later}
	case errors.As(obs.Refused, &permanent) && !obs.balanceChanged():
		return Decision{Action: ActionFail, Failure: permanent}
	case obs.attemptsSpent():
		return obs.failExhausted()
	case obs.Refused != nil && obs.Sends >= 2:
		return Decision{Action: ActionWait, Waiting: &Waiting{Reason: NodeTransient, Err: obs.Refused}}
	default:
		return obs.decideNewPlan()
	}
}

// decideNewPlan makes a new plan from this observation of an open session.
func (obs Observation) decideNewPlan() Decision {
	if obs.Session.Unfunded() {
		return Decision{Action: ActionFail, Failure: Fail(SessionUnfunded, "the session is open with nothing in it, seen twice")}
	}
	plan, f := obs.Policy.Plan(obs.Outcome, obs.Session)
	if f == nil {
		f = obs.Limits.Check(obs.Outcome.Scenario, plan.Allocations)
	}
	if f != nil {
		return Decision{Action: ActionFail, Failure: f}
	}
	if err := obs.Limits.Misspelt(plan.Allocations); err != nil {
		return Decision{Action: ActionWait, Waiting: &Waiting{Reason: NotReady, Err: err}}
	}
	return Decision{Action: ActionClose, Plan: plan}
}

func (obs Observation) attemptsSpent() bool { return obs.Attempts >= obs.MaxAttempts }

func (obs Observation) failExhausted() Decision {
	return Decision{Action: ActionFail, Failure: Fail(AttemptsExhausted, "%d attempts, none of which closed the session; it is open, and none of them can land any more%s", obs.Attempts, obs.lastResult())}
}

// balanceChanged reports whether the session's balance changed after the intent was
// planned: what the node refused then says nothing of a plan made now. A balance
// that only the outcome states never changes.
func (obs Observation) balanceChanged() bool {
	if obs.Intent == nil || obs.Session.Undisclosed.Balance {
		return false
	}
	planned := totals{}
	for _, a := range obs.Intent.Allocation {
		planned.add(a.Asset, a.Amount)
	}
	return compareTotals(planned, obs.Session, "planned") != nil
}

// decideClosed decides about a session that is closed at the node.
func (obs Observation) decideClosed() Decision {
	if plan := obs.paidAsRecorded(); plan != nil {
		return Decision{Action: ActionDone, Plan: plan}
	}
	if obs.Session.Undisclosed.Payouts {
		if plan := obs.paidByPolicy(obs.Session.possibleCloses()...); plan != nil {
			return Decision{Action: ActionDone, Plan: plan}
		}
		return obs.closedUndisclosed()
	}
	if plan := obs.paidByPolicy(obs.Session); plan != nil {
		return Decision{Action: ActionDone, Plan: plan}
	}
	return obs.closedElsewhere(Fail(ClosedElsewhere, "the session is closed at the node, and what was paid is not what this outcome would pay"))
}

// paidByPolicy is what the policy makes of the first of these closed sessions that paid
// exactly that; nil where none did, or where an intent holds the session, whose plan
// alone counts.
func (obs Observation) paidByPolicy(closed ...Session) *Plan {
	if obs.Intent != nil {
		return nil
	}
	for _, s := range closed {
		plan, f := obs.Policy.Allocate(obs.Outcome, s.AsFunded())
		if f == nil && paysOut(s.Payouts, plan.Allocations) {
			return plan
		}
	}
	return nil
}

// closedElsewhere fails an outcome whose session somebody else has closed. Beside that
// close a request of ours may still be at work in a node that is stuck, for longer
// than the margin; it would pay a second time, and who has failed looks no more. So
// after a doubt this too is believed only from a quiet moment.
func (obs Observation) closedElsewhere(f *Failure) Decision {
	if obs.FenceExpired() && obs.expiredInDoubt() && !obs.Session.ConfirmedStable {
		return obs.waitForStableRead("the session was seen closed otherwise than planned, but the node or the connection was slow: looking again")
	}
	return obs.failOrWait(f)
}

// paidAsRecorded is the plan, recorded for this outcome, that the node paid; nil
// where it paid none of them. The newest first: what a withdrawal and the close of a
// later plan paid together can look like what an earlier plan would have.
func (obs Observation) paidAsRecorded() *Plan {
	for _, intent := range slices.Backward(obs.Recorded) {
		if obs.Session.PaidAs(intent) {
			return intent.plan()
		}
	}
	return nil
}

func (obs Observation) failOrWait(f *Failure) Decision {
	if !obs.FenceExpired() {
		return obs.waitForFence()
	}
	return Decision{Action: ActionFail, Failure: f}
}

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

// closedUndisclosed decides about a closed session of which the node doesn't show what
// it paid. Where nobody closes it without a key of ours, and an intent of this
// outcome holds it, that intent's request closed it: the one before it could land
// no more when it was recorded.
func (obs Observation) closedUndisclosed() Decision {
	if obs.Session.QuorumNeedsUs && obs.Intent != nil && obs.Refused == nil && !obs.recordedByOtherProtocol() && obs.closedByIntent() {
		return Decision{Action: ActionDone, Plan: obs.Intent.plan()}
	}
	return obs.closedElsewhere(Fail(ClosedElsewhere, "the session is closed at the node, which doesn't show what it paid, and nothing proves that it was this outcome's request: ask the participants for their balances at the node, and compare them with what the policy pays"))
}

// closedByIntent holds the version of a closed session to the close that the
// intent may send: one above its base, or two.
func (obs Observation) closedByIntent() bool {
	if !obs.Session.Versioned {
		return true
	}
	base := *obs.Intent.BaseVersion
	return obs.Session.Version == base+1 || obs.Session.Version == base+2
}

// decideNewPlan is what an intent recorded.
func (e Entry) plan() *Plan {
	p := &Plan{Session: e.Session, Allocations: e.Allocation}
	if e.Policy != nil {
		p.Policy = *e.Policy
	}
	if e.BaseVersion != nil {
		p.BaseVersion = *e.BaseVersion
	}
	return p
}

// lastResult is what came of the last request.
func (obs Observation) lastResult() string {
	switch {
	case obs.Refused != nil:
		return ": the last was refused with " + printable(obs.Refused.Error(), maxDoubt)
	case obs.Doubt != "":
		return ": the last is in doubt: " + obs.Doubt
	}
	return ""
}
