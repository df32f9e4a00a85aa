package clearnode_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"settled/clearnode"
	"settled/clearnode/clearnodetest"
	"settled/settlement"
)

// fakeLedger is one session's ledger in memory. It stores an entry only behind the
// head that its writer saw.
type fakeLedger struct {
	t       *testing.T
	entries []settlement.Entry
	letters int
}

func (l *fakeLedger) Head(_ context.Context, id settlement.SessionID) (settlement.Head, error) {
	h := settlement.Head{Session: id}
	if n := len(l.entries); n > 0 {
		h.Last, h.Entries = &l.entries[n-1], l.entries[:n:n]
	}
	return h, nil
}

func (l *fakeLedger) Append(ctx context.Context, h settlement.Head, e settlement.Entry) (settlement.Head, error) {
	if h.Sequence() != uint64(len(l.entries)) {
		return settlement.Head{}, settlement.ErrHeadMoved
	}
	if e.State == settlement.EntryFailed && l.letters == 0 {
		l.t.Error("failed is recorded before its dead letter")
	}
	e.Sequence, e.N, e.Time = uint64(len(l.entries)+1), uint64(len(l.entries)+1), time.Now()
	l.entries = append(l.entries, e)
	return l.Head(ctx, h.Session)
}

func (l *fakeLedger) Store(context.Context, settlement.Outcome, settlement.Failure, int) (uint64, error) {
	l.letters++
	return 1, nil
}

// Stopped and Stop make it a brake that nobody pulls.
func (l *fakeLedger) Stopped(context.Context) error { return nil }

func (l *fakeLedger) Stop(_ context.Context, _ settlement.Outcome, f settlement.Failure) error {
	l.t.Errorf("stopped: %s", f.Message)
	return nil
}

// story is what the ledger says happened.
func (l *fakeLedger) story() string {
	states := make([]string, len(l.entries))
	for i, e := range l.entries {
		states[i] = string(e.State)
		if e.Error != nil {
			states[i] += " " + string(e.Error.Code)
		}
		if e.Recovered != nil && *e.Recovered {
			states[i] += " recovered"
		}
	}
	return strings.Join(states, ", ")
}

func settlerOf(c *clearnode.Client, l *fakeLedger) settlement.Settler {
	return settlement.Settler{Node: c, Ledger: l, DeadLetters: l, EmergencyStop: l, Policies: settlement.BuiltIn(), MaxAttempts: 3, FenceMargin: 20 * time.Second}
}

// outcomeOf is an outcome as an upstream service publishes it.
func outcomeOf(t *testing.T, scenario string, id settlement.SessionID, more string) settlement.Outcome {
	t.Helper()
	o, err := settlement.ParseOutcome(settlement.Envelope{
		Subject: "outcome." + scenario, Type: "outcome." + scenario, Source: "/test", ID: string(id), Stream: "OUTCOMES", Sequence: 1,
		Data: []byte(`{"session_id":"` + string(id) + `"` + more + `}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

const stated = `,"expect":{"totals":[{"asset":"usdc","amount":"15"}]}`

// TestLegacyScenarios: the five built-in scenarios end to end. What the node hides,
// the outcome says.
func TestLegacyScenarios(t *testing.T) {
	n := startLegacy(t, clearnodetest.LegacyBuild{})
	c := ready(t, config(n.URL()))
	for _, tc := range []struct{ scenario, says, paid, story string }{
		{"payment_completed", stated + `,"parties":{"provider":"` + playerB + `"}`, "A 0 B 15 judge 0", "closing, closed"},
		{"game_completed", stated + `,"parties":{"winner":["` + playerA + `","` + strings.ToLower(playerB) + `"]}`, "A 7.5 B 7.5 judge 0", "closing, closed"},
		{"partial_service", stated + `,"completion":"0.3","parties":{"provider":"` + playerB + `","funder":"` + playerA + `"}`, "A 10.5 B 4.5 judge 0", "closing, closed"},
		{"cancellation", stated + `,"parties":{"funder":"` + playerA + `"}`, "A 15 B 0 judge 0", "closing, closed"},
		{"dispute_resolved", stated + `,"awards":[{"participant":"` + playerA + `","asset":"usdc","amount":"4"},{"participant":"` + playerB + `","asset":"usdc","amount":"11"}]`, "A 4 B 11 judge 0", "closing, closed"},
		{"payment_completed", `,"parties":{"provider":"` + playerB + `"}`, "", "failed invalid_outcome"},
		{"cancellation", stated, "", "failed invalid_outcome"},
		{"payment_completed", `,"expect":{"totals":[{"asset":"usdc","amount":"14"}]},"parties":{"provider":"` + playerB + `"}`, "", "closing, failed allocation_rejected"},
		{"payment_completed", stated + `,"session_data":"x","parties":{"provider":"` + playerB + `"}`, "", "failed invalid_outcome"},
	} {
		id, l := legacyDuel(t, n), &fakeLedger{t: t}
		s := settlerOf(c, l)
		_, err := s.Settle(t.Context(), outcomeOf(t, tc.scenario, id, tc.says))
		if l.story() != tc.story || (err == nil) != (tc.paid != "") {
			t.Errorf("%s%s: %s, %v", tc.scenario, tc.says, l.story(), err)
		}
		if got := paidBy(n, id); got != tc.paid {
			t.Errorf("%s: paid %q, want %q", tc.scenario, got, tc.paid)
		}
		wantEvidence(t, l)
	}
	wantChecked(t, n)
}

// paidBy is what the node paid out of a session.
func paidBy(n *clearnodetest.Node, id settlement.SessionID) string {
	var rows []string
	s, _ := n.Session(string(id))
	for _, a := range s.Payouts {
		rows = append(rows, fmt.Sprintf("%s %s", name(mustAddress(a.Participant)), a.Amount))
	}
	return strings.Join(rows, " ")
}

func wantEvidence(t *testing.T, l *fakeLedger) {
	t.Helper()
	for _, e := range l.entries {
		if e.State != settlement.EntryClosed {
			continue
		}
		if e.Node == nil {
			t.Error("closed without evidence")
		} else if err := clearnode.VerifyAnswer(*e.Node); err != nil {
			t.Error(err)
		}
	}
}

// TestLegacyLostAnswer: a close whose answer was lost is found closed, by whoever
// reads it next, and not sent again.
func TestLegacyLostAnswer(t *testing.T) {
	for _, kind := range []clearnodetest.FaultKind{clearnodetest.CutAfter, clearnodetest.WrongSignature, clearnodetest.Garbage} {
		n := startLegacy(t, clearnodetest.LegacyBuild{})
		cfg := config(n.URL())
		cfg.RequestTimeout = time.Second
		c := ready(t, cfg)
		id, l := legacyDuel(t, n), &fakeLedger{t: t}
		s := settlerOf(c, l)
		o := outcomeOf(t, "game_completed", id, stated+`,"parties":{"winner":["`+playerA+`","`+playerB+`"]}`)
		n.Inject(clearnodetest.Fault{Method: "close_app_session", Kind: kind})
		_, err := s.Settle(t.Context(), o)
		var w *settlement.Waiting
		if !errors.As(err, &w) || l.story() != "closing" {
			t.Errorf("%d: %s, %v", kind, l.story(), err)
		}
		_ = waitReady(t, c, true)
		if _, err := s.Settle(t.Context(), o); err != nil || l.story() != "closing, closed recovered" {
			t.Errorf("%d: %s, %v", kind, l.story(), err)
		}
		if n.Requests("close_app_session") != 1 {
			t.Errorf("%d: %d closes were sent", kind, n.Requests("close_app_session"))
		}
		wantEvidence(t, l)
		wantChecked(t, n)
	}
}

// TestLegacyClosedElsewhere: a session that another party closed is nobody's
// success, for nothing shows what it paid.
func TestLegacyClosedElsewhere(t *testing.T) {
	n := startLegacy(t, clearnodetest.LegacyBuild{})
	c := ready(t, config(n.URL()))
	id, l := legacyDuel(t, n), &fakeLedger{t: t}
	if _, err := c.Send(t.Context(), prepareLegacy(t, c, id)); err != nil {
		t.Fatal(err)
	}
	s := settlerOf(c, l)
	_, err := s.Settle(t.Context(), outcomeOf(t, "cancellation", id, stated+`,"parties":{"funder":"`+playerA+`"}`))
	var f *settlement.Failed
	if !errors.As(err, &f) || l.story() != "failed closed_elsewhere" {
		t.Errorf("%s, %v", l.story(), err)
	}
}
