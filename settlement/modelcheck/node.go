package main

import "slices"

// accepted reports whether the node would execute this request now.
func (c *config) accepted(s *state, what, plan, ver, valid uint8) bool {
	switch {
	case s.Closed:
		return false
	case !c.Versioned:
		return valid > 0
	case ver != s.Ver+1:
		return false
	case what == operate:
		return plan > planB2 || (plan-1)%2 == s.Bal
	}
	return s.Alloc == plan
}

// atWork reports whether the node executes a request, or only stuck ones.
func (s *state) atWork() bool {
	return slices.ContainsFunc(s.Requests[:], func(r request) bool { return r.State >= running })
}

func (s *state) isStuck() bool {
	return slices.ContainsFunc(s.Requests[:], func(r request) bool { return r.State == stuck })
}

// isOver reports whether the ledger has the plan's outcome as failed, and nothing
// excuses that the node carries it out.
func (c *config) isOver(s *state, plan uint8) bool {
	o, st := outcomeOf(plan), s.Book.Standing
	return has(s.Book.Failed, o) && (st.Kind != closing || st.Out != o) && c.Faults.SetBack == 0
}

// pay executes a close of ours, and checks what has to be true of it.
func (c *config) pay(s *state, plan uint8) {
	switch {
	case !has(s.EverRecorded, plan):
		c.violated("NO-INTENT: a plan was paid that was never recorded")
	case s.Paid != 0:
		c.violated("PAID-TWICE: the node paid %s and %s", planNames[s.Paid], planNames[plan])
	case s.EverClosed != 0 && s.Rival == 0:
		c.violated("PAID-AFTER-CLOSED")
	case c.isOver(s, plan):
		c.violated("PAID-AFTER-FAILED: the node paid %s, which the ledger has as failed", planNames[plan])
	}
	if s.Paid == 0 {
		s.Paid = plan
	} else {
		s.PaidTwo = plan
	}
	s.Closed = true
}

func (c *config) nodeSteps(s *state, add adder) {
	for i := range s.Requests {
		if s.Requests[i].State == 0 || i > 0 && s.Requests[i] == s.Requests[i-1] {
			continue
		}
		if c.Versioned {
			c.versionedNode(s, i, add)
		} else {
			c.expiringNode(s, i, add)
		}
	}
}

// answer takes a request from the node, and gives its answer to whoever waits.
func answer(s state, i int, what uint8, label string, add adder) {
	own := s.Requests[i].Own
	s.Requests[i] = request{}
	if own == 0 {
		add(label, false, s)
		return
	}
	s.Workers[own-1].Answer = what
	add(label+"; the answer: "+answerNames[what], false, s)
	s.Workers[own-1].Answer = answerLost
	add(label+"; the answer is lost", true, s)
}

func (c *config) expiringNode(s *state, i int, add adder) {
	r := s.Requests[i]
	plan := planNames[r.Plan]
	switch {
	case r.State != inFlight:
		c.commit(s, i, add)
	case r.Valid == 0:
		answer(*s, i, tooOld, "NODE refuses "+plan+": too old", add)
	case s.Closed:
		answer(*s, i, notOpen, "NODE refuses "+plan+": not open", add)
	default:
		n := *s
		n.Requests[i].State, n.Requests[i].Left, n.Requests[i].Valid = running, workTicks, 0
		add("NODE begins to close with "+plan, false, n)
		c.refuseForNow(s, i, add)
	}
}

func (c *config) refuseForNow(s *state, i int, add adder) {
	r := s.Requests[i]
	if r.Own == 0 {
		return
	}
	n := *s
	n.Requests[i] = request{}
	n.Workers[r.Own-1].Answer = transient
	add("NODE refuses "+planNames[r.Plan]+" for now", true, n)
}

// commit ends a close that runs at the node.
func (c *config) commit(s *state, i int, add adder) {
	r, n := s.Requests[i], *s
	if n.Requests[i].State == running && n.Left.Stuck > 0 {
		spend(&n.Left.Stuck)
		n.Requests[i].State, n.Requests[i].Left = stuck, 0
		add("NODE is stuck with "+planNames[r.Plan], true, n)
		n = *s
	}
	if c.WorksOn && r.Own != 0 {
		n.Workers[r.Own-1].Answer, n.Requests[i].Own = transient, 0
		add("NODE answers an error, and goes on with "+planNames[r.Plan], true, n)
		n = *s
	}
	if !c.Withdrawn && (r.Plan-1)%2 != n.Bal {
		answer(n, i, balanceMoved, "NODE refuses "+planNames[r.Plan]+": the balance is another", add)
		return
	}
	c.pay(&n, r.Plan)
	answer(n, i, carriedOut, "NODE closes and pays "+planNames[r.Plan], add)
}

func (c *config) versionedNode(s *state, i int, add adder) {
	r, n := s.Requests[i], *s
	what := c.text("%s(version %d, %s)", []string{"", "operate", "close"}[r.Kind], r.Ver, planNames[r.Plan])
	switch {
	case n.Closed:
		answer(n, i, notOpen, "NODE refuses "+what+": closed", add)
	case r.Ver != n.Ver+1:
		answer(n, i, wrongVersion, "NODE refuses "+what+": version", add)
	case !c.accepted(s, r.Kind, r.Plan, r.Ver, r.Valid):
		answer(n, i, balanceMoved, "NODE refuses "+what+": allocations", add)
	case r.Kind == operate:
		if c.isOver(s, r.Plan) {
			c.violated("PAID-AFTER-FAILED: an update to %s takes effect, which the ledger has as failed", planNames[r.Plan])
		}
		n.moveTo(r.Plan)
		answer(n, i, carriedOut, "NODE executes "+what, add)
	default:
		n.moveTo(n.Alloc)
		c.pay(&n, r.Plan)
		answer(n, i, carriedOut, "NODE executes "+what, add)
	}
	if !s.Closed {
		c.refuseForNow(s, i, add)
	}
}
