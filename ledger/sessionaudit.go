package ledger

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"

	"settled/settlement"
)

type hash = [sha256.Size]byte

// shortHash is half of a hash. Two of them are compared only where this program computed
// both from stored text.
type shortHash [16]byte

func shorten(h hash) shortHash { return shortHash(h[:16]) }

// sessionAudit is what an audit remembers of one session: a fixed amount, but for the plans
// of its closing entries, which max_attempts bounds and a closed entry drops.
type sessionAudit struct {
	n               uint64
	last            hash // of the last entry's payload
	standing        auditedStanding
	attempts        int  // closing entries of the outcome that holds the session, since it took it
	unreadable      bool // the last entry could not be read, so the standing is unknown
	attemptsUnknown bool // no closing entry since then has shown the number of attempts

	branch *sessionAudit // the state after the last entry that is not on the chain; nil: there was none

	plans   []auditedPlan           // of all closing entries
	current []settlement.Allocation // of the closing entry that holds the session
}

// auditedStanding is a settlement.Standing with the outcome hashed.
type auditedStanding struct {
	state    settlement.StandingState
	outcome  shortHash // of its identity without the type, which a standing does not contain
	full     shortHash // of its whole identity; zero: unknown
	sequence uint64
}

// auditedPlan is what one outcome intended to pay.
type auditedPlan struct{ outcome, allocations hash }

// addUnreadable adds an entry that can't be read.
func (c *sessionAudit) addUnreadable(s Stored) {
	c.n++
	c.last = sha256.Sum256(s.Payload)
	c.unreadable, c.attemptsUnknown, c.standing = true, true, auditedStanding{}
}

// add adds the session's next entry, and returns what is wrong with it.
func (c *sessionAudit) add(s Stored) (wrong []string) {
	e := s.Entry
	if e.N != c.n+1 {
		wrong = append(wrong, fmt.Sprintf("it is number %d of its session by its id, and %d entries come before it", e.N, c.n))
	}
	if previous := c.previous(); *e.Previous != previous {
		wrong = append(wrong, fmt.Sprintf("previous is %q, and the entry before it hashes to %q", *e.Previous, previous))
	}
	wrong = append(wrong, c.checkTransition(e)...)
	c.n, c.last, c.unreadable = e.N, sha256.Sum256(s.Payload), false
	c.apply(e)
	return wrong
}

func (c *sessionAudit) previous() string { return chainPosition{n: c.n, digest: c.last}.previous() }

// checkTransition checks the entry against what its kind may do to the standing before it.
func (c *sessionAudit) checkTransition(e settlement.Entry) (wrong []string) {
	if c.unreadable {
		return nil
	}
	was := c.standing
	if was.state == "" {
		was.state = settlement.Free
	}
	ours, attempts := was.heldBy(e.Outcome), 0
	if ours {
		attempts = c.attempts
	}
	switch e.State {
	case settlement.EntryClosing:
		wrong, attempts = checkTaken(e, was, ours, settlement.Closing), attempts+1
	case settlement.EntryClosed:
		wrong = checkTaken(e, was, ours, settlement.Closed)
		if was.state != settlement.Closed {
			wrong = append(wrong, c.checkPayout(e, ours)...)
		}
	default:
		wrong = checkFailed(e, was, ours)
	}
	if e.Attempt != attempts && !(ours && c.attemptsUnknown) {
		wrong = append(wrong, fmt.Sprintf("attempt is %d, and by the entries before it %d", e.Attempt, attempts))
	}
	return wrong
}

// heldBy reports whether this outcome holds the session. Its type is compared too, except
// where the holder is only known from an entry after an unreadable one.
func (p auditedStanding) heldBy(o settlement.OutcomeRef) bool {
	switch {
	case p.state == settlement.Free:
		return false
	case p.full == shortHash{}:
		return p.outcome == shorten(o.Identity().Untyped().Hash())
	default:
		return p.full == shorten(o.Identity().Hash())
	}
}

// checkTaken checks that the session was free, or held by the outcome of a closing or closed
// entry.
func checkTaken(e settlement.Entry, was auditedStanding, ours bool, state settlement.StandingState) (wrong []string) {
	if was.state == settlement.Closed || was.state == settlement.Closing && !ours {
		wrong = append(wrong, fmt.Sprintf("%s by outcome %q, and the session was %s by another entry (%d)", e.State, e.Outcome.ID, was.state, was.sequence))
	}
	if want := e.Outcome.Standing(state); *e.Standing != want {
		wrong = append(wrong, fmt.Sprintf("standing is %s, want %s", standingText(*e.Standing), standingText(want)))
	}
	return wrong
}

// checkFailed checks that a failed entry frees the session if its own outcome held it, and
// leaves every other standing unchanged.
func checkFailed(e settlement.Entry, was auditedStanding, ours bool) []string {
	got := auditedStandingOf(*e.Standing)
	switch {
	case ours && was.state == settlement.Closed:
		return []string{"the outcome that closed the session failed afterwards"}
	case ours:
		if *e.Standing != (settlement.Standing{State: settlement.Free}) {
			return []string{fmt.Sprintf("standing is %s, and the outcome that held the session failed: want free", standingText(*e.Standing))}
		}
	case got.state != was.state || got.outcome != was.outcome || got.sequence != was.sequence:
		return []string{fmt.Sprintf("standing is %s, and before it the session was %s by entry %d: a failed entry of another outcome copies that", standingText(*e.Standing), was.state, was.sequence)}
	}
	return nil
}

// checkPayout checks a closed entry against the plan of its closing entry. A close that was
// found done may be that of an earlier intent of the same outcome.
func (c *sessionAudit) checkPayout(e settlement.Entry, ours bool) []string {
	if !ours {
		if !*e.Recovered {
			return []string{"closed by an answer to a request, and no closing entry of this outcome comes before it"}
		}
		return nil
	}
	p := planOf(e)
	if c.attemptsUnknown || planOf(settlement.Entry{Outcome: e.Outcome, Allocation: c.current}) == p || *e.Recovered && slices.Contains(c.plans, p) {
		return nil
	}
	wrong := []string{"its allocations are not those of the closing entry that it answers"}
	return append(wrong, sumsDiffer(c.current, e.Allocation)...)
}

// apply changes the state as the entry says.
func (c *sessionAudit) apply(e settlement.Entry) {
	full := c.standing.full
	c.standing = auditedStandingOf(settlement.Head{Last: &e}.Standing())
	switch e.State {
	case settlement.EntryClosing:
		full = shorten(e.Outcome.Identity().Hash())
		c.attempts, c.attemptsUnknown = e.Attempt, false
		c.plans = append(c.plans, planOf(e))
		c.current = e.Allocation
	case settlement.EntryClosed:
		full = shorten(e.Outcome.Identity().Hash())
		c.plans, c.current = nil, nil
	default:
		if c.standing.state == settlement.Free {
			full, c.current, c.attempts = shortHash{}, nil, 0
		}
	}
	c.standing.full = full
}

func auditedStandingOf(st settlement.Standing) auditedStanding {
	p := auditedStanding{state: settlement.Free, sequence: st.Sequence}
	if st.State == settlement.Closing || st.State == settlement.Closed {
		p.state, p.outcome = st.State, shorten(st.Identity().Hash())
	}
	return p
}

func planOf(e settlement.Entry) auditedPlan {
	text, err := json.Marshal(e.Allocation)
	if err != nil {
		panic(fmt.Sprintf("ledger: an allocation that was decoded from JSON can't be encoded: %v", err))
	}
	return auditedPlan{e.Outcome.Identity().Hash(), sha256.Sum256(text)}
}

// sumsDiffer lists the assets of which two allocations pay different sums.
func sumsDiffer(planned, paid []settlement.Allocation) (wrong []string) {
	sums := map[settlement.Asset][2]settlement.Amount{}
	for i, allocations := range [][]settlement.Allocation{planned, paid} {
		for _, a := range allocations {
			sum := sums[a.Asset]
			sum[i] = sum[i].Add(a.Amount)
			sums[a.Asset] = sum
		}
	}
	for asset, sum := range sums {
		if !sum[0].Equal(sum[1]) {
			wrong = append(wrong, fmt.Sprintf("it pays %s of %q, and the closing entry planned %s", sum[1], string(asset), sum[0]))
		}
	}
	slices.Sort(wrong)
	return wrong
}

func standingText(st settlement.Standing) string {
	if st.State == settlement.Free {
		return fmt.Sprintf("free (sequence %d)", st.Sequence)
	}
	return fmt.Sprintf("%s by %q of %q (sequence %d)", st.State, st.ID, st.Source, st.Sequence)
}
