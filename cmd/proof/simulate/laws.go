package simulate

import (
	"slices"

	"settled/consumer"
	"settled/ledger"
	"settled/settlement"
)

// The laws: what no schedule may break, whatever goes wrong in it.
const (
	OneInFlight Law = "two closes in flight"            // never are two closes of ours of one session on their way that could both land
	PaidOnce    Law = "paid twice"                      // a session is paid out once at most
	WriteAhead  Law = "sent or paid without an intent"  // what is sent, and what is paid, was recorded before by the outcome that holds the session
	AllPaid     Law = "paid is not what was put in"     // to the last unit, with nothing left behind
	AsDue       Law = "planned is not what is due"      // a plan is what the policy says of the session as it was seen
	Agreement   Law = "ledger and node disagree"        // closed is recorded of what the node paid, and of nothing else
	NotInDoubt  Law = "failed while a request may land" // nor lands one after its outcome failed
	OneEnd      Law = "an outcome has not just one end" // for each time it was published
	Justified   Law = "an end without a reason"         // failed with a code that the schedule gave no reason for, or closed though it couldn't be
	LetterFirst Law = "no dead letter before failed"    // and none for what had failed already
	Recorded    Law = "answered without a result"       // nothing is acknowledged or terminated before the ledger has its result
	Bounded     Law = "too many attempts"               // closing entries of an outcome since it last failed
	Braked      Law = "sent while stopped"              // nor does an outcome fail for money paid twice before everybody is stopped
	Signed      Law = "settled without a signature"     // where outcomes are signed: nor does one that failed begin again without an operator's replay
	Held        Law = "sent while held"                 // after the ledger lost entries, or while its settings endanger money
	Chained     Law = "the ledger doesn't verify"       // by its own audit
	Liveness    Law = "doesn't end"                     // once nothing goes wrong any more everything ends
	NoPanic     Law = "panic"                           // of the code under test
)

// laws is what the ledger and the node have come to, kept a second time.
type laws struct {
	w        *world
	outcomes []*record
	holders  map[settlement.SessionID]*record // who holds or settled a session
	closed   map[settlement.SessionID]bool
}

// record is what the ledger holds of one outcome.
type record struct {
	ref      settlement.OutcomeRef
	closings []settlement.Entry
	attempts int // closing entries since it last failed
	closed   bool
	failed   []failing

	// What was true once, also where the ledger lost it.
	recorded []settlement.Entry // its closing entries
	ends     []failing
	settled  bool
	lost     bool // entries of it are gone
}

// failing is one failed entry, and the message that it ended.
type failing struct {
	message *message
	entry   uint64
	unknown bool // the entry belongs to no session: a redelivery of the message doesn't find it
}

// over: a failure ended the message.
func (r *record) over(m *message) bool {
	return slices.ContainsFunc(r.failed, func(f failing) bool { return f.ends(m) })
}

// ends: a message that was stored later is a new try; so is one with a higher sequence,
// which the product can't tell from a later one once OUTCOMES was set back. Where
// outcomes are signed only its own failure ends what an operator published again.
func (f failing) ends(m *message) bool {
	return f.message == m || m.letter == 0 && f.message.number >= m.number && f.message.sequence >= m.sequence
}

func (l *laws) of(o settlement.OutcomeRef) *record {
	for _, r := range l.outcomes {
		if same(r.ref, o) {
			return r
		}
	}
	r := &record{ref: o}
	l.outcomes = append(l.outcomes, r)
	return r
}

// same is worked out here a second time, like everything that the laws go by.
func same(a, b settlement.OutcomeRef) bool {
	return a.Source == b.Source && a.ID == b.ID && a.Type == b.Type && a.Digest == b.Digest
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

// book takes an entry into the books.
func (l *laws) book(r *record, e settlement.Entry) {
	switch e.State {
	case settlement.EntryClosing:
		r.closings = append(r.closings, e)
		r.attempts++
		l.holders[e.Session] = r
	case settlement.EntryClosed:
		r.closed, l.holders[e.Session], l.closed[e.Session] = true, r, true
	default:
		r.failed = append(r.failed, failing{l.w.broker.of(e.Outcome), e.Sequence, e.Session == ""})
		r.attempts = 0
		if l.holders[e.Session] == r {
			delete(l.holders, e.Session)
		}
	}
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
