package simulate

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"settled/settlement"
)

// nodeRequest is one signed request of ours.
type nodeRequest struct {
	number      int
	outcome     settlement.OutcomeRef
	session     *appSession
	allocation  []settlement.Allocation
	closes      bool      // else it is the first half of a nitronode's close, a state update
	timestamp   time.Time // 0.x: on the node's clock
	fenceUntil  time.Time // 0.x: when it can no longer be executed
	baseVersion uint64    // nitronode: the version of the plan
	version     uint64    // nitronode: to which it moves the session

	copies     int // that are in flight or being executed
	executing  bool
	recorded   bool // its closing entry was stored
	recordedAt time.Time
}

func (r *nodeRequest) digest() string { return fmt.Sprintf("%064x", r.number+1) }

func (r *nodeRequest) String() string {
	what := "close"
	if !r.closes {
		what = "operate"
	}
	if r.version > 0 {
		what += fmt.Sprintf(" at version %d (base %d)", r.version, r.baseVersion)
	}
	return fmt.Sprintf("request %d: %s of %s by %s, %s", r.number+1, what, r.session, r.outcome.ID, rowText(r.allocation))
}

// mayExecute reports whether the node executes the request, or would execute it now.
func (r *nodeRequest) mayExecute(n *node) bool {
	switch {
	case r.copies == 0:
		return false
	case n.w.dialect == Nitronode:
		return checkNitronode(r) == nil
	case r.executing:
		return true
	default:
		return r.session.open && !r.expired(n)
	}
}

func (r *nodeRequest) expired(n *node) bool { return n.now().Sub(r.timestamp) > messageExpiry }

// Prepare implements settlement.Node. It fixes everything that the request contains.
func (n *node) Prepare(_ context.Context, o settlement.Outcome, plan settlement.Plan, s settlement.Session) (settlement.Request, error) {
	a := n.w.running
	if err := a.call("sign", func() {}); err != nil || n.w.faultOccurs(n.w.faults.cosignersAway) {
		return settlement.Request{}, &settlement.Waiting{Reason: settlement.CosignersUnavailable, Err: err}
	}
	if err := a.checkSignedIn(); err != nil {
		return settlement.Request{}, err
	}
	n.w.checker.checkPlan(a, o, plan)
	if a.lastRead.session.noQuorum {
		return settlement.Request{}, fmt.Errorf("prepare: %w", settlement.Fail(settlement.QuorumNotReached, "our keys don't reach the quorum"))
	}
	r := &nodeRequest{number: len(n.requests), outcome: o.Ref, session: a.lastRead.session, allocation: plan.Allocations, baseVersion: plan.BaseVersion, closes: true}
	request := settlement.Request{
		Ref:   settlement.RequestRef{ID: uint64(r.number + 1), Digest: r.digest()}, // #nosec G115 -- counts from 0
		Frame: fmt.Append(nil, r.number),
	}
	if n.w.dialect == Nitronode {
		r.version, r.closes = s.Version+1, sameAllocation(s.Current, plan.Allocations)
	} else {
		r.timestamp = a.nodeTime().Add(requestValidity - messageExpiry).Truncate(time.Millisecond)
		r.fenceUntil = r.timestamp.Add(messageExpiry + fenceMargin)
		request.Ref.Timestamp = uint64(r.timestamp.UnixMilli()) // #nosec G115 -- after 1970
	}
	request.ValidUntil, request.Closes = r.fenceUntil, r.closes
	n.requests = append(n.requests, r)
	a.tracef("prepares %s", r)
	return request, nil
}

// Send implements settlement.Node. A request that left is executed whatever becomes of
// its sender.
func (n *node) Send(_ context.Context, request settlement.Request) (settlement.Answer, error) {
	a := n.w.running
	at, err := strconv.Atoi(string(request.Frame))
	if err != nil || at >= len(n.requests) {
		return settlement.Answer{}, fmt.Errorf("no such request: %q", request.Frame)
	}
	r := n.requests[at]
	call := n.w.planCall("send")
	a.applyProcessFaults(call)
	if err := a.checkSignedIn(); err != nil || n.unavailable() && n.w.choices.pick(2) == 0 {
		a.tracef("%s: not sent", r)
		return settlement.Answer{}, &settlement.Refused{Err: errors.New("not sent: no connection")}
	}
	n.w.checker.checkHeld(a.process, r)
	n.w.checker.checkSending(r)
	return n.transmit(a, r, call)
}

// transmit sends a request and waits for the answer.
func (n *node) transmit(a *actor, r *nodeRequest, call callPlan) (settlement.Answer, error) {
	w := n.w
	var reply *settlement.Answer
	var refusal error
	a.tracef("SENDS %s", r)
	a.wait(func(wake func()) {
		answer := func(err error, version uint64) {
			w.tracef("NODE", "answers request %d: %v", r.number+1, err)
			if call.crashAfter {
				w.crash(a.process, "once its request was answered")
			}
			if call.answered && reply == nil {
				w.after(call.answerDelay, func() { reply, refusal = &settlement.Answer{Version: version, Evidence: nodeEvidence}, err; wake() })
			}
		}
		r.copies++
		w.after(call.requestDelay, func() { n.receive(r, call, answer) })
		w.after(call.timeout, wake)
	})
	if reply == nil {
		return settlement.Answer{}, errNoAnswer
	}
	if refusal != nil && w.faultOccurs(w.faults.stallOnRefusal) {
		a.process.stall(w.choices.between(messageExpiry, messageExpiry+3*fenceMargin))
		a.sleep(0)
	}
	return *reply, refusal
}

// receive takes a request off the node's queue. A refused request changed nothing; the
// node executes any other.
func (n *node) receive(r *nodeRequest, call callPlan, answer func(error, uint64)) {
	w := n.w
	if !call.arrives || n.unavailable() {
		w.tracef("NODE", "request %d never arrives", r.number+1)
		r.copies--
		return
	}
	refusal := n.refusal(r)
	if refusal == nil && w.faultOccurs(w.faults.refused) {
		refusal = errors.New("the node refuses for now")
		if w.dialect == Nitronode && w.choices.pick(2) == 0 {
			refusal = &settlement.Waiting{Reason: settlement.EscrowPending, Err: errors.New("another party's escrow is pending")}
		}
	}
	if refusal != nil {
		r.copies--
		answer(&settlement.Refused{Err: refusal}, 0)
		return
	}
	w.tracef("NODE", "executes request %d", r.number+1)
	w.checker.checkExecuting(r)
	r.executing = true
	r.session.executing++
	base := r.session.version
	if w.faults.concurrentRivals && w.choices.pick(4) == 3 {
		w.after(w.choices.between(0, w.faults.nodeWork), func() { n.rivalClose(r.session) })
	}
	w.after(w.choices.between(0, w.faults.nodeWork), func() { n.finish(r, base, answer) })
}

// finish commits a request once the database does not stall.
func (n *node) finish(r *nodeRequest, base uint64, answer func(error, uint64)) {
	w := n.w
	if n.stalled() {
		w.at(n.stalledUntil, func() { n.finish(r, base, answer) })
		return
	}
	r.executing = false
	r.copies--
	r.session.executing--
	if w.dialect == Nitronode && r.session.version != base {
		answer(&settlement.Refused{Err: errors.New("failed to update app session: concurrent modification detected")}, 0)
		return
	}
	n.commit(r)
	var err error
	if w.faultOccurs(w.faults.ambiguous) {
		err = errors.New("failed to close application session")
	}
	answer(err, r.session.version)
}

// commit carries a request out. The 0.x node checks nothing at this point: of two
// closes that it executes at once both pay.
func (n *node) commit(r *nodeRequest) {
	n.w.checker.checkCommit(r)
	if r.closes {
		r.session.close(n.w, r.allocation, r)
	} else {
		r.session.operate(r.allocation)
	}
	n.w.tracef("NODE", "executes request %d: %s", r.number+1, r.session.state())
	if r.closes {
		n.w.checker.checkPayout(r.session)
	}
}
