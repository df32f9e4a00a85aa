package ledger

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"

	"settled/settlement"
)

type hash = [sha256.Size]byte

// chain is what an audit remembers of one session: a fixed amount, but for the
// plans of its closing entries, which max_attempts bounds and closed drops.
type chain struct {
	n        uint64
	last     hash // of the last entry's payload
	standing position
	attempts int  // closing entries of the outcome that holds the session, since it took it
	broken   bool // the last entry could not be read, so nothing is known of the standing
	blind    bool // since then no closing entry has said how many attempts there were

	branch *chain // what the last entry that is not on the chain would have made of it; nil: there was none

	plans   []plan                  // of all closing entries
	current []settlement.Allocation // of the closing entry that holds the session
}

// position is a settlement.Standing with the outcome hashed.
type position struct {
	state    settlement.StandingState
	outcome  hash // of its identity without the type, which a standing does not name
	full     hash // of its whole identity; zero: not known
	sequence uint64
}

// plan is what one outcome once intended to pay.
type plan struct{ outcome, allocations hash }

// skip goes past an entry that can't be read.
func (c *chain) skip(s Stored) {
	c.n++
	c.last = sha256.Sum256(s.Payload)
	c.broken, c.blind, c.standing = true, true, position{}
}

// add takes the session's next entry, and says what is wrong with it.
func (c *chain) add(s Stored) (wrong []string) {
	e := s.Entry
	if e.N != c.n+1 {
		wrong = append(wrong, fmt.Sprintf("it is number %d of its session by its id, and %d stand before it", e.N, c.n))
	}
	if previous := c.previous(); *e.Previous != previous {
		wrong = append(wrong, fmt.Sprintf("previous is %q, and the entry before it hashes to %q", *e.Previous, previous))
	}
	wrong = append(wrong, c.moved(e)...)
	c.n, c.last, c.broken = e.N, sha256.Sum256(s.Payload), false
	c.take(e)
	return wrong
}

func (c *chain) previous() string { return place{n: c.n, digest: c.last}.previous() }

// moved holds the entry to what its kind may do to the standing before it.
func (c *chain) moved(e settlement.Entry) (wrong []string) {
	if c.broken {
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
		wrong, attempts = taken(e, was, ours, settlement.Closing), attempts+1
	case settlement.EntryClosed:
		wrong = taken(e, was, ours, settlement.Closed)
		if was.state != settlement.Closed {
			wrong = append(wrong, c.pays(e, ours)...)
		}
	default:
		wrong = failedFrom(e, was, ours)
	}
	if e.Attempt != attempts && !(ours && c.blind) {
		wrong = append(wrong, fmt.Sprintf("attempt is %d, and by the entries before it %d", e.Attempt, attempts))
	}
	return wrong
}

// heldBy reports whether this outcome holds the session. Its type is compared too,
// except where the holder is only known from an entry after a broken one.
func (p position) heldBy(o settlement.OutcomeRef) bool {
	switch {
	case p.state == settlement.Free:
		return false
	case p.full == hash{}:
		return p.outcome == o.Identity().Untyped().Hash()
	default:
		return p.full == o.Identity().Hash()
	}
}

// taken holds a closing or closed entry to a session that it may take.
func taken(e settlement.Entry, was position, ours bool, state settlement.StandingState) (wrong []string) {
	if was.state == settlement.Closed || was.state == settlement.Closing && !ours {
		wrong = append(wrong, fmt.Sprintf("%s by outcome %q, and the session was %s by another entry (%d)", e.State, e.Outcome.ID, was.state, was.sequence))
	}
	if want := e.Outcome.Standing(state); *e.Standing != want {
		wrong = append(wrong, fmt.Sprintf("standing is %s, want %s", show(*e.Standing), show(want)))
	}
	return wrong
}

// failedFrom holds a failed entry to freeing the session that its own outcome held,
// and to leaving every other standing as it was.
func failedFrom(e settlement.Entry, was position, ours bool) []string {
	got := positionOf(*e.Standing)
	switch {
	case ours && was.state == settlement.Closed:
		return []string{"the outcome that closed the session failed afterwards"}
	case ours:
		if *e.Standing != (settlement.Standing{State: settlement.Free}) {
			return []string{fmt.Sprintf("standing is %s, and the outcome that held the session failed: want free", show(*e.Standing))}
		}
	case got.state != was.state || got.outcome != was.outcome || got.sequence != was.sequence:
		return []string{fmt.Sprintf("standing is %s, and before it the session was %s by entry %d: a failed entry of another outcome copies that", show(*e.Standing), was.state, was.sequence)}
	}
	return nil
}

// pays holds a closed entry to the plan of the closing entry it answers. A close
// that was found done may be that of an earlier intent of the same outcome.
func (c *chain) pays(e settlement.Entry, ours bool) []string {
	if !ours {
		if !*e.Recovered {
			return []string{"closed by an answer to a request, and no closing entry of this outcome stands before it"}
		}
		return nil
	}
	p := planOf(e)
	if c.blind || planOf(settlement.Entry{Outcome: e.Outcome, Allocation: c.current}) == p || *e.Recovered && slices.Contains(c.plans, p) {
		return nil
	}
	wrong := []string{"its allocations are not those of the closing entry that it answers"}
	return append(wrong, sumsDiffer(c.current, e.Allocation)...)
}

// take goes on from what the entry says.
func (c *chain) take(e settlement.Entry) {
	full := c.standing.full
	c.standing = positionOf(settlement.Head{Last: &e}.Standing())
	switch e.State {
	case settlement.EntryClosing:
		full = e.Outcome.Identity().Hash()
		c.attempts, c.blind = e.Attempt, false
		c.plans = append(c.plans, planOf(e))
		c.current = e.Allocation
	case settlement.EntryClosed:
		full = e.Outcome.Identity().Hash()
		c.plans, c.current = nil, nil
	default:
		if c.standing.state == settlement.Free {
			full, c.current, c.attempts = hash{}, nil, 0
		}
	}
	c.standing.full = full
}

func positionOf(st settlement.Standing) position {
	p := position{state: settlement.Free, sequence: st.Sequence}
	switch st.State {
	case settlement.Closing:
		p.state = settlement.Closing
	case settlement.Closed:
		p.state = settlement.Closed
	}
	if p.state != settlement.Free {
		p.outcome = st.Identity().Hash()
	}
	return p
}

func planOf(e settlement.Entry) plan {
	return plan{e.Outcome.Identity().Hash(), jsonHash(e.Allocation)}
}

func jsonHash(v any) hash {
	text, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("ledger: %T that was read from JSON can't be written as such: %v", v, err))
	}
	return sha256.Sum256(text)
}

// sumsDiffer names the assets of which two allocations pay unequal sums.
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

func show(st settlement.Standing) string {
	if st.State == settlement.Free {
		return fmt.Sprintf("free (sequence %d)", st.Sequence)
	}
	return fmt.Sprintf("%s by %q of %q (sequence %d)", st.State, st.ID, st.Source, st.Sequence)
}
