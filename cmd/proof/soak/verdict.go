package main

import (
	"slices"
	"strings"

	"settled/cmd/proof/verdict"
	"settled/settlement"
)

// evidence is all that is left when a run is over.
type evidence struct {
	verdict.Whole
	outcomes []*outcome
	acked    map[uint64]*outcome // messages, by sequence
	stored   uint64              // messages in OUTCOMES
	entries  []settlement.Entry  // closed and failed ones, in the ledger's order
	letters  uint64              // dead letters
	sessions map[settlement.SessionID]atNode
}

// atNode is a session in the node's own books.
type atNode struct {
	closes int
	paid   []payment
}

// payment is who got how much, without zeros.
type payment struct{ to, amount string }

// judge reads the evidence.
type judge struct {
	*evidence
	wrong verdict.Disagreements
}

func (e *evidence) disagreements() verdict.Disagreements {
	j := &judge{evidence: e}
	results := j.attribute()
	for _, o := range e.outcomes {
		j.result(o, results[o])
		j.payment(o, results[o])
	}
	j.rest()
	return j.wrong
}

func (j *judge) found(law, format string, args ...any) {
	j.wrong.Found(law, format, args...)
}

// attribute finds each result's outcome by the message that it names.
func (j *judge) attribute() map[*outcome][]settlement.Entry {
	results := map[*outcome][]settlement.Entry{}
	for _, e := range j.entries {
		o := j.acked[e.Outcome.Sequence]
		if o == nil || e.Session != o.session || o.session != "" && (e.Outcome.ID != o.id || e.Outcome.Source != source) {
			j.found("stranger", "entry %d is of outcome %s, message %d, session %s, which nobody published", e.Sequence, e.Outcome.ID, e.Outcome.Sequence, e.Session)
			continue
		}
		results[o] = append(results[o], e)
	}
	return results
}

// result: one, and the right one.
func (j *judge) result(o *outcome, results []settlement.Entry) {
	switch {
	case len(results) == 0:
		j.found(verdict.Lost, "outcome %s has no result", o.id)
		return
	case len(results) > 1:
		j.found(verdict.Twice, "outcome %s has %d results: entries %d and %d", o.id, len(results), results[0].Sequence, results[1].Sequence)
	}
	e := results[0]
	switch {
	case o.paid != "" && e.State != settlement.EntryClosed:
		j.found("wrong result", "outcome %s failed (entry %d): %v", o.id, e.Sequence, e.Error)
	case o.paid == "" && (e.State != settlement.EntryFailed || e.Error == nil || e.Error.Code != o.code):
		j.found("wrong result", "outcome %s is %s (entry %d) with %v; it must fail with %s", o.id, e.State, e.Sequence, e.Error, o.code)
	}
}

// payment: the node closed the session once and paid what its scenario says, and
// the ledger says so.
func (j *judge) payment(o *outcome, results []settlement.Entry) {
	node, there := j.sessions[o.session]
	switch {
	case o.paid == "":
		return // its session is paid by another outcome, or isn't there
	case !there || node.closes == 0:
		j.found(verdict.Lost, "session %s of outcome %s is not closed at the node", o.session, o.id)
		return
	case node.closes > 1:
		j.found(verdict.Twice, "session %s of outcome %s was closed %d times at the node", o.session, o.id, node.closes)
	}
	if got := o.pair.text(node.paid); got != o.paid {
		j.found("wrong payment", "outcome %s (%s): the node paid %q, want %q", o.id, o.scenario, got, o.paid)
	}
	for _, e := range results {
		if got := o.pair.text(payments(e.Allocation)); e.State == settlement.EntryClosed && got != o.paid {
			j.found("wrong payment", "outcome %s (%s): entry %d says %q, want %q", o.id, o.scenario, e.Sequence, got, o.paid)
		}
	}
}

// rest are the laws that hold for everything together.
func (j *judge) rest() {
	if uint64(len(j.acked)) != j.stored {
		j.found("stored", "%d messages were acknowledged, and %d are stored", len(j.acked), j.stored)
	}
	failed := uint64(0)
	for _, e := range j.entries {
		if e.State == settlement.EntryFailed {
			failed++
		}
	}
	if failed != j.letters {
		j.found("dead letter", "%d outcomes failed, and there are %d dead letters", failed, j.letters)
	}
	j.Judge(&j.wrong)
}

func payments(allocations []settlement.Allocation) []payment {
	var all []payment
	for _, a := range allocations {
		if !a.Amount.IsZero() {
			all = append(all, payment{a.Participant, a.Amount.String()})
		}
	}
	return all
}

// text writes payments as the table of scenarios does; who is no player stays an
// address.
func (p pair) text(payments []payment) string {
	names := map[string]string{strings.ToLower(p.alice): "alice", strings.ToLower(p.bob): "bob"}
	var rows []string
	for _, one := range payments {
		name := names[strings.ToLower(one.to)]
		if name == "" {
			name = one.to
		}
		rows = append(rows, name+" "+one.amount)
	}
	slices.Sort(rows)
	return strings.Join(rows, ", ")
}
