package verdict

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"settled/cmd/proof/record"
	"settled/cmd/proof/workload"
	"settled/settlement"
)

const (
	sessionA = settlement.SessionID("0x00000000000000000000000000000000000000000000000000000000000000aa")
	sessionB = settlement.SessionID("0x00000000000000000000000000000000000000000000000000000000000000bb")
)

// correct is the evidence of a correct run. Session A was closed by one of two rivals,
// whose other was replayed once. B's only outcome failed, and was published twice.
func correct(t *testing.T) *Evidence {
	t.Helper()
	pair := workload.PairOf(0)
	conflict := []settlement.Code{settlement.OutcomeConflict}
	winner := &workload.Outcome{ID: "1a", Scenario: "payment_completed", Session: sessionA, Pair: pair, Payload: []byte("winner"), Paid: "bob usdc 7", Codes: conflict}
	loser := &workload.Outcome{ID: "1b", Scenario: "cancellation", Session: sessionA, Pair: pair, Payload: []byte("loser"), Paid: "alice usdc 7", Codes: conflict}
	invalid := &workload.Outcome{ID: "2", Scenario: "payment_completed", Session: sessionB, Pair: pair, Payload: []byte("invalid"), Codes: []settlement.Code{settlement.NotAParticipant}}
	entry := func(sequence uint64, state settlement.EntryState, o *workload.Outcome, message uint64) settlement.Entry {
		return settlement.Entry{Sequence: sequence, State: state, Session: o.Session, Outcome: settlement.OutcomeRef{Source: workload.Source, ID: o.ID, Stream: "OUTCOMES", Sequence: message}}
	}
	failed := func(sequence uint64, o *workload.Outcome, message, deadLetter uint64) settlement.Entry {
		e := entry(sequence, settlement.EntryFailed, o, message)
		e.Error, e.DeadLetter = settlement.Fail(o.Codes[0], "as it should"), deadLetter
		return e
	}
	amount, err := settlement.ParseAmount("7")
	if err != nil {
		t.Fatal(err)
	}
	closed := entry(3, settlement.EntryClosed, winner, 1)
	closed.Allocation = []settlement.Allocation{{Participant: pair.Alice, Asset: "usdc"}, {Participant: pair.Bob, Asset: "usdc", Amount: amount}}
	return &Evidence{
		Outcomes: []*workload.Outcome{winner, loser, invalid},
		Acked:    map[uint64]*workload.Outcome{1: winner, 2: loser, 3: invalid, 4: invalid},
		Messages: map[uint64]string{1: "winner", 2: "loser", 3: "invalid", 4: "invalid", 5: "loser"},
		Entries:  []settlement.Entry{failed(2, loser, 2, 1), closed, failed(4, invalid, 4, 2), failed(5, loser, 5, 3)}, Intents: 1,
		DeadLetters: map[uint64]string{2: "OUTCOMES/4", 3: "OUTCOMES/5"}, Replayed: map[uint64]bool{1: true},
		Sessions: map[settlement.SessionID]NodeSession{
			sessionA: {Status: "closed", Closes: 1, Payouts: []Payout{{pair.Alice, "usdc", "0"}, {strings.ToLower(pair.Bob), "usdc", "7"}}}, sessionB: {Status: "open"},
		},
		ClosesInFlight: 1,
	}
}

func TestCorrectRun(t *testing.T) {
	e := correct(t)
	found := e.Disagreements()
	if len(found) > 0 {
		t.Errorf("found %v", found)
	}
	s := e.Summary(found)
	if s.Outcomes != 3 || s.Messages != 5 || s.Closed != 1 || s.Attempts != 1 || s.Failed[settlement.OutcomeConflict] != 2 || s.Duplicates+s.Losses != 0 {
		t.Errorf("summary %+v", s)
	}
}

// TestEachDisagreementIsFound plants one defect after the other.
func TestEachDisagreementIsFound(t *testing.T) {
	pair := workload.PairOf(0)
	drop := func(e *Evidence, i int) { e.Entries = append(e.Entries[:i:i], e.Entries[i+1:]...) }
	repeat := func(e *Evidence, i int, sequence uint64) {
		entry := e.Entries[i]
		entry.Sequence = sequence
		e.Entries = append(e.Entries, entry)
	}
	pay := func(e *Evidence, to, amount string, closes int) {
		e.Sessions[sessionA] = NodeSession{Status: "closed", Closes: closes, Payouts: []Payout{{to, "usdc", amount}}}
	}
	for _, c := range []struct {
		name  string
		plant func(*Evidence)
		law   string
		text  string
	}{
		{"an acknowledged message is gone", func(e *Evidence) { delete(e.Messages, 3) }, Lost, "message 3"},
		{"another message is in its place", func(e *Evidence) { e.Messages[3] = "loser" }, Lost, "message 3"},
		{"an unknown message", func(e *Evidence) { e.Messages[6] = "who?" }, "unknown", "message 6"},
		{"a message too many without faults", func(e *Evidence) { e.Faultless = true }, "stored", "5 are stored"},
		{"an entry of an unknown message", func(e *Evidence) { e.Entries[0].Outcome.Sequence = 77 }, "unknown", "entry 2"},
		{"an entry under another id", func(e *Evidence) { e.Entries[0].Outcome.ID = "1a" }, "unknown", "entry 2"},
		{"an entry of another source", func(e *Evidence) { e.Entries[0].Outcome.Source = "/x" }, "unknown", "entry 2"},
		{"an entry of another session", func(e *Evidence) { e.Entries[0].Session = sessionB }, "unknown", "entry 2"},
		{"no result", func(e *Evidence) { drop(e, 2) }, Lost, "message 3"},
		{"no result of a replay", func(e *Evidence) { drop(e, 3); delete(e.DeadLetters, 3) }, Lost, "message 5"},
		{"no close", func(e *Evidence) { drop(e, 1) }, Lost, "is not closed"},
		{"two closes in the ledger", func(e *Evidence) { repeat(e, 1, 6) }, Twice, "2 closed entries"},
		{"two rivals closed", func(e *Evidence) { e.Entries[3].State = settlement.EntryClosed }, Twice, "2 closed entries"},
		{"failed after it closed", func(e *Evidence) {
			repeat(e, 0, 6)
			e.Entries[4].Outcome = e.Entries[1].Outcome
		}, Twice, "after it was closed"},
		{"failed twice as one message", func(e *Evidence) { repeat(e, 2, 6) }, Twice, "failed twice"},
		{"two closes at the node", func(e *Evidence) { pay(e, pair.Bob, "7", 2) }, Twice, "2 times at the node"},
		{"closed although it must fail", func(e *Evidence) { e.Entries[2].State = settlement.EntryClosed }, "wrong result", "must fail"},
		{"failed with another code", func(e *Evidence) { e.Entries[2].Error = settlement.Fail(settlement.AttemptsExhausted, "") }, "wrong result", "attempts_exhausted"},
		{"failed without a code", func(e *Evidence) { e.Entries[2].Error = nil }, "wrong result", "may fail"},
		{"failed although it must close", func(e *Evidence) {
			e.Outcomes[0].Codes = nil
			e.Entries[1].State, e.Entries[1].Error = settlement.EntryFailed, settlement.Fail(settlement.OutcomeConflict, "")
		}, "wrong result", "outcome 1a"},
		{"the node paid the other player", func(e *Evidence) { pay(e, pair.Alice, "7", 1) }, "wrong payment", "alice usdc 7"},
		{"the node paid someone else", func(e *Evidence) { pay(e, workload.PairOf(1).Bob, "7", 1) }, "wrong payment", workload.PairOf(1).Bob + " usdc 7"},
		{"the node paid less", func(e *Evidence) { pay(e, pair.Bob, "6.999999", 1) }, "wrong payment", "6.999999"},
		{"the ledger says another payment", func(e *Evidence) { e.Entries[1].Allocation[1].Participant = pair.Alice }, "wrong payment", "alice usdc 7"},
		{"closed only in the ledger", func(e *Evidence) { e.Sessions[sessionA] = NodeSession{Status: "open"} }, "wrong payment", "status is open"},
		{"closed only at the node", func(e *Evidence) { e.Sessions[sessionB] = NodeSession{Status: "closed", Closes: 1} }, "wrong payment", "not in the ledger"},
		{"a session that the node doesn't have", func(e *Evidence) { delete(e.Sessions, sessionA) }, "wrong payment", "must pay"},
		{"a failure without its dead letter", func(e *Evidence) { delete(e.DeadLetters, 2) }, "dead letter", "entry 4"},
		{"a failure with another's dead letter", func(e *Evidence) { e.DeadLetters[2] = "OUTCOMES/1" }, "dead letter", "entry 4"},
		{"a dead letter without a failure", func(e *Evidence) { e.DeadLetters[9] = "OUTCOMES/1" }, "dead letter", "dead letter 9"},
		{"the node's books don't balance", func(e *Evidence) { e.Books = errors.New("created 7 usdc") }, "books", "created 7"},
		{"two closes in flight", func(e *Evidence) { e.ClosesInFlight = 2 }, "in flight", "2 closes"},
		{"a broken chain", func(e *Evidence) { e.LedgerFindings = []string{"previous is wrong"} }, "ledger", "previous"},
		{"settled stopped itself", func(e *Evidence) { e.Stops = 1 }, "stop", "1 times"},
		{"a panic", func(e *Evidence) { e.Panics = []string{"panic: nil"} }, "panic", "nil"},
		{"an outcome that was never published", func(e *Evidence) { e.Unpublished = []string{"outcome 3"} }, "not published", "outcome 3"},
	} {
		e := correct(t)
		c.plant(e)
		found, matches := e.Disagreements(), false
		for _, d := range found {
			matches = matches || d.Law == c.law && strings.Contains(d.Text, c.text)
		}
		if !matches {
			t.Errorf("%s: want %s with %q, found %v", c.name, c.law, c.text, found)
		}
	}
}

// With version checks any number of closes may be in flight. Under faults an outcome
// without a session may be stored twice.
func TestAllowedEvidence(t *testing.T) {
	e := correct(t)
	e.ClosesInFlight, e.ConcurrentClose = 3, true
	e.Outcomes = append(e.Outcomes, &workload.Outcome{ID: "3", Payload: []byte("garbage"), Codes: []settlement.Code{settlement.InvalidOutcome}})
	e.Messages[6], e.DeadLetters[4] = "garbage", "OUTCOMES/6"
	for sequence := uint64(6); sequence < 8; sequence++ {
		e.Entries = append(e.Entries, settlement.Entry{
			Sequence: sequence, State: settlement.EntryFailed, Error: settlement.Fail(settlement.InvalidOutcome, "no event"), DeadLetter: 4,
			Outcome: settlement.OutcomeRef{ID: "unknown/6", Stream: "OUTCOMES", Sequence: 6},
		})
	}
	if found := e.Disagreements(); len(found) > 0 {
		t.Errorf("found %v", found)
	}
	e.Faultless = true
	if found := e.Disagreements(); !slices.ContainsFunc(found, func(d record.Disagreement) bool { return strings.Contains(d.Text, "failed twice as message 6") }) {
		t.Errorf("without faults: found %v", found)
	}
}
