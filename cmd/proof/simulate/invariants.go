package simulate

import (
	"slices"

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

// readAgain makes the laws' books of what is left in the ledger.
func (l *laws) readAgain() {
	l.holders, l.closed = map[settlement.SessionID]*record{}, map[settlement.SessionID]bool{}
	for _, r := range l.outcomes {
		r.closings, r.attempts, r.closed, r.failed = nil, 0, false, nil
	}
	s := &l.w.stream
	for _, m := range s.messages[s.gone:] {
		e, err := ledger.ParseEntry(m.Subject, m.Payload, m.Sequence)
		if err == nil && !slices.Contains(s.intruders, m.Sequence) {
			l.book(l.of(e.Outcome), e)
		}
	}
}
