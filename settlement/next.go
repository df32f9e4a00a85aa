package settlement

import (
	"errors"
	"slices"
	"time"
)

// View is everything that Next decides from: what the ledger has about one
// outcome, and one observation of its session.
type View struct {
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

// Move is what to do next.
type Move string

// The moves.
const (
	MoveClose Move = "close" // record the intent, send its first request
	MoveDrive Move = "drive" // send the recorded plan's next request; no new entry
	MoveDone  Move = "done"  // closed as planned: record it
	MoveFail  Move = "fail"  // record the failure
	MoveWait  Move = "wait"  // ask again later
)

// Step is the next move, with what it needs.
type Step struct {
	Move    Move
	Plan    *Plan    // close, drive, done
	Failure *Failure // fail
	Waiting *Waiting // wait
}

// Fallen reports whether the fence has fallen: no request of this outcome can
// land any more. Where requests expire, the instant compared is one before which
// the read did not begin; where versions fence, the session has gone past the path
// of the recorded plan.
func (v View) Fallen() bool {
	switch {
	case v.Intent == nil:
		return true
	case v.foreign():
		return false
	case v.Session.Versioned:
		return !v.onPath() && !v.outdated()
	default:
		return v.Refused != nil || !v.Session.AsOf.Before(*v.Intent.ValidUntil)
	}
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
func Next(v View) Step {
	s := v.Session
	if f := s.incident(); f != nil {
		return v.failOrWait(f)
	}
	switch {
	case !s.Open:
		return v.closed()
	case s.Versioned:
		return v.versioned()
	default:
		return v.expiring()
	}
}

// expiring decides about an open session at a node whose requests expire.
func (v View) expiring() Step {
	s := v.Session
	// ClearNode 0.5.2 may show a session open again that was closed and paid,
	// where somebody's submit_app_state met the close.
	if plan := v.paidAsRecorded(); plan != nil && s.Unfunded() {
		return Step{Move: MoveDone, Plan: plan}
	}
	if !v.Fallen() {
		return v.waitForFence()
	}
	if v.doubted() && !s.Quiet {
		return v.waitForQuiet("the session was seen open, but the node or the connection was slow: looking again")
	}
	var permanent *Failure
	var later *Waiting
	switch {
	case errors.As(v.Refused, &later): // not about the outcome: no further attempt now
		return Step{Move: MoveWait, Waiting: later}
	case errors.As(v.Refused, &permanent) && !v.moved():
		return Step{Move: MoveFail, Failure: permanent}
	case v.spent():
		return v.exhausted()
	case v.Refused != nil && v.Sends >= 2:
		return Step{Move: MoveWait, Waiting: &Waiting{Reason: NodeTransient, Err: v.Refused}}
	default:
		return v.plan()
	}
}

// plan makes a new plan from this observation of an open session.
func (v View) plan() Step {
	if v.Session.Unfunded() {
		return Step{Move: MoveFail, Failure: Fail(SessionUnfunded, "the session is open with nothing in it, seen twice")}
	}
	plan, f := v.Policy.Plan(v.Outcome, v.Session)
	if f == nil {
		f = v.Limits.Check(v.Outcome.Scenario, plan.Allocations)
	}
	if f != nil {
		return Step{Move: MoveFail, Failure: f}
	}
	if err := v.Limits.Misspelt(plan.Allocations); err != nil {
		return Step{Move: MoveWait, Waiting: &Waiting{Reason: NotReady, Err: err}}
	}
	return Step{Move: MoveClose, Plan: plan}
}

func (v View) spent() bool { return v.Attempts >= v.MaxAttempts }

func (v View) exhausted() Step {
	return Step{Move: MoveFail, Failure: Fail(AttemptsExhausted, "%d attempts, none of which closed the session; it is open, and none of them can land any more%s", v.Attempts, v.because())}
}

// moved reports whether the session's balance changed after the intent was
// planned: what the node refused then says nothing of a plan made now. A balance
// that only the outcome states never changes.
func (v View) moved() bool {
	if v.Intent == nil || v.Session.Hidden.Balance {
		return false
	}
	planned := totals{}
	for _, a := range v.Intent.Allocation {
		planned.add(a.Asset, a.Amount)
	}
	return compareTotals(planned, v.Session, "planned") != nil
}

// closed decides about a session that is closed at the node.
func (v View) closed() Step {
	if plan := v.paidAsRecorded(); plan != nil {
		return Step{Move: MoveDone, Plan: plan}
	}
	if v.Session.Hidden.Payouts {
		if plan := v.paidByPolicy(v.Session.possibleCloses()...); plan != nil {
			return Step{Move: MoveDone, Plan: plan}
		}
		return v.closedUnseen()
	}
	if plan := v.paidByPolicy(v.Session); plan != nil {
		return Step{Move: MoveDone, Plan: plan}
	}
	return v.elsewhere(Fail(ClosedElsewhere, "the session is closed at the node, and what was paid is not what this outcome would pay"))
}

// paidByPolicy is what the policy makes of the first of these closed sessions that paid
// exactly that; nil where none did, or where an intent holds the session, whose plan
// alone counts.
func (v View) paidByPolicy(closed ...Session) *Plan {
	if v.Intent != nil {
		return nil
	}
	for _, s := range closed {
		plan, f := v.Policy.Allocate(v.Outcome, s.AsFunded())
		if f == nil && paysOut(s.Payouts, plan.Allocations) {
			return plan
		}
	}
	return nil
}

// elsewhere fails an outcome whose session somebody else has closed. Beside that
// close a request of ours may still be at work in a node that is stuck, for longer
// than the margin; it would pay a second time, and who has failed looks no more. So
// after a doubt this too is believed only from a quiet moment.
func (v View) elsewhere(f *Failure) Step {
	if v.Fallen() && v.doubted() && !v.Session.Quiet {
		return v.waitForQuiet("the session was seen closed otherwise than planned, but the node or the connection was slow: looking again")
	}
	return v.failOrWait(f)
}

// doubted reports whether a request of ours expired without the node having
// refused it: it may still be at work.
func (v View) doubted() bool {
	return v.Intent != nil && v.Intent.ValidUntil != nil && v.Refused == nil && !v.Session.Versioned
}

// paidAsRecorded is the plan, recorded for this outcome, that the node paid; nil
// where it paid none of them. The newest first: what a withdrawal and the close of a
// later plan paid together can look like what an earlier plan would have.
func (v View) paidAsRecorded() *Plan {
	for _, intent := range slices.Backward(v.Recorded) {
		if v.Session.PaidAs(intent) {
			return intent.plan()
		}
	}
	return nil
}

func (v View) failOrWait(f *Failure) Step {
	if !v.Fallen() {
		return v.waitForFence()
	}
	return Step{Move: MoveFail, Failure: f}
}

// waitForFence looks again after 1, 2, 4 … seconds, as old as the doubt is, the
// last time when the fence falls: most doubts end by finding the session closed.
func (v View) waitForFence() Step {
	if v.foreign() {
		return Step{Move: MoveWait, Waiting: &Waiting{Reason: InDoubt, Err: v.otherGeneration()}}
	}
	w := &Waiting{Reason: InDoubt, Err: errors.New("a request of ours may still land")}
	if v.Intent.ValidUntil != nil {
		w.Until = *v.Intent.ValidUntil
		w.Delay = min(max(v.Session.AsOf.Sub(v.Intent.Time), time.Second), w.Until.Sub(v.Session.AsOf))
	}
	return Step{Move: MoveWait, Waiting: w}
}

// waitForQuiet looks again after a fence margin, and after that whenever the doubt is
// twice as old, at most maxQuietWait margins later.
func (v View) waitForQuiet(why string) Step {
	since := v.Session.AsOf.Sub(*v.Intent.ValidUntil)
	delay := min(max(since, v.FenceMargin), maxQuietWait*v.FenceMargin)
	return Step{Move: MoveWait, Waiting: &Waiting{Reason: InDoubt, Delay: delay, Err: errors.New(why)}}
}

// maxQuietWait is in fence margins.
const maxQuietWait = 6

// plan is what an intent recorded.
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

// because is what came of the last request.
func (v View) because() string {
	switch {
	case v.Refused != nil:
		return ": the last was refused with " + printable(v.Refused.Error(), maxDoubt)
	case v.Doubt != "":
		return ": the last is in doubt: " + v.Doubt
	}
	return ""
}
