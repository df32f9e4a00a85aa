package settlement

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Observation is everything that Next decides from: what the ledger has about one
// outcome, and one read of its session.
type Observation struct {
	Outcome     Outcome
	Policy      Policy
	Limits      Limits // checked against a new plan; plans already recorded are not checked
	Session     Session
	ReadError   error   // of the read; Session is then not known
	Intent      *Entry  // the closing entry by which this outcome holds the session; nil if it does not
	Recorded    []Entry // every closing entry of this outcome
	Attempts    int     // closing entries of this outcome since its last failed entry
	MaxAttempts int
	FenceMargin time.Duration

	// Refused is the proof that this call's last request had no effect, or nil: the node refused
	// it, or it was never sent. If requests expire, it can never take effect.
	Refused error
	Sends   int // requests sent in this call

	// Doubt is the reason why it is not known whether the outcome's last request took effect.
	// It is empty if another process sent that request. It is used only in the message of a
	// failure.
	Doubt string

	// Derivation, if not nil, receives how a new plan was made.
	Derivation *Derivation
}

// Action is what to do next.
type Action string

// The actions.
const (
	ActionClose Action = "close" // record the intent, send its first request
	ActionDrive Action = "drive" // send the recorded plan's next request; no new entry
	ActionDone  Action = "done"  // closed as planned: record it
	ActionFail  Action = "fail"  // record the failure
	ActionWait  Action = "wait"  // observe again later
)

// Decision is the next action, with what it needs.
type Decision struct {
	Action       Action
	Plan         *Plan    // set for close, drive and done
	Failure      *Failure // set for fail
	Waiting      *Waiting // set for wait
	FenceExpired bool     // no request of this outcome can take effect any more, so it may be recorded as failed
}

// Next decides, from one observation, what happens to an outcome. It is the whole
// lifecycle of a session, for both kinds of node, except the failures that LIFECYCLE.md lists as
// not shown in the diagrams. The first matching row applies; "in
// doubt" and "confirmed read" are defined in LIFECYCLE.md.
//
// If the read failed:
//
//	no such session (two reads), no intent     session_not_found
//	can never be read, no intent               the failure that the read returned
//	not found, with an intent                  wait: a node also answers "not found" while
//	                                           its database is unavailable
//	any other error                            wait
//
// If more was paid out than deposited: overpaid, once the fence has expired.
//
// If requests expire and the close carries the allocation (NitroRPC 0.x, legacy):
//
//	closed, paid a recorded plan               done
//	open, emptied by a recorded plan           done
//	closed, no intent, paid the policy's plan  done
//	closed, payouts not shown, an intent of    done
//	  this outcome, last request not refused,
//	  quorum needs our key
//	closed otherwise, fence not expired        wait for the fence
//	closed otherwise, last request in doubt, wait for a confirmed read
//	  read not confirmed
//	closed otherwise                           closed_elsewhere
//	open, fence not expired                    wait for the fence
//	open, last request in doubt, read not      wait for a confirmed read
//	  confirmed
//	open, refused for a reason outside the     wait, with that reason
//	  outcome
//	open, permanently refused, balance as      fail
//	  planned
//	open, attempts spent                       attempts_exhausted
//	open, two requests of this call refused    wait (transient)
//	open, nothing in it                        session_unfunded
//	open, no plan or above a limit             the failure of the policy or limit
//	open, a limit spells an asset in other     wait (not ready)
//	  letter case
//	open                                       close by a new plan from this observation
//
// On nitronode v1 the session's version is the fence, and an update of the allocation comes
// before the close. A session is on the path of its intent if it is open, and either at
// the version that the intent was made from, or one above it with the allocation of the
// intent. Requests signed for an intent stay valid while the session is on its path. An
// outcome does not fail while its session is on the path, however often the node refuses.
// The rows:
//
//	closed, paid a recorded plan               done
//	closed, payouts not shown, an intent of    done
//	  this outcome, quorum needs our key,
//	  version is base_version+1 or +2
//	closed, no intent, and the policy,         done
//	  applied to the sum of the payouts,
//	  gives exactly these payouts
//	closed otherwise                           closed_elsewhere
//	open, on the path                          drive: send the recorded plan's next request
//	open, version older than the intent's      wait
//	open, attempts spent                       attempts_exhausted
//	open, otherwise                            as for expiring requests, from "nothing in it" on
//
// If there is no intent, and the node does not show which payouts the close made, the policy is
// applied to each run of last payouts that may be the close, the longest first.
//
// An intent recorded with the other kind of node: done if the node paid a plan recorded for this
// outcome, else wait.
func Next(obs Observation) Decision {
	d := obs.decide()
	d.FenceExpired = obs.FenceExpired()
	return d
}

func (obs Observation) decide() Decision {
	if obs.ReadError != nil {
		return obs.decideUnread()
	}
	if f := obs.Session.overpayment(); f != nil {
		return obs.failOrWait(f)
	}
	switch {
	case !obs.Session.Open:
		return obs.decideClosed()
	case obs.Session.Versioned:
		return obs.decideVersioned()
	default:
		return obs.decideExpiring()
	}
}

// decideUnread decides about a session that could not be read.
func (obs Observation) decideUnread() Decision {
	var permanent *Failure
	switch {
	case obs.Intent == nil && errors.Is(obs.ReadError, ErrSessionNotFound):
		return Decision{Action: ActionFail, Failure: Fail(SessionNotFound, "two reads found no session %s at the node", obs.Outcome.Session)}
	case obs.Intent == nil && errors.As(obs.ReadError, &permanent):
		return Decision{Action: ActionFail, Failure: permanent}
	default:
		return Decision{Action: ActionWait, Waiting: waitingFor(obs.ReadError, NodeUnavailable)}
	}
}

// decideExpiring decides about an open session at a node whose requests expire.
func (obs Observation) decideExpiring() Decision {
	s := obs.Session
	// ClearNode 0.5.2 may show a session that it has closed and paid as still open, if another
	// party's submit_app_state arrived together with the close.
	if plan := obs.paidAsRecorded(); plan != nil && s.Unfunded() {
		return Decision{Action: ActionDone, Plan: plan}
	}
	if !obs.FenceExpired() {
		return obs.waitForFence()
	}
	if obs.expiredInDoubt() && !s.ConfirmedStable {
		return obs.waitForStableRead("the session was seen open, which two consecutive quick reads have not confirmed: it will be read again")
	}
	var permanent *Failure
	var waiting *Waiting
	switch {
	case errors.As(obs.Refused, &waiting): // for a reason outside the outcome: no further attempt now
		return Decision{Action: ActionWait, Waiting: waiting}
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

// decideVersioned decides about an open session at a node that fences by version.
func (obs Observation) decideVersioned() Decision {
	switch {
	case obs.onPath():
		return Decision{Action: ActionDrive, Plan: obs.Intent.plan()}
	case obs.staleRead():
		return Decision{Action: ActionWait, Waiting: &Waiting{Reason: InDoubt, Err: fmt.Errorf("the node shows version %d of the session, older than version %d, from which ledger entry %d was made: the node's data is out of date or lost, and the recorded request may become valid again", obs.Session.Version, *obs.Intent.BaseVersion, obs.Intent.Sequence)}}
	case !obs.FenceExpired():
		return obs.waitForFence()
	case obs.attemptsSpent():
		return obs.failExhausted()
	default:
		return obs.decideNewPlan()
	}
}

// decideNewPlan makes a new plan from this read of an open session.
func (obs Observation) decideNewPlan() Decision {
	if obs.Session.Unfunded() {
		return Decision{Action: ActionFail, Failure: Fail(SessionUnfunded, "two reads found the session open with nothing in it")}
	}
	plan, f := obs.Policy.plan(obs.Outcome, obs.Session, obs.Derivation)
	if f == nil {
		obs.Derivation.addLimits(obs.Limits, obs.Outcome.Scenario, plan.Allocations)
		f = obs.Limits.Check(obs.Outcome.Scenario, plan.Allocations)
	}
	if f != nil {
		return Decision{Action: ActionFail, Failure: f}
	}
	if err := obs.Limits.Misspelt(plan.Allocations); err != nil {
		return Decision{Action: ActionWait, Waiting: &Waiting{Reason: NotReady, Err: err}} // the configuration is wrong, not the outcome
	}
	return Decision{Action: ActionClose, Plan: plan}
}

func (obs Observation) attemptsSpent() bool { return obs.Attempts >= obs.MaxAttempts }

func (obs Observation) failExhausted() Decision {
	last := ""
	switch {
	case obs.Refused != nil:
		last = ": the last was refused with " + printable(obs.Refused.Error(), maxDoubt)
	case obs.Doubt != "":
		last = ": the last is in doubt: " + obs.Doubt
	}
	return Decision{Action: ActionFail, Failure: Fail(AttemptsExhausted, "%d attempts, none of which closed the session; it is open, and none of them can take effect any more%s", obs.Attempts, last)}
}

// balanceChanged reports whether the session's balance changed after the intent was
// planned. The node's refusal of that plan then says nothing about a new one. A balance
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
		return obs.decideUndisclosed()
	}
	if plan := obs.paidByPolicy(obs.Session); plan != nil {
		return Decision{Action: ActionDone, Plan: plan}
	}
	return obs.closedElsewhere(Fail(ClosedElsewhere, "the session is closed at the node, and what was paid is not what this outcome would pay"))
}

// decideUndisclosed decides about a closed session whose payouts the node does not show.
// The intent's request closed it if no quorum is possible without a key of ours, the intent holds
// the session, this call's last request was not refused, and the session's version fits
// (closedByIntent). Every earlier request was already without effect when the intent was recorded.
func (obs Observation) decideUndisclosed() Decision {
	if obs.Session.QuorumNeedsUs && obs.Intent != nil && obs.Refused == nil && !obs.recordedByOtherProtocol() && obs.closedByIntent() {
		return Decision{Action: ActionDone, Plan: obs.Intent.plan()}
	}
	return obs.closedElsewhere(Fail(ClosedElsewhere, "the session is closed at the node, which doesn't show what it paid, and nothing proves that this outcome's request closed it: ask the participants for their balances at the node, and compare them with what the policy pays"))
}

// closedByIntent reports whether a closed session is at a version that the intent's close
// leads to: one or two above its base version. It is true if the version is not the fence.
func (obs Observation) closedByIntent() bool {
	if !obs.Session.Versioned {
		return true
	}
	base := *obs.Intent.BaseVersion
	return obs.Session.Version == base+1 || obs.Session.Version == base+2
}

// paidAsRecorded returns the plan, recorded for this outcome, that the node paid; nil if
// it paid none. It compares the newest first: a withdrawal and the close of a later plan
// can together look like the close of an earlier plan.
func (obs Observation) paidAsRecorded() *Plan {
	for _, intent := range slices.Backward(obs.Recorded) {
		if obs.Session.PaidAs(intent) {
			return intent.plan()
		}
	}
	return nil
}

// paidByPolicy returns the policy's plan for the first of the sessions in closed whose payouts
// equal it; closed are the possible readings of one closed session. It returns nil if there is
// none, or if an intent holds the session: then only the intent's plan counts.
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

// closedElsewhere fails an outcome whose session was closed without proof that we did it. A request of ours
// may still be running in a node that stalls for longer than the fence margin. It would pay
// a second time, and nobody looks at a failed outcome again until it is replayed. So after an
// expiring request in doubt a read must be confirmed here as well, as for an open session.
func (obs Observation) closedElsewhere(f *Failure) Decision {
	if obs.FenceExpired() && obs.expiredInDoubt() && !obs.Session.ConfirmedStable {
		return obs.waitForStableRead("the session was seen closed otherwise than planned, which two consecutive quick reads have not confirmed: it will be read again")
	}
	return obs.failOrWait(f)
}

func (obs Observation) failOrWait(f *Failure) Decision {
	if !obs.FenceExpired() {
		return obs.waitForFence()
	}
	return Decision{Action: ActionFail, Failure: f}
}

// plan is the plan that an intent recorded.
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
