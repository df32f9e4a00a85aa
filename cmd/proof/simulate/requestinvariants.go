package simulate

import (
	"slices"

	"settled/settlement"
)

// planned holds a plan to what is due: by the policies of its replica and the
// session as it was seen. What is only driven on was due when it was recorded.
func (l *laws) planned(a *actor, o settlement.Outcome, plan settlement.Plan) {
	r := l.of(o.Ref)
	if l.w.dialect == Versioned && slices.ContainsFunc(r.recorded, func(e settlement.Entry) bool {
		return *e.BaseVersion == plan.BaseVersion && equalRows(e.Allocation, plan.Allocations)
	}) {
		return
	}
	d := l.w.broker.of(o.Ref).deal
	due := d.due(a.home.policies, a.seen, l.w.dialect)
	if !equalRows(due, plan.Allocations) {
		l.w.violate(AsDue, "%s: the plan is %v, due is %v", d, plan.Allocations, due)
	}
}

// equalRows compares row by row, spelling included.
func equalRows(a, b []settlement.Allocation) bool {
	return slices.EqualFunc(a, b, func(x, y settlement.Allocation) bool {
		return x.Participant == y.Participant && x.Asset == y.Asset && x.Amount.Equal(y.Amount)
	})
}

// sending holds a request to what must be true when it leaves.
func (l *laws) sending(f *flight) {
	n := &l.w.node
	l.braked(f)
	if why := l.unrecorded(f); why != "" {
		l.w.violate(WriteAhead, "%s is sent: %s", f, why)
	}
	if n.w.dialect == Versioned || f.session.unheld {
		return
	}
	for _, other := range n.flights {
		if f.session.lost && other.session == f.session && other.running && other.until.Before(n.now()) {
			l.w.note("LAW", "%s is unheld: the node has been at work on request %d for longer than the fence margin", f.session, other.number+1)
			f.session.unheld = true
			return
		}
		if other.session == f.session && other.mayLand(n) && !f.expired(n) {
			l.w.violate(OneInFlight, "%s is sent while this may land: %s", f, other)
		}
	}
}

// unrecorded is empty where a request was recorded before it is sent. A versioned
// one was where some intent of its outcome leads to it.
func (l *laws) unrecorded(f *flight) string {
	if l.w.dialect != Versioned {
		if !f.recorded {
			return "no closing entry has its digest"
		}
		return ""
	}
	for _, e := range l.of(f.outcome).recorded {
		base := *e.BaseVersion
		if sameRows(e.Allocation, f.rows) && (f.version == base+1 || f.closes && f.version == base+2) {
			return ""
		}
	}
	return "no intent of its outcome leads to it"
}

// landing holds a request to what must be true when the node carries it out: its
// outcome holds the session, by the intent that says so.
func (l *laws) landing(f *flight) {
	r := l.of(f.outcome)
	switch {
	case l.holders[f.session.id] != r && !f.session.lost:
		l.w.violate(NotInDoubt, "%s lands, and its outcome doesn't hold the session", f)
	case l.unrecorded(f) != "":
		l.w.violate(WriteAhead, "%s lands: %s", f, l.unrecorded(f))
	case l.w.dialect != Versioned && !l.asRecorded(r, f):
		l.w.violate(WriteAhead, "%s lands, and its closing entry says otherwise", f)
	}
}

func (l *laws) asRecorded(r *record, f *flight) bool {
	return slices.ContainsFunc(r.recorded, func(e settlement.Entry) bool {
		return e.Request.Digest == f.digest() && equalRows(e.Allocation, f.rows) && e.ValidUntil != nil && e.ValidUntil.Equal(f.until)
	})
}

// paid holds a payout to what was put in.
func (l *laws) paid(s *appSession) {
	if s.incident || s.unheld {
		return // whoever sees it has to say so
	}
	if len(s.closes) > 1 {
		l.w.violate(PaidOnce, "%s was paid out %d times", s, len(s.closes))
		return
	}
	for asset := range s.assets {
		if left := s.balance(asset); left != 0 {
			l.w.violate(AllPaid, "%s: %d units of %s are left after the close", s, left, assets[asset].name)
		}
		for i := range s.participants {
			if s.net(i, asset) > 0 && l.w.dialect != Versioned && !s.named(i, asset, s.closes[0].rows) && !s.namedAsSpelled(i, asset) {
				l.w.violate(AllPaid, "%s: participant %d put in %s and stands in no row: it stays behind", s, i, assets[asset].name)
			}
		}
	}
}

// namedAsSpelled: a row has the participant as the definition spells it.
func (s *appSession) namedAsSpelled(wallet, asset int) bool {
	return slices.ContainsFunc(s.closes[0].rows, func(r settlement.Allocation) bool {
		return r.Participant == s.participants[wallet].Spelling && r.Asset == assets[asset].name
	})
}

// paidAs: the close paid these rows. What a rival closed counts as paid so, too,
// where it comes to the same together with what players had taken out before: the
// node shows both as the same kind of payment.
func (s *appSession) paidAs(e settlement.Entry) bool {
	rows := e.Allocation
	if by := s.closedBy(e.Outcome); by != nil && !s.lost {
		return sameRows(by.rows, rows)
	}
	// Else another outcome's request closed it, whose intent the ledger may have lost.
	return (s.byRival || s.lost) && s.comesTo(rows)
}

// comesTo: the close paid these rows, by itself or together with withdrawals.
func (s *appSession) comesTo(rows []settlement.Allocation) bool {
	if sameRows(s.closes[0].rows, rows) {
		return true
	}
	for from := range s.payouts {
		if sameRows(s.sums(s.payouts[from:]), rows) {
			return true
		}
	}
	return false
}

// sums adds payouts up by participant and asset.
func (s *appSession) sums(payouts []move) []settlement.Allocation {
	v := sight{session: s, held: []bool{true, true}}
	units := make([][]int64, len(s.participants))
	for i := range units {
		units[i] = make([]int64, s.assets)
	}
	for _, m := range payouts {
		units[m.wallet][m.asset] += m.units
	}
	return v.rows(units)
}

// onceRecorded is a split of the session that some intent recorded and that still
// gives out all there is; nil: there is none.
func (l *laws) onceRecorded(s *appSession) []settlement.Allocation {
	for _, r := range l.outcomes {
		for _, e := range r.recorded {
			if e.Session == s.id && s.redistributed(e.Allocation, l.w.dialect) == nil {
				return e.Allocation
			}
		}
	}
	return nil
}

// closedBy is the close of a session that an outcome's request made; nil: none did.
func (s *appSession) closedBy(o settlement.OutcomeRef) *closing {
	for _, c := range s.closes {
		if c.by != nil && same(c.by.outcome, o) {
			return c
		}
	}
	return nil
}

// paidAsPlanned: the close paid what some intent of an outcome had recorded, and
// shows it.
func (s *appSession) paidAsPlanned(r *record) bool {
	return !s.unseen && (s.closedBy(r.ref) != nil || slices.ContainsFunc(r.recorded, func(e settlement.Entry) bool {
		return e.Session == s.id && sameRows(e.Allocation, s.closes[0].rows)
	}))
}

// held holds a request to the hold after a loss: who knew an entry that is gone, or was
// told, sends nothing for a fence that was recorded since, nor does anybody while the
// settings have been dangerous for longer than a verification counts. Where one that did
// not know sends for a session that lost entries, that session may be paid twice.
func (l *laws) held(r *replica, f *flight) {
	s := &l.w.stream
	if s.danger != "" && l.w.now.Sub(s.dangerFrom) > settingsAge {
		l.w.violate(Held, "%s is sent by %s, and since %s the ledger has had %s", f, r.name, clock(s.dangerFrom.Sub(dawn)), s.danger)
	}
	if l.w.dialect == Versioned || s.lostAt.IsZero() || f.recordedAt.Before(s.lostAt) || l.w.now.Sub(s.lostAt) >= fence {
		return
	}
	switch {
	case !r.heldFrom.Before(s.lostAt):
		l.w.violate(Held, "%s is sent by %s, which knows since %s that the ledger lost entries", f, r.name, clock(r.heldFrom.Sub(dawn)))
	case f.session.lost && !f.session.unheld:
		l.w.note("LAW", "%s is unheld: %s didn't know of the lost entries", f.session, r.name)
		f.session.unheld = true
	}
}

// braked holds a request to the brake, and the end of an incident to its having
// been pulled.
func (l *laws) braked(f *flight) {
	if l.w.brake.on {
		l.w.violate(Braked, "%s is sent while everybody is stopped", f)
	}
}
