package clearnode_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"settled/clearnode"
	"settled/clearnode/clearnodetest"
	"settled/settlement"
)

// fakeLedger is a ledger and an emergency stop in memory. It stores an entry only after the head that its writer saw.
type fakeLedger struct {
	mu          sync.Mutex
	entries     []settlement.Entry
	deadLetters int
}

func (l *fakeLedger) of(id settlement.SessionID) []settlement.Entry {
	return slices.DeleteFunc(slices.Clone(l.entries), func(e settlement.Entry) bool { return e.Session != id })
}

func (l *fakeLedger) head(id settlement.SessionID) settlement.Head {
	h := settlement.Head{Session: id}
	if all := l.of(id); len(all) > 0 {
		h.Last, h.Entries = &all[len(all)-1], all
	}
	return h
}

func (l *fakeLedger) Head(_ context.Context, id settlement.SessionID) (settlement.Head, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.head(id), nil
}

func (l *fakeLedger) Append(_ context.Context, h settlement.Head, e settlement.Entry) (settlement.Head, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.head(e.Session).Sequence() != h.Sequence() {
		return settlement.Head{}, settlement.ErrHeadMoved
	}
	if e.State == settlement.EntryFailed && l.deadLetters == 0 {
		return settlement.Head{}, errors.New("failed is recorded before its dead letter")
	}
	e.Sequence, e.N, e.Time = uint64(len(l.entries)+1), h.N()+1, time.Now()
	l.entries = append(l.entries, e)
	return l.head(e.Session), nil
}

func (l *fakeLedger) Store(context.Context, settlement.Outcome, settlement.Failure, int) (uint64, error) {
	l.deadLetters++
	return 1, nil
}

func (l *fakeLedger) Stopped(context.Context) error { return nil }

func (l *fakeLedger) Stop(_ context.Context, _ settlement.Outcome, f settlement.Failure) error {
	return errors.New("nothing is paid twice here: " + f.Message)
}

// states are the states of the entries.
func (l *fakeLedger) states() string {
	states := make([]string, len(l.entries))
	for i, e := range l.entries {
		states[i] = string(e.State)
		if e.Error != nil {
			states[i] += " " + string(e.Error.Code)
		}
	}
	return strings.Join(states, ", ")
}

func settlerOf(c settlement.Node, l *fakeLedger) *settlement.Settler {
	return &settlement.Settler{Node: c, Ledger: l, DeadLetters: l, EmergencyStop: l, Policies: settlement.BuiltIn(), MaxAttempts: 8, FenceMargin: 20 * time.Second}
}

// outcomeOf is an outcome as a publisher sends it. More are the members of its data after the session.
func outcomeOf(t testing.TB, scenario string, id settlement.SessionID, more string) settlement.Outcome {
	t.Helper()
	data := []byte(`{"session_id":"` + string(id) + `"` + more + `}`)
	o, err := settlement.ParseOutcome(settlement.Envelope{
		Subject: "outcome." + scenario, Type: "outcome." + scenario, Source: "/test", ID: string(id) + scenario, Data: data, Payload: data, Stream: "OUTCOMES", Sequence: 1,
	})
	must(t, err)
	return o
}

const expected = `,"expect":{"totals":[{"asset":"usdc","amount":"15"}]}`

var (
	provider   = `,"parties":{"provider":"` + playerB + `"}`
	bothWin    = expected + `,"parties":{"winner":["` + playerA + `","` + strings.ToLower(playerB) + `"]}`
	partFunder = `,"parties":{"provider":"` + playerB + `","funder":"` + playerA + `"}`
	partial    = provider + `,"completion":"0.3"`
)

// TestConformScenarios: every built-in scenario, settled over the wire. What the legacy node doesn't show, the outcome says.
func TestConformScenarios(t *testing.T) {
	conform(t, nil, func(t *testing.T, g generation, n *clearnodetest.Node, c *clearnode.Client) {
		type scenario struct {
			name, more, a, b string
			sends            int
		}
		cases := []scenario{
			{"payment_completed", expected + provider, "", "15", 2},
			{"game_completed", bothWin, "7.5", "7.5", 2},
			{"dispute_resolved", expected + `,"awards":[{"participant":"` + playerA + `","asset":"usdc","amount":"14.999999"},{"participant":"` + playerB + `","asset":"usdc","amount":"0.000001"}]`, "14.999999", "0.000001", 2},
		}
		if g.protocol == clearnodetest.Legacy {
			cases = append(cases,
				scenario{"partial_service", expected + partFunder + `,"completion":"0.3"`, "10.5", "4.5", 1},
				scenario{"cancellation", expected + `,"parties":{"funder":"` + playerA + `"}`, "15", "", 1})
		} else {
			cases = append(cases, scenario{"partial_service", partial, "7", "8", 2}, scenario{"cancellation", "", "10", "5", 1})
		}
		for _, tc := range cases {
			id, l := openGame(t, n), &fakeLedger{}
			before := n.Requests(g.method)
			done, err := settlerOf(c, l).Settle(t.Context(), outcomeOf(t, tc.name, id, tc.more))
			if err != nil || l.states() != "closing, closed" || *done.Entry.Recovered {
				t.Errorf("%s: %s, %+v, %v", tc.name, l.states(), done, err)
			}
			wantPaid(t, n, id, tc.a, tc.b)
			wantEvidence(t, l)
			if sent := n.Requests(g.method) - before; sent != min(tc.sends, g.steps) {
				t.Errorf("%s: %d requests", tc.name, sent)
			}
		}
		wantChecked(t, n)
	})
}

// TestLegacyScenariosFail: what the outcome must say for a legacy node.
func TestLegacyScenariosFail(t *testing.T) {
	n, c := startReady(t, clearnodetest.Config{Protocol: clearnodetest.Legacy})
	for _, tc := range []struct{ scenario, more, states string }{
		{"payment_completed", provider, "failed invalid_outcome"},
		{"cancellation", expected, "failed invalid_outcome"},
		{"payment_completed", `,"expect":{"totals":[{"asset":"usdc","amount":"14"}]}` + provider, "closing, failed allocation_rejected"},
		{"payment_completed", expected + `,"session_data":"x"` + provider, "failed invalid_outcome"},
	} {
		id, l := openGame(t, n), &fakeLedger{}
		if _, err := settlerOf(c, l).Settle(t.Context(), outcomeOf(t, tc.scenario, id, tc.more)); l.states() != tc.states || err == nil {
			t.Errorf("%s%s: %s, %v", tc.scenario, tc.more, l.states(), err)
		}
		if s, _ := n.Session(string(id)); len(s.Payouts) != 0 {
			t.Errorf("%s: paid %v", tc.scenario, s.Payouts)
		}
	}
	wantChecked(t, n)
}

// wantPaid: one close paid so much usdc.
func wantPaid(t testing.TB, n *clearnodetest.Node, id settlement.SessionID, a, b string) {
	t.Helper()
	s, _ := n.Session(string(id))
	got := map[string]string{}
	for _, p := range s.Payouts {
		if !p.Amount.IsZero() {
			got[p.Participant] += p.Amount.String()
		}
	}
	if s.Closes != 1 || got[playerA] != a || got[playerB] != b {
		t.Errorf("paid %v by %d closes, want %s and %s", got, s.Closes, a, b)
	}
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

// TestConformSettleInterrupted: a request or its answer is lost. Another settler, with nothing but the ledger, settles the outcome once
// and as recorded.
func TestConformSettleInterrupted(t *testing.T) {
	for _, g := range generations {
		faults := []clearnodetest.FaultKind{clearnodetest.CutAfter, clearnodetest.LoseAnswer, clearnodetest.Garbage, clearnodetest.WrongSignature}
		if g.protocol == clearnodetest.NitronodeV1 { // where a lost request needs no fence period, and nothing is signed
			faults[3] = clearnodetest.LoseRequest
		}
		for _, kind := range faults {
			for step := range g.steps {
				t.Run(fmt.Sprintf("%s, fault %d at request %d", g.protocol, kind, step+1), func(t *testing.T) {
					t.Parallel()
					n := startNode(t, clearnodetest.Config{Protocol: g.protocol, RateLimit: -1})
					cfg := configV1(n)
					cfg.RequestTimeout = time.Second
					id, l := openGame(t, n), &fakeLedger{}
					o := outcomeOf(t, "game_completed", id, bothWin)
					node := &countingNode{Client: ready(t, cfg), before: func(sends int) {
						if sends == step {
							n.Inject(clearnodetest.Fault{Method: g.method, Kind: kind})
						}
					}}
					var w *settlement.Waiting
					if _, err := settlerOf(node, l).Settle(t.Context(), o); !errors.As(err, &w) || l.states() != "closing" {
						t.Fatalf("first: %s, %v", l.states(), err)
					}
					done, err := settlerOf(ready(t, configV1(n)), l).Settle(t.Context(), o)
					if err != nil || l.states() != "closing, closed" || *done.Entry.Recovered != (step == g.steps-1 && kind != clearnodetest.LoseRequest) {
						t.Fatalf("then: %s, %+v, %v", l.states(), done, err)
					}
					if sent := n.Requests(g.method); sent != g.steps {
						t.Errorf("%d requests", sent)
					}
					wantPaid(t, n, id, "7.5", "7.5")
					wantEvidence(t, l)
					wantChecked(t, n)
				})
			}
		}
	}
}

// TestLegacyClosedElsewhere: a session that another party closed is no success, because nothing shows what it paid.
func TestLegacyClosedElsewhere(t *testing.T) {
	n, c := startReady(t, clearnodetest.Config{Protocol: clearnodetest.Legacy})
	id, l := openGame(t, n), &fakeLedger{}
	closeGame(t, c, id)
	_, err := settlerOf(c, l).Settle(t.Context(), outcomeOf(t, "cancellation", id, expected+`,"parties":{"funder":"`+playerA+`"}`))
	var f *settlement.Failed
	if !errors.As(err, &f) || l.states() != "failed closed_elsewhere" {
		t.Errorf("%s, %v", l.states(), err)
	}
}

// countingNode tells how many requests were sent before.
type countingNode struct {
	*clearnode.Client
	sends  int
	before func(sends int)
}

func (c *countingNode) Send(ctx context.Context, r settlement.Request) (settlement.Answer, error) {
	c.before(c.sends)
	c.sends++
	return c.Client.Send(ctx, r)
}

// TestV1SettleStopped: a settler that dies between its two requests, or between
// recording and sending, leaves the rest to the next.
func TestV1SettleStopped(t *testing.T) {
	for stop := range 2 {
		t.Run(fmt.Sprintf("before request %d", stop+1), func(t *testing.T) {
			n, c := readyV1(t)
			id, l := openGame(t, n), &fakeLedger{}
			o := outcomeOf(t, "game_completed", id, `,"parties":{"winner":"`+playerB+`"}`)
			ctx, kill := context.WithCancel(t.Context())
			node := &countingNode{Client: c, before: func(sends int) {
				if sends == stop {
					kill()
				}
			}}
			if _, err := settlerOf(node, l).Settle(ctx, o); err == nil {
				t.Fatal("it was not stopped")
			}
			if done, err := settlerOf(ready(t, configV1(n)), l).Settle(t.Context(), o); err != nil || done.Entry.State != settlement.EntryClosed {
				t.Fatalf("%+v, %v", done, err)
			}
			wantPaid(t, n, id, "", "15")
			if sent := n.Submissions(string(id)); len(sent) != 2 {
				t.Errorf("sent %+v", sent)
			}
			wantChecked(t, n)
		})
	}
}

// TestV1SettleTogether: of many settlers with one ledger each outcome is settled
// once.
func TestV1SettleTogether(t *testing.T) {
	n := startV1(t)
	id, l := openGame(t, n), &fakeLedger{}
	o := outcomeOf(t, "game_completed", id, `,"parties":{"winner":"`+playerB+`"}`)
	var all sync.WaitGroup
	for range 4 {
		c := ready(t, configV1(n))
		all.Go(func() {
			for range 50 {
				if _, err := settlerOf(c, l).Settle(t.Context(), o); err == nil {
					return
				}
			}
			t.Error("never settled")
		})
	}
	all.Wait()
	wantPaid(t, n, id, "", "15")
	if err := n.Check(); err != nil {
		t.Error(err)
	}
}
