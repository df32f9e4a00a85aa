package simulate

import (
	"slices"

	"settled/ledger"
	"settled/settlement"
)

// Invariant names what no schedule may violate.
type Invariant string

const (
	OneInFlight     Invariant = "two closes in flight"                   // of one session, never two closes of ours could both be executed
	PaidOnce        Invariant = "paid twice"                             // a session is paid out at most once
	WriteAhead      Invariant = "sent or paid without an intent"         // what is sent or paid was recorded before, by the outcome that holds the session
	AllPaid         Invariant = "paid is not what was deposited"         // to the last unit, with nothing left behind
	AsDue           Invariant = "planned is not what is due"             // a plan follows from the policy and the session as it was read
	Agreement       Invariant = "ledger and node disagree"               // closed is recorded of what the node paid, and of nothing else
	NotInDoubt      Invariant = "failed while a request may take effect" // nor is a request executed after its outcome failed
	OneEnd          Invariant = "an outcome has not just one end"        // for each time it was published
	Justified       Invariant = "an end without a reason"                // an outcome failed with a code that nothing in the schedule justifies
	DeadLetterFirst Invariant = "no dead letter before failed"           // nor one for what had failed already
	Recorded        Invariant = "answered without a result"              // nothing is acknowledged or terminated before the ledger has its result
	Bounded         Invariant = "too many attempts"                      // closing entries of an outcome since it last failed
	Stopped         Invariant = "sent while stopped"                     // nor does an outcome fail as overpaid before an emergency stop
	Signed          Invariant = "settled without a signature"            // where outcomes are signed; a failed one needs an operator's replay to begin again
	Held            Invariant = "sent while held"                        // after the ledger lost entries, or while its settings can lose them
	Chained         Invariant = "the ledger doesn't verify"              // by its own audit
	Liveness        Invariant = "doesn't end"                            // everything ends once no more faults occur
	NoPanic         Invariant = "panic"                                  // of the code under test
)

// checker checks the invariants. It keeps its own account of what the ledger contains.
type checker struct {
	w        *world
	outcomes []*outcomeRecord
	holders  map[settlement.SessionID]*outcomeRecord // the outcome that holds or closed a session
	closed   map[settlement.SessionID]bool
}

// outcomeRecord is what the ledger contains of one outcome.
type outcomeRecord struct {
	ref      settlement.OutcomeRef
	intents  []settlement.Entry // closing entries
	attempts int                // closing entries since it last failed
	closed   bool
	failures []failure

	// The same, including what the ledger lost.
	allIntents  []settlement.Entry
	allFailures []failure
	everClosed  bool
	entriesLost bool
}

// failure is one failed entry, and the message that failed.
type failure struct {
	message   *message
	entry     uint64
	noSession bool // the entry belongs to no session: a redelivery of the message doesn't find it
}

// ends reports whether a failure also ended a message. One that was stored later settles the
// outcome again; so does one with a higher sequence, which settled can't tell from it once
// OUTCOMES was restored from an older copy. If outcomes are signed, an operator's replay is
// ended by its own failure only.
func (f failure) ends(m *message) bool {
	return f.message == m || m.replayOf == 0 && f.message.number >= m.number && f.message.sequence >= m.sequence
}

// failed reports whether a failure ended the message.
func (r *outcomeRecord) failed(m *message) bool {
	return slices.ContainsFunc(r.failures, func(f failure) bool { return f.ends(m) })
}

func (c *checker) recordOf(o settlement.OutcomeRef) *outcomeRecord {
	for _, r := range c.outcomes {
		if sameOutcome(r.ref, o) {
			return r
		}
	}
	r := &outcomeRecord{ref: o}
	c.outcomes = append(c.outcomes, r)
	return r
}

// sameOutcome deliberately does not use settled's own comparison.
func sameOutcome(a, b settlement.OutcomeRef) bool {
	return a.Source == b.Source && a.ID == b.ID && a.Type == b.Type && a.Digest == b.Digest
}

// apply adds an entry to the account.
func (c *checker) apply(r *outcomeRecord, e settlement.Entry) {
	switch e.State {
	case settlement.EntryClosing:
		r.intents = append(r.intents, e)
		r.attempts++
		c.holders[e.Session] = r
	case settlement.EntryClosed:
		r.closed, c.holders[e.Session], c.closed[e.Session] = true, r, true
	default:
		r.failures = append(r.failures, failure{c.w.broker.messageOf(e.Outcome), e.Sequence, e.Session == ""})
		r.attempts = 0
		if c.holders[e.Session] == r {
			delete(c.holders, e.Session)
		}
	}
}

// rebuild makes the account again from what is left in the ledger.
func (c *checker) rebuild() {
	c.holders, c.closed = map[settlement.SessionID]*outcomeRecord{}, map[settlement.SessionID]bool{}
	for _, r := range c.outcomes {
		r.intents, r.attempts, r.closed, r.failures = nil, 0, false, nil
	}
	s := &c.w.ledger
	for _, m := range s.messages[s.expired:] {
		e, err := ledger.ParseEntry(m.Subject, m.Payload, m.Sequence)
		if err == nil && !slices.Contains(s.foreign, m.Sequence) {
			c.apply(c.recordOf(e.Outcome), e)
		}
	}
}

// closedBy is the close of a session by a request of the outcome; nil: none.
func (s *appSession) closedBy(o settlement.OutcomeRef) *executedClose {
	for _, c := range s.closes {
		if c.request != nil && sameOutcome(c.request.outcome, o) {
			return c
		}
	}
	return nil
}
