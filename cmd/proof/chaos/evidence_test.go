package main

import (
	"errors"
	"strings"
	"testing"

	"settled/cmd/proof/verdict"
	"settled/settlement"
)

const (
	sessionA = settlement.SessionID("0x00000000000000000000000000000000000000000000000000000000000000aa")
	sessionB = settlement.SessionID("0x00000000000000000000000000000000000000000000000000000000000000bb")
	alice    = "0x00000000000000000000000000000000000000A1"
	bob      = "0x00000000000000000000000000000000000000B0"
)

// rows reads "bob usdc 7" into an allocation.
func rows(t *testing.T, who, asset, amount string) []settlement.Allocation {
	t.Helper()
	a, err := settlement.ParseAmount(amount)
	if err != nil {
		t.Fatal(err)
	}
	return []settlement.Allocation{{Participant: who, Asset: settlement.Asset(asset), Amount: a}}
}

// good is the evidence of a run in which all is well: A is closed by one of two
// rivals and the other was replayed once, B's only outcome failed, published twice.
func good(t *testing.T) *evidence {
	conflict, invalid := []settlement.Code{settlement.OutcomeConflict}, []settlement.Code{settlement.NotAParticipant}
	winner := &outcome{source: source, id: "1a", scenario: "payment_completed", session: sessionA, payload: []byte("winner"), paid: "bob usdc 7", codes: conflict}
	loser := &outcome{source: source, id: "1b", scenario: "cancellation", session: sessionA, payload: []byte("loser"), paid: "alice usdc 7", codes: conflict}
	bad := &outcome{source: source, id: "2", scenario: "payment_completed", session: sessionB, payload: []byte("bad"), codes: invalid}
	entry := func(sequence uint64, state settlement.EntryState, o *outcome, message uint64) settlement.Entry {
		return settlement.Entry{Sequence: sequence, State: state, Session: o.session, Outcome: settlement.OutcomeRef{Source: o.source, ID: o.id, Stream: "OUTCOMES", Sequence: message}}
	}
	failed := func(sequence uint64, o *outcome, message, letter uint64) settlement.Entry {
		e := entry(sequence, settlement.EntryFailed, o, message)
		e.Error, e.DeadLetter = settlement.Fail(o.codes[0], "as it should"), letter
		return e
	}
	closed := entry(3, settlement.EntryClosed, winner, 1)
	closed.Allocation = rows(t, bob, "usdc", "7")
	return &evidence{
		outcomes: []*outcome{winner, loser, bad},
		acked:    map[uint64]*outcome{1: winner, 2: loser, 3: bad, 4: bad},
		messages: map[uint64]string{1: "winner", 2: "loser", 3: "bad", 4: "bad", 5: "loser"},
		entries: []settlement.Entry{
			entry(1, settlement.EntryClosing, winner, 1), failed(2, loser, 2, 1), closed, failed(4, bad, 4, 2), failed(5, loser, 5, 3),
		},
		letters: map[uint64]string{2: "OUTCOMES/4", 3: "OUTCOMES/5"}, replayed: map[uint64]bool{1: true},
		sessions: map[string]sessionAtNode{string(sessionA): {found: true, status: "closed", closes: 1, paid: "bob usdc 7"}, string(sessionB): {found: true, status: "open"}},
		Whole:    verdict.Whole{InFlight: 1, MayFly: 1}, names: map[string]string{strings.ToLower(alice): "alice", strings.ToLower(bob): "bob"},
	}
}

func TestNothingWrong(t *testing.T) {
	if wrong := good(t).disagreements(); len(wrong) > 0 {
		t.Errorf("found %v", wrong)
	}
}

// TestEachWrongIsFound plants one wrong after the other.
func TestEachWrongIsFound(t *testing.T) {
	drop := func(e *evidence, i int) { e.entries = append(e.entries[:i:i], e.entries[i+1:]...) }
	again := func(e *evidence, i int, sequence uint64) {
		entry := e.entries[i]
		entry.Sequence = sequence
		e.entries = append(e.entries, entry)
	}
	pay := func(e *evidence, paid string, closes int) {
		e.sessions[string(sessionA)] = sessionAtNode{found: true, status: "closed", closes: closes, paid: paid}
	}
	for _, c := range []struct {
		it    string
		plant func(*evidence)
		law   string
		text  string
	}{
		{"an acknowledged message is gone", func(e *evidence) { delete(e.messages, 3) }, verdict.Lost, "message 3"},
		{"another message stands in its place", func(e *evidence) { e.messages[3] = "loser" }, verdict.Lost, "message 3"},
		{"a message of nobody", func(e *evidence) { e.messages[6] = "who?" }, "stranger", "message 6"},
		{"an entry of nobody", func(e *evidence) { e.entries[1].Outcome.Sequence = 77 }, "stranger", "entry 2"},
		{"an entry under another id", func(e *evidence) { e.entries[1].Outcome.ID = "1a" }, "stranger", "entry 2"},
		{"an entry of another session", func(e *evidence) { e.entries[1].Session = sessionB }, "stranger", "entry 2"},
		{"no result at all", func(e *evidence) { drop(e, 3) }, verdict.Lost, "message 3"},
		{"no result of a replay", func(e *evidence) { drop(e, 4); delete(e.letters, 3) }, verdict.Lost, "message 5"},
		{"no close", func(e *evidence) { drop(e, 2) }, verdict.Lost, "is not closed"},
		{"two closes in the ledger", func(e *evidence) { again(e, 2, 6) }, verdict.Twice, "2 closed entries"},
		{"two rivals closed", func(e *evidence) { e.entries[4].State = settlement.EntryClosed }, verdict.Twice, "2 closed entries"},
		{"failed after it closed", func(e *evidence) {
			again(e, 1, 6)
			e.entries[5].Outcome = e.entries[2].Outcome
		}, verdict.Twice, "after it was closed"},
		{"failed twice as one message", func(e *evidence) { again(e, 3, 6) }, verdict.Twice, "failed twice"},
		{"two closes at the node", func(e *evidence) { pay(e, "bob usdc 7", 2) }, verdict.Twice, "2 times at the node"},
		{"closed what must fail", func(e *evidence) { e.entries[3].State = settlement.EntryClosed }, "wrong result", "must fail"},
		{"failed with another code", func(e *evidence) { e.entries[3].Error = settlement.Fail(settlement.AttemptsExhausted, "") }, "wrong result", "attempts_exhausted"},
		{"failed without a code", func(e *evidence) { e.entries[3].Error = nil }, "wrong result", "may fail"},
		{"the node paid somebody else", func(e *evidence) { pay(e, "alice usdc 7", 1) }, "wrong payment", "alice usdc 7"},
		{"the node paid less", func(e *evidence) { pay(e, "bob usdc 6.999999", 1) }, "wrong payment", "6.999999"},
		{"the ledger says another payment", func(e *evidence) { e.entries[2].Allocation[0].Participant = alice }, "wrong payment", "alice usdc 7"},
		{"closed in the ledger only", func(e *evidence) { e.sessions[string(sessionA)] = sessionAtNode{found: true, status: "open"} }, "wrong payment", "node is open"},
		{"closed at the node only", func(e *evidence) {
			e.sessions[string(sessionB)] = sessionAtNode{found: true, status: "closed", closes: 1}
		}, "wrong payment", "not in the ledger"},
		{"a failure without its dead letter", func(e *evidence) { delete(e.letters, 2) }, "dead letter", "entry 4"},
		{"a failure with another's dead letter", func(e *evidence) { e.letters[2] = "OUTCOMES/1" }, "dead letter", "entry 4"},
		{"a dead letter without a failure", func(e *evidence) { e.letters[9] = "OUTCOMES/1" }, "dead letter", "dead letter 9"},
		{"the node's books don't balance", func(e *evidence) { e.Books = errors.New("created 7 usdc") }, "books", "created 7"},
		{"two closes in flight", func(e *evidence) { e.InFlight = 2 }, "in flight", "2 closes"},
		{"a broken chain", func(e *evidence) { e.Findings = []string{"previous is wrong"} }, "ledger", "previous"},
		{"settled stopped itself", func(e *evidence) { e.Stops = 1 }, "stop", "1 times"},
		{"a panic", func(e *evidence) { e.panics = []string{"panic: nil"} }, "panic", "nil"},
		{"an outcome never published", func(e *evidence) { e.missed = []string{"outcome 3"} }, "not published", "outcome 3"},
	} {
		e := good(t)
		c.plant(e)
		found := false
		for _, d := range e.disagreements() {
			found = found || d.Law == c.law && strings.Contains(d.Text, c.text)
		}
		if !found {
			t.Errorf("%s: want %s with %q, found %v", c.it, c.law, c.text, e.disagreements())
		}
	}
}

// Where versions fence any number of closes may be in flight; what belongs to no
// session may be stored twice.
func TestWhatIsAllowed(t *testing.T) {
	e := good(t)
	e.InFlight, e.MayFly = 3, verdict.MayFly("nitronode/v1")
	o := &outcome{source: source, id: "3", payload: []byte("garbage"), codes: []settlement.Code{settlement.InvalidOutcome}}
	e.outcomes, e.messages[6] = append(e.outcomes, o), "garbage"
	for sequence := uint64(6); sequence < 8; sequence++ {
		e.entries = append(e.entries, settlement.Entry{
			Sequence: sequence, State: settlement.EntryFailed, Error: settlement.Fail(settlement.InvalidOutcome, "no event"), DeadLetter: 4,
			Outcome: settlement.OutcomeRef{ID: "unknown/6", Stream: "OUTCOMES", Sequence: 6},
		})
	}
	e.letters[4] = "OUTCOMES/6"
	if wrong := e.disagreements(); len(wrong) > 0 {
		t.Errorf("found %v", wrong)
	}
}
