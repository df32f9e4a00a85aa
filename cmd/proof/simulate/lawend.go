package simulate

import (
	"slices"

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
