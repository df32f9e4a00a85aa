package verdict

import (
	"fmt"
	"slices"
	"strings"

	"settled/cmd/proof/record"
	"settled/cmd/proof/workload"
	"settled/settlement"
)

// Evidence is what remains of a run. The verdict is computed from it alone.
type Evidence struct {
	// From the publisher.
	Outcomes    []*workload.Outcome
	Acked       map[uint64]*workload.Outcome // by the sequence that the server acknowledged
	Unpublished []string                     // outcomes that it gave up
	Replayed    map[uint64]bool              // dead letters whose replay was begun; they may be gone
	Faultless   bool                         // no fault was injected, so that nothing may be stored twice

	// From the streams.
	Messages       map[uint64]string  // payloads in OUTCOMES, by sequence
	Entries        []settlement.Entry // closed and failed ones, in the order of the ledger
	Intents        int                // closing entries
	LedgerFindings []string           // of `ledger verify`
	DeadLetters    map[uint64]string  // origins, by sequence
	Stops          uint64             // how often settled stopped itself because of an overpayment

	// From the node.
	Sessions        map[settlement.SessionID]NodeSession
	Books           error  // what is wrong with the node's books
	ClosesInFlight  int    // the most closes of one session that were at work at once
	BusiestSession  string // that session
	ConcurrentClose bool   // closes may be at work at once, because the node's version check lets one of them win

	// From the logs.
	Panics []string
}

// NodeSession is a session in the node's own books.
type NodeSession struct {
	Status  string
	Closes  int
	Payouts []Payout
}

// Payout is an amount that a participant got.
type Payout struct{ Participant, Asset, Amount string }

// judge computes the verdict.
type judge struct {
	*Evidence
	byPayload map[string]*workload.Outcome
	results   map[*workload.Outcome][]settlement.Entry // closed and failed ones
	found     record.Disagreements
}

// Disagreements returns every breach of a law, sorted.
func (e *Evidence) Disagreements() record.Disagreements {
	j := &judge{Evidence: e, byPayload: map[string]*workload.Outcome{}, results: map[*workload.Outcome][]settlement.Entry{}}
	rivals := map[settlement.SessionID][]*workload.Outcome{}
	for _, o := range e.Outcomes {
		j.byPayload[string(o.Payload)] = o
		if o.Session != "" {
			rivals[o.Session] = append(rivals[o.Session], o)
		}
	}
	j.checkMessages()
	j.attributeEntries()
	j.checkAnswered()
	for _, o := range e.Outcomes {
		j.checkResults(o)
	}
	for id, outcomes := range rivals {
		j.checkSession(id, outcomes)
	}
	j.checkDeadLetters()
	j.checkWhole()
	slices.SortFunc(j.found, func(a, b record.Disagreement) int { return strings.Compare(a.Law+a.Text, b.Law+b.Text) })
	return j.found
}

// checkMessages: every acknowledged message is stored, and nothing else.
func (j *judge) checkMessages() {
	for sequence, o := range j.Acked {
		if j.Messages[sequence] != string(o.Payload) {
			j.found.Add(Lost, "%s was acknowledged as message %d, which is not there", o, sequence)
		}
	}
	for sequence, payload := range j.Messages {
		if j.byPayload[payload] == nil {
			j.found.Add("unknown", "message %d was never published: %.80q", sequence, payload)
		}
	}
	if j.Faultless && len(j.Acked) != len(j.Messages) {
		j.found.Add("stored", "%d messages were acknowledged, and %d are stored", len(j.Acked), len(j.Messages))
	}
	for _, text := range j.Unpublished {
		j.found.Add("not published", "%s", text)
	}
}

// attributeEntries finds each result's outcome by the message that the entry names.
func (j *judge) attributeEntries() {
	for _, e := range j.Entries {
		o := j.byPayload[j.Messages[e.Outcome.Sequence]]
		switch {
		case o == nil:
			j.found.Add("unknown", "entry %d is of message %d, which nobody published", e.Sequence, e.Outcome.Sequence)
			continue
		case e.Session != o.Session || o.Session != "" && (e.Outcome.ID != o.ID || e.Outcome.Source != workload.Source):
			j.found.Add("unknown", "entry %d says %s of %s, session %s; its message is %s, session %s", e.Sequence, e.Outcome.ID, e.Outcome.Source, e.Session, o, o.Session)
		}
		j.results[o] = append(j.results[o], e)
	}
}

// checkAnswered: every message has its own result, or one of a later message of its
// outcome, or its outcome is closed.
func (j *judge) checkAnswered() {
	for sequence, payload := range j.Messages {
		o := j.byPayload[payload]
		if o != nil && !slices.ContainsFunc(j.results[o], func(e settlement.Entry) bool {
			return e.State == settlement.EntryClosed || e.Outcome.Sequence >= sequence
		}) {
			j.found.Add(Lost, "message %d, %s, has no result", sequence, o)
		}
	}
}

// checkResults: an outcome has only results that it may have, and each once.
func (j *judge) checkResults(o *workload.Outcome) {
	closed := false
	failed := map[uint64]int{}
	for _, e := range j.results[o] {
		switch {
		case closed:
			j.found.Add(Twice, "%s has entry %d after it was closed", o, e.Sequence)
		case e.State == settlement.EntryClosed && o.Paid == "":
			j.found.Add("wrong result", "%s was closed (entry %d); it must fail with %v", o, e.Sequence, o.Codes)
		case e.State == settlement.EntryFailed && (e.Error == nil || !slices.Contains(o.Codes, e.Error.Code)):
			j.found.Add("wrong result", "%s failed (entry %d) with %v; it may fail with %v", o, e.Sequence, e.Error, o.Codes)
		}
		if e.State == settlement.EntryClosed {
			closed = true
			continue
		}
		failed[e.Outcome.Sequence]++
		// The failure of an outcome without a session is appended without an expected
		// sequence. A redelivery after the duplicate window may store it twice.
		if failed[e.Outcome.Sequence] == 2 && (o.Session != "" || j.Faultless) {
			j.found.Add(Twice, "%s failed twice as message %d (entry %d)", o, e.Outcome.Sequence, e.Sequence)
		}
	}
}

// checkSession: if one of the session's outcomes can close it, exactly one did, and
// both the node and the ledger paid what its scenario says, once.
func (j *judge) checkSession(id settlement.SessionID, rivals []*workload.Outcome) {
	var closed []settlement.Entry
	var winner *workload.Outcome
	closable := false
	for _, o := range rivals {
		closable = closable || o.Paid != ""
		for _, e := range j.results[o] {
			if e.State == settlement.EntryClosed {
				closed, winner = append(closed, e), o
			}
		}
	}
	node := j.Sessions[id]
	switch {
	case len(closed) > 1:
		j.found.Add(Twice, "session %s has %d closed entries", id, len(closed))
	case len(closed) == 0 && closable:
		j.found.Add(Lost, "session %s is not closed, and %s could have closed it", id, rivals[0])
	case len(closed) == 0 && (node.Status == "closed" || node.Closes > 0):
		j.found.Add("wrong payment", "session %s is closed at the node, and not in the ledger", id)
	}
	if node.Closes > 1 {
		j.found.Add(Twice, "session %s was closed %d times at the node", id, node.Closes)
	}
	if len(closed) != 1 || winner.Paid == "" {
		return
	}
	recorded := make([]Payout, len(closed[0].Allocation))
	for i, a := range closed[0].Allocation {
		recorded[i] = Payout{a.Participant, string(a.Asset), a.Amount.String()}
	}
	paid, inLedger := formatPayouts(node.Payouts, winner.Pair), formatPayouts(recorded, winner.Pair)
	if node.Status != "closed" || paid != winner.Paid || inLedger != winner.Paid {
		j.found.Add("wrong payment", "session %s: the node's status is %s and it paid %q, the ledger says %q, and %s must pay %q", id, node.Status, paid, inLedger, winner, winner.Paid)
	}
}

// formatPayouts writes payouts like the tables of workload. Only the two players have
// names.
func formatPayouts(payouts []Payout, p workload.Pair) string {
	names := map[string]string{strings.ToLower(p.Alice): "alice", strings.ToLower(p.Bob): "bob"}
	var rows []string
	for _, payout := range payouts {
		name := names[strings.ToLower(payout.Participant)]
		if name == "" {
			name = payout.Participant
		}
		if payout.Amount != "0" {
			rows = append(rows, name+" "+payout.Asset+" "+payout.Amount)
		}
	}
	slices.Sort(rows)
	return strings.Join(rows, ", ")
}

// checkDeadLetters: each failure has its dead letter, unless that was replayed, and
// each dead letter its failure.
func (j *judge) checkDeadLetters() {
	named := map[uint64]bool{}
	for _, e := range j.Entries {
		if e.State != settlement.EntryFailed {
			continue
		}
		named[e.DeadLetter] = true
		origin, exists := j.DeadLetters[e.DeadLetter]
		want := fmt.Sprintf("%s/%d", e.Outcome.Stream, e.Outcome.Sequence)
		if exists && origin != want || !exists && !j.Replayed[e.DeadLetter] {
			j.found.Add("dead letter", "entry %d of %s names dead letter %d, which is of %q", e.Sequence, want, e.DeadLetter, origin)
		}
	}
	for sequence, origin := range j.DeadLetters {
		if !named[sequence] {
			j.found.Add("dead letter", "dead letter %d, of %s, belongs to no failed entry", sequence, origin)
		}
	}
}

// checkWhole: the laws about all sessions together.
func (j *judge) checkWhole() {
	if j.Books != nil {
		j.found.Add("books", "%s", j.Books)
	}
	if j.ClosesInFlight > 1 && !j.ConcurrentClose {
		j.found.Add("in flight", "%d closes of session %s were in flight at once", j.ClosesInFlight, j.BusiestSession)
	}
	for _, finding := range j.LedgerFindings {
		j.found.Add("ledger", "%s", finding)
	}
	if j.Stops > 0 {
		j.found.Add("stop", "settled stopped itself %d times because of an overpayment", j.Stops)
	}
	for _, line := range j.Panics {
		j.found.Add("panic", "%s", line)
	}
}
