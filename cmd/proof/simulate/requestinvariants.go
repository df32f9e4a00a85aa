package simulate

import (
	"slices"

	"settled/settlement"
)

// checkPlan compares a plan with what is due by the policies of its replica and the
// session as it was read. A nitronode plan that is continued was due when it was
// recorded.
func (c *checker) checkPlan(a *actor, o settlement.Outcome, plan settlement.Plan) {
	if c.w.dialect == Nitronode && slices.ContainsFunc(c.recordOf(o.Ref).allIntents, func(e settlement.Entry) bool {
		return *e.BaseVersion == plan.BaseVersion && sameRows(e.Allocation, plan.Allocations)
	}) {
		return
	}
	outcome := c.w.broker.messageOf(o.Ref).outcome
	due := outcome.expectedPayouts(a.process.policies, a.lastRead, c.w.dialect)
	if !sameRows(due, plan.Allocations) {
		c.w.violate(AsDue, "%s: the plan is %v, due is %v", outcome, plan.Allocations, due)
	}
}

// checkHeld checks that a request respects the hold after a loss. A replica that knew a
// lost entry, or was told of the loss, sends nothing for one fence period that was recorded
// since; no replica sends while settings have been unsafe for longer than a check of
// the stream counts. If a replica that did not know sends for a session that lost
// entries, that session may be paid twice: it is unprotected.
func (c *checker) checkHeld(p *replica, r *nodeRequest) {
	s, now := &c.w.ledger, c.w.now
	if s.unsafeSetting != "" && now.Sub(s.unsafeSince) > maxCheckAge {
		c.w.violate(Held, "%s is sent by %s, and since %s the ledger has had %s", r, p.name, elapsed(s.unsafeSince), s.unsafeSetting)
	}
	if c.w.dialect == Nitronode || s.lostAt.IsZero() || r.recordedAt.Before(s.lostAt) || now.Sub(s.lostAt) >= fence {
		return
	}
	switch {
	case !p.knowsLossSince.Before(s.lostAt):
		c.w.violate(Held, "%s is sent by %s, which knows since %s that the ledger lost entries", r, p.name, elapsed(p.knowsLossSince))
	case r.session.entriesLost && !r.session.unprotected:
		c.w.tracef("CHECK", "%s is unprotected: %s didn't know of the lost entries", r.session, p.name)
		r.session.unprotected = true
	}
}

// checkSending checks a request when it is sent.
func (c *checker) checkSending(r *nodeRequest) {
	n := &c.w.node
	if c.w.emergencyStop.active {
		c.w.violate(Stopped, "%s is sent during an emergency stop", r)
	}
	if why := c.whyUnrecorded(r); why != "" {
		c.w.violate(WriteAhead, "%s is sent: %s", r, why)
	}
	if n.w.dialect == Nitronode || r.session.unprotected {
		return
	}
	for _, other := range n.requests {
		if other.session != r.session {
			continue
		}
		if r.session.entriesLost && other.executing && other.fenceUntil.Before(n.now()) {
			c.w.tracef("CHECK", "%s is unprotected: the node has executed request %d for longer than the fence margin", r.session, other.number+1)
			r.session.unprotected = true
			return
		}
		if other.mayExecute(n) && !r.expired(n) {
			c.w.violate(OneInFlight, "%s is sent while this may be executed: %s", r, other)
		}
	}
}

// whyUnrecorded is empty if a request was recorded before it was sent. A nitronode's
// was if an intent of its outcome leads to it.
func (c *checker) whyUnrecorded(r *nodeRequest) string {
	switch {
	case c.w.dialect != Nitronode && r.recorded:
		return ""
	case c.w.dialect != Nitronode:
		return "no closing entry has its digest"
	}
	for _, e := range c.recordOf(r.outcome).allIntents {
		base := *e.BaseVersion
		if sameAllocation(e.Allocation, r.allocation) && (r.version == base+1 || r.closes && r.version == base+2) {
			return ""
		}
	}
	return "no intent of its outcome leads to it"
}

// checkExecuting checks that the 0.x node executes one close of ours at a time.
func (c *checker) checkExecuting(r *nodeRequest) {
	if c.w.dialect != Nitronode && r.session.executing > 0 && !r.session.unprotected {
		c.w.violate(OneInFlight, "%s is executed while another close of its session is", r)
	}
}

// checkCommit checks that the node executes a request only as an intent of the
// outcome that holds the session says.
func (c *checker) checkCommit(r *nodeRequest) {
	o := c.recordOf(r.outcome)
	why := c.whyUnrecorded(r)
	switch {
	case c.holders[r.session.id] != o && !r.session.entriesLost:
		c.w.violate(NotInDoubt, "%s is executed, and its outcome doesn't hold the session", r)
	case why != "":
		c.w.violate(WriteAhead, "%s is executed: %s", r, why)
	case c.w.dialect != Nitronode && !slices.ContainsFunc(o.allIntents, func(e settlement.Entry) bool {
		return e.Request.Digest == r.digest() && sameRows(e.Allocation, r.allocation) && e.ValidUntil != nil && e.ValidUntil.Equal(r.fenceUntil)
	}):
		c.w.violate(WriteAhead, "%s is executed, and its closing entry says otherwise", r)
	}
}

// checkPayout compares a payout with what was deposited.
func (c *checker) checkPayout(s *appSession) {
	if s.concurrentRival || s.unprotected {
		return // it may be paid twice: settled has to report that
	}
	if len(s.closes) > 1 {
		c.w.violate(PaidOnce, "%s was paid out %d times", s, len(s.closes))
		return
	}
	for asset, left := range s.balances() {
		if left != 0 {
			c.w.violate(AllPaid, "%s: %d units of %s are left after the close", s, left, assets[asset].name)
		}
		for i := range s.participants {
			if s.net(i, asset) > 0 && c.w.dialect != Nitronode && !s.hasRow(i, asset, s.closes[0].allocation) {
				c.w.violate(AllPaid, "%s: participant %d deposited %s and is in no row: its deposit stays behind", s, i, assets[asset].name)
			}
		}
	}
}

// recordedAllocation is an allocation of the session that some intent recorded and
// that still pays out all there is; nil: there is none.
func (c *checker) recordedAllocation(s *appSession) []settlement.Allocation {
	for _, r := range c.outcomes {
		for _, e := range r.allIntents {
			if e.Session == s.id && s.checkRedistribution(e.Allocation, c.w.dialect) == nil {
				return e.Allocation
			}
		}
	}
	return nil
}
