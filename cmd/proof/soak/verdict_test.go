package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/shopspring/decimal"

	"settled/cmd/proof/verdict"
	"settled/settlement"
)

const session = settlement.SessionID("0x00000000000000000000000000000000000000000000000000000000000000aa")

// good is the evidence of a run in which all went well: one outcome closed, its
// rival came too late, and garbage.
func good(t *testing.T) *evidence {
	t.Helper()
	p := pairOf(0)
	winner := &outcome{id: "1", scenario: "payment_completed", session: session, pair: p, paid: paid["payment_completed"]}
	rival := &outcome{id: "1-bad", scenario: "cancellation", session: session, pair: p, code: settlement.OutcomeConflict}
	garbage := &outcome{id: "2-bad", code: settlement.InvalidOutcome}
	amount, err := settlement.ParseAmount("15.000001")
	if err != nil {
		t.Fatal(err)
	}
	entry := func(sequence uint64, o *outcome, message uint64, state settlement.EntryState, code settlement.Code) settlement.Entry {
		e := settlement.Entry{Sequence: sequence, State: state, Session: o.session, Outcome: settlement.OutcomeRef{ID: o.id, Source: source, Sequence: message}}
		if code != "" {
			e.Error = settlement.Fail(code, "")
		}
		return e
	}
	closed := entry(1, winner, 1, settlement.EntryClosed, "")
	closed.Allocation = []settlement.Allocation{{Participant: p.alice}, {Participant: p.bob, Asset: "usdc", Amount: amount}}
	return &evidence{
		outcomes: []*outcome{winner, rival, garbage},
		acked:    map[uint64]*outcome{1: winner, 2: winner, 3: rival, 4: garbage}, stored: 4,
		entries: []settlement.Entry{closed, entry(2, rival, 3, settlement.EntryFailed, rival.code), entry(3, garbage, 4, settlement.EntryFailed, garbage.code)},
		letters: 2, Whole: verdict.Whole{InFlight: 1, MayFly: 1},
		sessions: map[settlement.SessionID]atNode{session: {closes: 1, paid: []payment{{p.bob, "15.000001"}}}},
	}
}

func TestNothingWrong(t *testing.T) {
	if wrong := good(t).disagreements(); len(wrong) > 0 {
		t.Errorf("found %v", wrong)
	}
}

// TestEachWrongIsFound plants one wrong after the other.
func TestEachWrongIsFound(t *testing.T) {
	for _, c := range []struct {
		it    string
		plant func(*evidence)
		law   string
		text  string
	}{
		{"a message is gone", func(e *evidence) { e.stored-- }, "stored", "3 are stored"},
		{"a message too many", func(e *evidence) { e.stored++ }, "stored", "5 are stored"},
		{"no result", func(e *evidence) { e.entries = e.entries[:2] }, verdict.Lost, "outcome 2-bad"},
		{"no close", func(e *evidence) { e.sessions[session] = atNode{} }, verdict.Lost, "not closed at the node"},
		{"no session", func(e *evidence) { delete(e.sessions, session) }, verdict.Lost, "not closed at the node"},
		{"two results", func(e *evidence) { e.entries = append(e.entries, e.entries[0]) }, verdict.Twice, "outcome 1 has 2 results"},
		{"paid twice", func(e *evidence) { s := e.sessions[session]; s.closes = 2; e.sessions[session] = s }, verdict.Twice, "closed 2 times"},
		{"failed what must close", func(e *evidence) { e.entries[0].State = settlement.EntryFailed }, "wrong result", "outcome 1 failed"},
		{"closed what must fail", func(e *evidence) { e.entries[1].State = settlement.EntryClosed }, "wrong result", "must fail with outcome_conflict"},
		{"another code", func(e *evidence) { e.entries[2].Error = settlement.Fail(settlement.AttemptsExhausted, "") }, "wrong result", "must fail with invalid_outcome"},
		{"no code", func(e *evidence) { e.entries[2].Error = nil }, "wrong result", "must fail"},
		{"the node paid somebody else", func(e *evidence) { e.sessions[session].paid[0].to = pairOf(0).alice }, "wrong payment", "alice 15.000001"},
		{"the node paid a stranger", func(e *evidence) { e.sessions[session].paid[0].to = "0xdead" }, "wrong payment", "0xdead 15.000001"},
		{"the node paid less", func(e *evidence) { e.sessions[session].paid[0].amount = "15" }, "wrong payment", "bob 15"},
		{"the ledger says another payment", func(e *evidence) { e.entries[0].Allocation[1].Participant = pairOf(0).alice }, "wrong payment", "entry 1 says"},
		{"an entry of nobody", func(e *evidence) { e.entries[1].Outcome.Sequence = 77 }, "stranger", "message 77"},
		{"an entry under another id", func(e *evidence) { e.entries[1].Outcome.ID = "x" }, "stranger", "outcome x"},
		{"an entry of another session", func(e *evidence) { e.entries[1].Session = "0x11" }, "stranger", "session 0x11"},
		{"a dead letter is missing", func(e *evidence) { e.letters-- }, "dead letter", "1 dead letters"},
		{"a dead letter too many", func(e *evidence) { e.letters++ }, "dead letter", "3 dead letters"},
		{"the node's books", func(e *evidence) { e.Books = errors.New("created 7 usdc") }, "books", "created 7"},
		{"two closes in flight", func(e *evidence) { e.InFlight = 2 }, "in flight", "2 closes"},
		{"a broken chain", func(e *evidence) { e.Findings = []string{"previous is wrong"} }, "ledger", "previous"},
		{"settled stopped itself", func(e *evidence) { e.Stops = 1 }, "stop", "1 times"},
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

// Every scenario pays out what was put in.
func TestScenariosPayEverything(t *testing.T) {
	in := decimal.RequireFromString(fromAlice).Add(decimal.RequireFromString(fromBob))
	for _, scenario := range scenarios {
		out := decimal.Zero
		for _, row := range strings.Split(paid[scenario], ", ") {
			_, amount, _ := strings.Cut(row, " ")
			out = out.Add(decimal.RequireFromString(amount))
		}
		if !out.Equal(in) {
			t.Errorf("%s pays %s of %s", scenario, out, in)
		}
	}
}
