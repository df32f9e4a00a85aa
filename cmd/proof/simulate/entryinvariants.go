package simulate

import (
	"context"
	"slices"

	"settled/consumer"
	"settled/ledger"
	"settled/ledger/ledgertest"
	"settled/settlement"
)

// checkEntry checks an entry when it is stored.
func (c *checker) checkEntry(m ledger.Message) {
	e, err := ledger.ParseEntry(m.Subject, m.Payload, m.Sequence)
	if err != nil {
		c.w.violate(Chained, "entry %d can't be read: %v", m.Sequence, err)
		return
	}
	r := c.recordOf(e.Outcome)
	switch e.State {
	case settlement.EntryClosing:
		c.checkClosing(r, e)
	case settlement.EntryClosed:
		c.checkClosed(r, e)
	default:
		c.checkFailed(r, e)
	}
}

func (c *checker) checkClosing(r *outcomeRecord, e settlement.Entry) {
	m := c.w.broker.messageOf(e.Outcome)
	c.checkSigned(r, m, e)
	if n := r.attempts + 1; n > c.w.faults.attempts || e.Attempt != n {
		c.w.violate(Bounded, "entry %d says it is attempt %d and is %d of %d", e.Sequence, e.Attempt, n, c.w.faults.attempts)
	}
	if r.closed || r.failed(m) {
		c.w.violate(OneEnd, "entry %d begins outcome %s again, which has ended", e.Sequence, e.Outcome.ID)
	}
	if c.closed[e.Session] {
		c.w.violate(Agreement, "entry %d begins to close a session that is recorded as closed", e.Sequence)
	}
	if holder := c.holders[e.Session]; holder != nil && holder != r {
		c.w.violate(WriteAhead, "entry %d takes the session from outcome %s", e.Sequence, holder.ref.ID)
	}
	c.apply(r, e)
	r.allIntents = append(r.allIntents, e)
	for _, request := range c.w.node.requests {
		if request.digest() == e.Request.Digest && sameOutcome(request.outcome, e.Outcome) && request.session.id == e.Session {
			request.recorded, request.recordedAt = true, c.w.now
			c.w.node.maybeRivalClose(request.session, !sameRows(r.intents[0].Allocation, e.Allocation))
			return
		}
	}
	c.w.violate(WriteAhead, "entry %d records a request that nobody made for outcome %s", e.Sequence, e.Outcome.ID)
}

func (c *checker) checkClosed(r *outcomeRecord, e settlement.Entry) {
	s, m := c.w.node.find(e.Session), c.w.broker.messageOf(e.Outcome)
	c.checkSigned(r, m, e)
	switch {
	case c.closed[e.Session]:
		c.w.violate(OneEnd, "entry %d closes a session a second time", e.Sequence)
	case r.failed(m):
		c.w.violate(OneEnd, "entry %d closes by message %d, which had failed", e.Sequence, e.Outcome.Sequence)
	case s != nil && (s.unprotected || s.entriesLost && s.hidesPayouts): // it may be paid twice; or nobody can know what was paid by which intent
	case s == nil || s.open || !s.concurrentRival && len(s.closes) != 1 || !s.paidAs(e):
		state := "no such session"
		if s != nil {
			state = s.state()
			for _, close := range s.closes {
				state += ", " + rowText(close.allocation)
			}
		}
		c.w.violate(Agreement, "entry %d says closed, %s; the node: %s", e.Sequence, rowText(e.Allocation), state)
	case c.holders[e.Session] != nil && c.holders[e.Session] != r:
		c.w.violate(Agreement, "entry %d closes a session that outcome %s holds", e.Sequence, c.holders[e.Session].ref.ID)
	}
	c.apply(r, e)
	r.everClosed = true
}

// paidAs reports whether the session was closed with the entry's allocation. Another
// party's close counts if it comes to the same together with what players withdrew
// before: the node shows both as the same kind of payment. So does another outcome's,
// if the ledger may have lost its intent.
func (s *appSession) paidAs(e settlement.Entry) bool {
	if by := s.closedBy(e.Outcome); by != nil && !s.entriesLost {
		return sameAllocation(by.allocation, e.Allocation)
	}
	if !s.byRival && !s.entriesLost {
		return false
	}
	if sameAllocation(s.closes[0].allocation, e.Allocation) {
		return true
	}
	sums := s.unitTable()
	for _, t := range slices.Backward(s.payouts) {
		sums[t.participant][t.asset] += t.units
		if sameAllocation(s.allocation(sums, nil), e.Allocation) {
			return true
		}
	}
	return false
}

func (c *checker) checkFailed(r *outcomeRecord, e settlement.Entry) {
	m := c.w.broker.messageOf(e.Outcome)
	letter, found := c.w.deadLetters.ids[m.number]
	switch {
	case !found || letter.sequence != e.DeadLetter:
		c.w.violate(DeadLetterFirst, "entry %d fails message %d with dead letter %d, which isn't that message's", e.Sequence, e.Outcome.Sequence, e.DeadLetter)
	case r.closed:
		c.w.violate(OneEnd, "entry %d fails outcome %s, which is closed", e.Sequence, e.Outcome.ID)
	case r.failed(m) && e.Session != "":
		c.w.violate(OneEnd, "entry %d fails message %d a second time", e.Sequence, e.Outcome.Sequence)
	case e.Session != "" && c.holders[e.Session] == r:
		c.checkNotInDoubt(r, e)
	}
	// Where entries were lost, so may be which outcome holds or closed the session, and
	// the reason may be wrong.
	if !m.outcome.session.entriesLost && !r.entriesLost && !c.justified(m, r, e) {
		c.w.violate(Justified, "entry %d fails %s with %s: %s: nothing of the kind happened", e.Sequence, m.outcome, e.Error.Code, e.Error.Message)
	}
	if e.Error.Code == settlement.Overpaid && !c.w.emergencyStop.sessions[e.Session] {
		c.w.violate(Stopped, "entry %d says that a session was paid twice, and there was no emergency stop", e.Sequence)
	}
	c.apply(r, e)
	r.allFailures = append(r.allFailures, r.failures[len(r.failures)-1])
}

// checkNotInDoubt checks that no request of an outcome that held its session was
// executed or still can be when the outcome fails.
func (c *checker) checkNotInDoubt(r *outcomeRecord, e settlement.Entry) {
	s := c.w.node.find(e.Session)
	if s.entriesLost {
		return // the intent of what was paid may be lost
	}
	if s.closedBy(r.ref) != nil && s.closeIsKnown() {
		c.w.violate(NotInDoubt, "entry %d fails outcome %s (%s), and the node paid it", e.Sequence, r.ref.ID, e.Error.Code)
	}
	for _, request := range c.w.node.requests {
		if sameOutcome(request.outcome, r.ref) && request.mayExecute(&c.w.node) {
			c.w.violate(NotInDoubt, "entry %d fails outcome %s (%s) while this may be executed: %s", e.Sequence, r.ref.ID, e.Error.Code, request)
		}
	}
}

// closeIsKnown reports whether settled can know who closed the session: the node shows
// what was paid or nobody else could close it, and no other party did so at the same
// time.
func (s *appSession) closeIsKnown() bool {
	return (!s.hidesPayouts || s.quorumNeedsUs) && !s.concurrentRival
}

// justified reports whether the schedule contains a reason for the code with which an
// outcome failed.
func (c *checker) justified(m *message, r *outcomeRecord, e settlement.Entry) bool {
	o, s := m.outcome, m.outcome.session
	switch e.Error.Code {
	case settlement.InvalidOutcome:
		return slices.Contains([]flaw{flawUnreadableSession, flawMalformed, flawMissingRole, flawMissingFunder}, o.flaw)
	case settlement.UnknownScenario:
		return o.flaw == flawUnknownScenario
	case settlement.NotAParticipant:
		return o.flaw == flawPaysStranger
	case settlement.SessionNotFound:
		return s.missing || s.falselyNotFound
	case settlement.SessionUnfunded:
		return s.neverFunded || s.balanceMoved
	case settlement.ExpectationFailed:
		return o.totals != nil || o.version > 0 || o.scenario == settlement.DisputeResolved
	case settlement.QuorumNotReached:
		return s.noQuorum
	case settlement.AllocationRejected:
		return s.balanceMoved || o.flaw == flawWrongTotals && c.w.dialect == Legacy
	case settlement.OutcomeConflict:
		holder := c.holders[e.Session]
		return holder != nil && holder != r
	case settlement.ClosedElsewhere:
		return !s.open && (s.hidesPayouts && !s.quorumNeedsUs || s.byRival && !s.paidAsPlanned(r))
	case settlement.UntrustedOutcome:
		return c.w.faults.signedOutcomes && (m.forged || len(r.failures) > 0)
	case settlement.Overpaid:
		return s.concurrentRival && len(s.closes) > 1
	case settlement.AttemptsExhausted:
		return r.attempts >= c.w.faults.attempts
	}
	return false
}

// paidAsPlanned reports whether the node shows that the close paid what an intent of
// the outcome recorded.
func (s *appSession) paidAsPlanned(r *outcomeRecord) bool {
	return !s.hidesPayouts && (s.closedBy(r.ref) != nil || slices.ContainsFunc(r.allIntents, func(e settlement.Entry) bool {
		return e.Session == s.id && sameAllocation(e.Allocation, s.closes[0].allocation)
	}))
}

// checkSigned checks that what begins or closes a session is signed, and was replayed by
// an operator if the outcome had failed. An outcome that holds the session may go on.
func (c *checker) checkSigned(r *outcomeRecord, m *message, e settlement.Entry) {
	switch {
	case !c.w.faults.signedOutcomes || c.holders[e.Session] == r:
	case m.forged:
		c.w.violate(Signed, "entry %d: %s by message %d of %s, which is not signed", e.Sequence, e.State, m.sequence, m.outcome)
	case len(r.failures) > 0 && !m.replayRecorded:
		c.w.violate(Signed, "entry %d: %s by message %d of %s, which failed, and no operator replayed it", e.Sequence, e.State, m.sequence, m.outcome)
	}
}

// checkDeadLetter checks that an outcome that gets a dead letter had not failed when
// its failure was decided.
func (c *checker) checkDeadLetter(a *actor, o settlement.Outcome) {
	m := c.w.broker.messageOf(o.Ref)
	for _, f := range c.recordOf(o.Ref).failures {
		if f.ends(m) && f.entry <= a.ledgerEnd && !f.noSession {
			c.w.violate(DeadLetterFirst, "another dead letter of message %d, which entry %d had failed before %s read the ledger", o.Ref.Sequence, f.entry, a.name)
		}
	}
}

// checkAnswer checks that the ledger has the result of a message that is answered.
func (c *checker) checkAnswer(m *message, v consumer.Verdict) {
	c.w.tracef("OUTCOMES", "message %d: %s (%s)", m.sequence, v.Disposition, v.Reason)
	if !c.hasResult(m) {
		c.w.violate(Recorded, "message %d is answered with %s, and the ledger has no result of %s", m.sequence, v.Disposition, m.outcome)
	}
}

// hasResult reports whether the ledger has or had the result of a message.
func (c *checker) hasResult(m *message) bool {
	r := c.recordOf(m.parsed.Ref)
	return r.everClosed || slices.ContainsFunc(r.allFailures, func(f failure) bool { return f.message.number >= m.number })
}

// checkEnd checks a schedule that has ended.
func (w *world) checkEnd() {
	for _, m := range w.broker.messages {
		if !m.answered {
			w.violate(Liveness, "no more events, and left is %s", w.broker.unansweredText())
		}
		if !w.checker.hasResult(m) {
			w.violate(OneEnd, "the ledger has no result of %s", m.outcome)
		}
	}
	for _, s := range w.sessions {
		w.checker.checkPaidIsRecorded(s)
		w.checker.checkAudit(s)
	}
}

// checkPaidIsRecorded checks that what the node paid for us is recorded as closed, if
// settled could know.
func (c *checker) checkPaidIsRecorded(s *appSession) {
	for _, close := range s.closes {
		if !s.entriesLost && close.request != nil && !c.recordOf(close.request.outcome).closed && s.closeIsKnown() {
			c.w.violate(Agreement, "%s was executed, and its outcome isn't recorded as closed", close.request)
		}
	}
}

// checkAudit runs the ledger's own audit of a session, which has to report every foreign
// message and nothing else.
func (c *checker) checkAudit(s *appSession) {
	stream := &c.w.ledger
	stream.immediate = true
	defer func() { stream.immediate = false }()
	report, err := ledger.New(stream, ledger.Config{Fence: fence}).Verify(context.Background(), ledger.Audit{Session: s.id})
	if err != nil {
		c.w.violate(Chained, "%s: %v", s, err)
	}
	foreign := uint64(0)
	for _, m := range stream.messages[stream.expired:] {
		if slices.Contains(stream.foreign, m.Sequence) && ledgertest.Matches(subjectOf("*", s.id), m.Subject) {
			foreign++
		}
	}
	if report.Foreign != foreign {
		c.w.violate(Chained, "%s: %d foreign messages are reported, and %d were written", s, report.Foreign, foreign)
	}
	if stream.expired > 0 {
		return // it reports the entries that are missing
	}
	for _, f := range report.Findings {
		if !slices.Contains(stream.foreign, f.Sequence) {
			c.w.violate(Chained, "%s: %s", s, f)
		}
	}
}
