package main

import (
	"fmt"
	"slices"
	"strings"

	"settled/cmd/proof/verdict"
	"settled/settlement"
)

// evidence is all that is left when a run is over. What is wrong with it is worked
// out from it alone.
type evidence struct {
	verdict.Whole
	outcomes []*outcome               // that were published
	acked    map[uint64]*outcome      // where the server said that each message is
	messages map[uint64]string        // payloads of OUTCOMES, by sequence
	entries  []settlement.Entry       // of the ledger, in its order
	letters  map[uint64]string        // dead letters that are there, with their origin
	replayed map[uint64]bool          // that somebody began to replay, and that may be gone
	sessions map[string]sessionAtNode // of all outcomes
	missed   []string                 // publications that the runner gave up
	panics   []string                 // lines of the processes' logs
	names    map[string]string        // by address in lower case
}

// sessionAtNode is a session in the node's own books.
type sessionAtNode struct {
	found  bool
	status string
	closes int
	paid   string // "alice usdc 7, bob usdc 8.000001", without zeros
}

// judge reads the evidence.
type judge struct {
	*evidence
	byPayload map[string]*outcome
	bySession map[settlement.SessionID][]*outcome
	results   map[*outcome][]settlement.Entry // closed and failed ones
	wrong     verdict.Disagreements
}

func (e *evidence) disagreements() verdict.Disagreements {
	j := &judge{evidence: e, byPayload: map[string]*outcome{}, bySession: map[settlement.SessionID][]*outcome{}, results: map[*outcome][]settlement.Entry{}}
	for _, o := range e.outcomes {
		j.byPayload[string(o.payload)] = o
		if o.session != "" {
			j.bySession[o.session] = append(j.bySession[o.session], o)
		}
	}
	j.stored()
	j.attribute()
	j.answered()
	for _, o := range e.outcomes {
		j.outcome(o)
	}
	for id, rivals := range j.bySession {
		j.session(id, rivals)
	}
	j.deadLetters()
	j.Judge(&j.wrong)
	for _, line := range j.panics {
		j.found("panic", "%s", line)
	}
	slices.SortFunc(j.wrong, func(a, b verdict.Disagreement) int { return strings.Compare(a.Law+a.Text, b.Law+b.Text) })
	return j.wrong
}

func (j *judge) found(law, format string, args ...any) {
	j.wrong.Found(law, format, args...)
}

// stored: what the servers acknowledged is there, and nothing else is.
func (j *judge) stored() {
	for sequence, o := range j.acked {
		if j.messages[sequence] != string(o.payload) {
			j.found(verdict.Lost, "%s was acknowledged as message %d, which is not there", o, sequence)
		}
	}
	for sequence, payload := range j.messages {
		if j.byPayload[payload] == nil {
			j.found("stranger", "message %d was never published: %.80q", sequence, payload)
		}
	}
	for _, text := range j.missed {
		j.found("not published", "%s", text)
	}
}

// attribute finds each result's outcome by the message that it names.
func (j *judge) attribute() {
	for _, e := range j.entries {
		if e.State == settlement.EntryClosing {
			continue
		}
		o := j.byPayload[j.messages[e.Outcome.Sequence]]
		switch {
		case o == nil:
			j.found("stranger", "entry %d is of message %d, which nobody published", e.Sequence, e.Outcome.Sequence)
			continue
		case e.Session != o.session || o.session != "" && (e.Outcome.ID != o.id || e.Outcome.Source != o.source):
			j.found("stranger", "entry %d says %s of %s, session %s; its message is %s, session %s", e.Sequence, e.Outcome.ID, e.Outcome.Source, e.Session, o, o.session)
		}
		j.results[o] = append(j.results[o], e)
	}
}

// answered: every message has its result, its own or a later one of its outcome.
func (j *judge) answered() {
	for sequence, payload := range j.messages {
		o := j.byPayload[payload]
		if o != nil && !slices.ContainsFunc(j.results[o], func(e settlement.Entry) bool {
			return e.State == settlement.EntryClosed || e.Outcome.Sequence >= sequence
		}) {
			j.found(verdict.Lost, "message %d, %s, has no result", sequence, o)
		}
	}
}

// outcome holds each result of an outcome to what may become of it.
func (j *judge) outcome(o *outcome) {
	var closed int
	failed := map[uint64]int{}
	for _, e := range j.results[o] {
		switch {
		case closed > 0:
			j.found(verdict.Twice, "%s has entry %d after it was closed", o, e.Sequence)
		case e.State == settlement.EntryClosed && o.paid == "":
			j.found("wrong result", "%s was closed (entry %d); it must fail with %v", o, e.Sequence, o.codes)
		case e.State == settlement.EntryFailed && (e.Error == nil || !slices.Contains(o.codes, e.Error.Code)):
			j.found("wrong result", "%s failed (entry %d) with %v; it may fail with %v", o, e.Sequence, e.Error, o.codes)
		}
		if e.State == settlement.EntryClosed {
			closed++
			continue
		}
		failed[e.Outcome.Sequence]++
		// What belongs to no session is appended without expectation, and a
		// redelivery after the duplicate window may store it twice.
		if failed[e.Outcome.Sequence] == 2 && o.session != "" {
			j.found(verdict.Twice, "%s failed twice as message %d (entry %d)", o, e.Outcome.Sequence, e.Sequence)
		}
	}
}

// session: one of the rivals closed it, where one could, and the node paid what
// that one's scenario says, once.
func (j *judge) session(id settlement.SessionID, rivals []*outcome) {
	var closed []settlement.Entry
	var winner *outcome
	possible := false
	for _, o := range rivals {
		possible = possible || o.paid != ""
		for _, e := range j.results[o] {
			if e.State == settlement.EntryClosed {
				closed, winner = append(closed, e), o
			}
		}
	}
	node := j.sessions[string(id)]
	switch {
	case len(closed) > 1:
		j.found(verdict.Twice, "session %s has %d closed entries", id, len(closed))
	case len(closed) == 0 && possible:
		j.found(verdict.Lost, "session %s is not closed, and %s could have closed it", id, rivals[0])
	case len(closed) == 0 && (node.status == "closed" || node.closes > 0):
		j.found("wrong payment", "session %s is closed at the node, and not in the ledger", id)
	}
	if len(closed) != 1 || winner.paid == "" {
		return
	}
	if node.closes > 1 {
		j.found(verdict.Twice, "session %s was closed %d times at the node", id, node.closes)
	}
	if said := paidText(closed[0].Allocation, j.names); node.status != "closed" || node.paid != winner.paid || said != winner.paid {
		j.found("wrong payment", "session %s (%s): the node is %s and paid %q, the ledger says %q, and %s must pay %q", id, winner, node.status, node.paid, said, winner.scenario, winner.paid)
	}
}

// deadLetters: each failure has its letter, unless it was replayed, and each letter
// its failure.
func (j *judge) deadLetters() {
	told := map[uint64]bool{}
	for _, e := range j.entries {
		if e.State != settlement.EntryFailed {
			continue
		}
		told[e.DeadLetter] = true
		origin, there := j.letters[e.DeadLetter]
		want := fmt.Sprintf("%s/%d", e.Outcome.Stream, e.Outcome.Sequence)
		if there && origin != want || !there && !j.replayed[e.DeadLetter] {
			j.found("dead letter", "entry %d of %s names dead letter %d, which is of %q", e.Sequence, want, e.DeadLetter, origin)
		}
	}
	for sequence, origin := range j.letters {
		if !told[sequence] {
			j.found("dead letter", "dead letter %d, of %s, belongs to no failed entry", sequence, origin)
		}
	}
}
