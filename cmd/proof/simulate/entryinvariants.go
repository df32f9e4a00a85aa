package simulate

import (
	"context"
	"fmt"
	"slices"

	"settled/consumer"
	"settled/ledger"
	"settled/settlement"
)

// unjustified is empty where the schedule gave a reason for how an outcome failed.
func (l *laws) unjustified(m *message, r *record, e settlement.Entry) string {
	d, s := m.deal, m.deal.session
	holder := l.holders[e.Session]
	held := holder != nil && holder != r
	hidden := s.unseen && !s.ours
	for code, reason := range map[settlement.Code]bool{
		settlement.InvalidOutcome:     slices.Contains([]flaw{unreadable, malformed, lacking, unstated}, d.flaw),
		settlement.UnknownScenario:    d.flaw == unheardOf,
		settlement.NotAParticipant:    d.flaw == alien,
		settlement.SessionNotFound:    s.missing || s.misled,
		settlement.SessionUnfunded:    s.emptied || s.moved,
		settlement.ExpectationFailed:  d.totals != nil || d.version > 0 || d.scenario == settlement.DisputeResolved,
		settlement.QuorumNotReached:   s.noQuorum,
		settlement.AllocationRejected: s.moved || d.flaw == mistaken && l.w.dialect == Legacy,
		settlement.OutcomeConflict:    held,
		settlement.ClosedElsewhere:    !s.open && (hidden || s.byRival && !s.paidAsPlanned(r)),
		settlement.UntrustedOutcome:   l.w.weather.trust && (m.forged || len(r.failed) > 0),
		settlement.Overpaid:           s.incident && len(s.closes) > 1,
		settlement.AttemptsExhausted:  r.attempts >= l.w.weather.attempts,
	} {
		if e.Error.Code == code && reason {
			return ""
		}
	}
	return "nothing of the kind happened"
}

// atTheEnd holds a schedule that came to its end to what must be true then.
func (w *world) atTheEnd() {
	for _, m := range w.broker.messages {
		if !m.done {
			w.violate(Liveness, "nothing happens any more, and left is %s", w.broker.unanswered())
		}
		if why := w.laws.ended(m); why != "" {
			w.violate(OneEnd, "%s", why)
		}
	}
	for _, s := range w.scene.sessions {
		w.laws.reconciled(s)
		w.laws.verified(s)
	}
}

// reconciled: what the node paid for us is recorded as closed. Where it hides what
// it paid, and others could have closed the session, a person has to look.
func (l *laws) reconciled(s *appSession) {
	for _, c := range s.closes {
		if s.lost || c.by == nil || l.of(c.by.outcome).closed {
			continue
		}
		if (!s.unseen || s.ours) && !s.incident {
			l.w.violate(Agreement, "%s was carried out, and its outcome isn't recorded as closed", c.by)
		}
	}
}

func (l *laws) alarmed(e settlement.Entry) {
	if e.Error.Code == settlement.Overpaid && !l.w.brake.stops[e.Session] {
		l.w.violate(Braked, "entry %d says that a session was paid twice, and nobody was stopped", e.Sequence)
	}
}

// signed holds what begins or closes a session to a signature, and to an operator's
// replay where the outcome had failed. What holds the session already may go on.
func (l *laws) signed(r *record, m *message, e settlement.Entry) {
	if !l.w.weather.trust || l.holders[e.Session] == r {
		return
	}
	why := ""
	switch {
	case m.forged:
		why = "nobody signed it"
	case len(r.failed) > 0 && !m.recorded:
		why = fmt.Sprintf("it failed with entry %d, and no operator replayed it", r.failed[len(r.failed)-1].entry)
	default:
		return
	}
	l.w.violate(Signed, "entry %d: %s by message %d of %s: %s", e.Sequence, e.State, m.sequence, m.deal, why)
}

// verified holds the session's entries to the ledger's own audit, which has to report
// every foreign message and nothing else.
func (l *laws) verified(s *appSession) {
	l.w.stream.still = true
	defer func() { l.w.stream.still = false }()
	report, err := ledger.New(&l.w.stream, ledger.Config{Fence: fence}).Verify(context.Background(), ledger.Audit{Session: s.id})
	if err != nil {
		l.w.violate(Chained, "%s: %v", s, err)
	}
	if n := l.w.stream.intruded(s.id); report.Foreign != n {
		l.w.violate(Chained, "%s: %d foreign messages are reported, and %d were written", s, report.Foreign, n)
	}
	if l.w.stream.gone > 0 {
		return // it reports the entries that are missing
	}
	for _, f := range report.Findings {
		if !slices.Contains(l.w.stream.intruders, f.Sequence) {
			l.w.violate(Chained, "%s: %s", s, f)
		}
	}
}

// letter holds a dead letter to an outcome that hadn't failed when its end was
// decided.
func (l *laws) letter(a *actor, o settlement.Outcome) {
	m := l.w.broker.of(o.Ref)
	for _, f := range l.of(o.Ref).failed {
		if f.ends(m) && f.entry <= a.heads && !f.unknown {
			l.w.violate(LetterFirst, "a dead letter of message %d again, which entry %d had failed before %s looked", o.Ref.Sequence, f.entry, a.name)
		}
	}
}

// answered holds an answer to a stored result.
func (l *laws) answered(m *message, v consumer.Verdict) {
	l.w.note("OUTCOMES", "message %d: %s (%s)", m.sequence, v.Disposition, v.Reason)
	if l.ended(m) == "" {
		return
	}
	l.w.violate(Recorded, "message %d is answered with %s: %s", m.sequence, v.Disposition, l.ended(m))
}

// ended is empty where the ledger holds the end of a message.
func (l *laws) ended(m *message) string {
	r := l.of(m.outcome.Ref)
	if r.settled || slices.ContainsFunc(r.ends, func(f failing) bool { return f.message.number >= m.number }) {
		return ""
	}
	return "the ledger holds no result of " + m.deal.String()
}

// stored holds an entry to what must be true when it is stored.
func (l *laws) stored(m ledger.Message) {
	e, err := ledger.ParseEntry(m.Subject, m.Payload, m.Sequence)
	if err != nil {
		l.w.violate(Chained, "entry %d can't be read: %v", m.Sequence, err)
		return
	}
	r := l.of(e.Outcome)
	switch e.State {
	case settlement.EntryClosing:
		l.closingStored(r, e)
	case settlement.EntryClosed:
		l.closedStored(r, e)
	default:
		l.failedStored(r, e)
	}
}

func (l *laws) closingStored(r *record, e settlement.Entry) {
	m := l.w.broker.of(e.Outcome)
	l.signed(r, m, e)
	if n := r.attempts + 1; n > l.w.weather.attempts || e.Attempt != n {
		l.w.violate(Bounded, "entry %d says it is attempt %d and is %d of %d", e.Sequence, e.Attempt, n, l.w.weather.attempts)
	}
	if r.closed || r.over(m) {
		l.w.violate(OneEnd, "entry %d begins outcome %s anew, which has ended", e.Sequence, e.Outcome.ID)
	}
	if l.closed[e.Session] {
		l.w.violate(Agreement, "entry %d begins to close a session that is recorded as closed", e.Sequence)
	}
	if holder := l.holders[e.Session]; holder != nil && holder != r {
		l.w.violate(WriteAhead, "entry %d takes the session from outcome %s", e.Sequence, holder.ref.ID)
	}
	l.book(r, e)
	r.recorded = append(r.recorded, e)
	for _, f := range l.w.node.flights {
		if f.digest() == e.Request.Digest && same(f.outcome, e.Outcome) && f.session.id == e.Session {
			f.recorded, f.recordedAt = true, l.w.now
			l.w.node.tempt(f.session, !equalRows(r.closings[0].Allocation, e.Allocation))
			return
		}
	}
	l.w.violate(WriteAhead, "entry %d records a request that nobody made for outcome %s", e.Sequence, e.Outcome.ID)
}

func (l *laws) closedStored(r *record, e settlement.Entry) {
	s := l.w.node.find(e.Session)
	l.signed(r, l.w.broker.of(e.Outcome), e)
	switch {
	case l.closed[e.Session]:
		l.w.violate(OneEnd, "entry %d closes a session a second time", e.Sequence)
	case r.over(l.w.broker.of(e.Outcome)):
		l.w.violate(OneEnd, "entry %d closes by message %d, which had failed", e.Sequence, e.Outcome.Sequence)
	case s != nil && (s.unheld || s.lost && s.unseen): // it may have been paid twice; or what was paid, and by which intent, is known to nobody
	case s == nil || s.open || !s.incident && len(s.closes) != 1 || !s.paidAs(e):
		l.w.violate(Agreement, "entry %d says closed, %s; the node: %s", e.Sequence, rowText(e.Allocation), nodeSays(s))
	case l.holders[e.Session] != nil && l.holders[e.Session] != r:
		l.w.violate(Agreement, "entry %d closes a session that outcome %s holds", e.Sequence, l.holders[e.Session].ref.ID)
	}
	l.book(r, e)
	r.settled = true
}

func nodeSays(s *appSession) string {
	if s == nil {
		return "no such session"
	}
	text := s.state()
	for _, c := range s.closes {
		text += ", " + rowText(c.rows)
	}
	return text
}

func (l *laws) failedStored(r *record, e settlement.Entry) {
	message := l.w.broker.of(e.Outcome)
	known, found := l.w.letters.ids[message.number]
	switch {
	case !found || known.sequence != e.DeadLetter:
		l.w.violate(LetterFirst, "entry %d fails message %d with dead letter %d, which it isn't", e.Sequence, e.Outcome.Sequence, e.DeadLetter)
	case r.closed:
		l.w.violate(OneEnd, "entry %d fails outcome %s, which is closed", e.Sequence, e.Outcome.ID)
	case r.over(message) && e.Session != "":
		l.w.violate(OneEnd, "entry %d fails message %d a second time", e.Sequence, e.Outcome.Sequence)
	case e.Session != "" && l.holders[e.Session] == r:
		l.notInDoubt(r, e)
	}
	if s := message.deal.session; s != nil && s.lost || r.lost {
		// Which outcome holds or settled the session may be lost: the reason may be wrong.
	} else if why := l.unjustified(message, r, e); why != "" {
		l.w.violate(Justified, "entry %d fails %s with %s: %s: %s", e.Sequence, message.deal, e.Error.Code, e.Error.Message, why)
	}
	l.alarmed(e)
	l.book(r, e)
	r.ends = append(r.ends, r.failed[len(r.failed)-1])
}

// notInDoubt holds the failure of a holder to its requests being dead, and not
// carried out either.
func (l *laws) notInDoubt(r *record, e settlement.Entry) {
	s := l.w.node.find(e.Session)
	if s.lost {
		return // the intent of what was paid may be lost
	}
	if s.closedBy(r.ref) != nil && (!s.unseen || s.ours) && !s.incident {
		l.w.violate(NotInDoubt, "entry %d fails outcome %s (%s), and the node paid it", e.Sequence, r.ref.ID, e.Error.Code)
	}
	for _, f := range l.w.node.flights {
		if same(f.outcome, r.ref) && f.mayLand(&l.w.node) {
			l.w.violate(NotInDoubt, "entry %d fails outcome %s (%s) while this may land: %s", e.Sequence, r.ref.ID, e.Error.Code, f)
		}
	}
}
