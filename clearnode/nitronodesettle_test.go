package clearnode_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"settled/clearnode"
	"settled/clearnode/clearnodetest"
	"settled/settlement"
)

// fakeStream is a ledger in memory: an append is stored only on the head that it
// was decided from.
type fakeStream struct {
	mu      sync.Mutex
	entries []settlement.Entry
	stop    func(settlement.Entry) // called when an entry is stored
}

func (l *fakeStream) of(id settlement.SessionID) (all []settlement.Entry) {
	for _, e := range l.entries {
		if e.Session == id {
			all = append(all, e)
		}
	}
	return all
}

func (l *fakeStream) head(id settlement.SessionID) settlement.Head {
	h := settlement.Head{Session: id}
	if all := l.of(id); len(all) > 0 {
		h.Last, h.Entries = &all[len(all)-1], all
	}
	return h
}

func (l *fakeStream) Head(_ context.Context, id settlement.SessionID) (settlement.Head, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.head(id), nil
}

func (l *fakeStream) Append(_ context.Context, h settlement.Head, e settlement.Entry) (settlement.Head, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.head(e.Session).Sequence() != h.Sequence() {
		return settlement.Head{}, settlement.ErrHeadMoved
	}
	e.Sequence, e.N, e.Time = uint64(len(l.entries)+1), h.N()+1, time.Now()
	l.entries = append(l.entries, e)
	if l.stop != nil {
		l.stop(e)
	}
	return l.head(e.Session), nil
}

func (l *fakeStream) Store(context.Context, settlement.Outcome, settlement.Failure, int) (uint64, error) {
	return 1, nil
}

// Stopped and Stop make it a brake that nobody pulls.
func (l *fakeStream) Stopped(context.Context) error { return nil }

func (l *fakeStream) Stop(_ context.Context, _ settlement.Outcome, f settlement.Failure) error {
	return errors.New("nothing is paid twice here: " + f.Message)
}

func settlerV1(c settlement.Node, l *fakeStream) *settlement.Settler {
	return &settlement.Settler{Node: c, Ledger: l, DeadLetters: l, EmergencyStop: l, Policies: settlement.BuiltIn(), MaxAttempts: 8, FenceMargin: 20 * time.Second}
}

func outcomeV1(t testing.TB, id settlement.SessionID, scenario string, data map[string]any) settlement.Outcome {
	t.Helper()
	data["session_id"] = string(id)
	raw, err := json.Marshal(data)
	if err != nil {
		t.Fatal(err)
	}
	o, err := settlement.ParseOutcome(settlement.Envelope{
		Subject: "outcome." + scenario, Type: "outcome." + scenario, Source: "/test", ID: string(id) + scenario, Data: raw, Payload: raw, Stream: "OUTCOMES", Sequence: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// TestV1Settle: every scenario, settled over the wire.
func TestV1Settle(t *testing.T) {
	n := startV1(t)
	c := ready(t, configV1(n))
	for _, tc := range []struct {
		scenario string
		data     map[string]any
		a, b     string
		sends    int
	}{
		{"payment_completed", map[string]any{"parties": map[string]any{"provider": playerB}, "session_data": "paid"}, "", "15", 2},
		{"game_completed", map[string]any{"parties": map[string]any{"winner": []string{playerA, playerB}}}, "7.5", "7.5", 2},
		{"partial_service", map[string]any{"parties": map[string]any{"provider": playerB}, "completion": "0.3"}, "7", "8", 2},
		{"cancellation", map[string]any{}, "10", "5", 1},
		{"dispute_resolved", map[string]any{"awards": []any{map[string]any{"participant": playerA, "asset": "usdc", "amount": "14.999999"}, map[string]any{"participant": playerB, "asset": "usdc", "amount": "0.000001"}}}, "14.999999", "0.000001", 2},
	} {
		t.Run(tc.scenario, func(t *testing.T) {
			id, l := openDuel(t, n), &fakeStream{}
			done, err := settlerV1(c, l).Settle(t.Context(), outcomeV1(t, id, tc.scenario, tc.data))
			if err != nil || done.Entry.State != settlement.EntryClosed || *done.Entry.Recovered {
				t.Fatalf("%+v, %v", done, err)
			}
			wantPaid(t, n, id, tc.a, tc.b)
			if sent := n.Submissions(string(id)); len(sent) != tc.sends || len(l.entries) != 2 {
				t.Errorf("sent %+v; %d entries", sent, len(l.entries))
			}
		})
	}
	wantChecked(t, n)
}

func wantPaid(t testing.TB, n *clearnodetest.Node, id settlement.SessionID, a, b string) {
	t.Helper()
	s, _ := n.Session(string(id))
	got := map[string]string{}
	for _, p := range s.Payouts {
		got[p.Participant] += p.Amount.String()
	}
	if s.Closes != 1 || got[playerA] != a || got[playerB] != b {
		t.Errorf("paid %v by %d closes, want %s and %s", got, s.Closes, a, b)
	}
}

// TestV1SettleKilled: killed at any point on the way, and started again with
// nothing but the ledger, the outcome is settled once and as recorded.
func TestV1SettleKilled(t *testing.T) {
	for _, tc := range []struct {
		it    string
		fault clearnodetest.Fault
		skip  int // requests that go well before it
	}{
		{"before the update", clearnodetest.Fault{Kind: clearnodetest.LoseRequest}, 0},
		{"after the update", clearnodetest.Fault{Kind: clearnodetest.CutAfter}, 0},
		{"before the close", clearnodetest.Fault{Kind: clearnodetest.LoseRequest}, 1},
		{"after the close", clearnodetest.Fault{Kind: clearnodetest.CutAfter}, 1},
		{"the update's answer is lost", clearnodetest.Fault{Kind: clearnodetest.LoseAnswer}, 0},
		{"the close's answer is lost", clearnodetest.Fault{Kind: clearnodetest.LoseAnswer}, 1},
	} {
		t.Run(tc.it, func(t *testing.T) {
			t.Parallel()
			n := startV1(t)
			cfg := configV1(n)
			cfg.RequestTimeout = 300 * time.Millisecond
			id, l := openDuel(t, n), &fakeStream{}
			o := outcomeV1(t, id, "partial_service", map[string]any{"parties": map[string]any{"provider": playerB}, "completion": "0.3"})
			tc.fault.Method = v1Submit
			node := &countingNode{Client: ready(t, cfg), before: func(sends int) {
				if sends == tc.skip {
					n.Inject(tc.fault)
				}
			}}
			var w *settlement.Waiting
			if _, err := settlerV1(node, l).Settle(t.Context(), o); !errors.As(err, &w) {
				t.Fatalf("first: %v", err)
			}
			next := ready(t, configV1(n))
			done, err := settlerV1(next, l).Settle(t.Context(), o)
			if err != nil || done.Entry.State != settlement.EntryClosed {
				t.Fatalf("then: %+v, %v", done, err)
			}
			wantPaid(t, n, id, "7", "8")
			closings := 0
			for _, e := range l.entries {
				if e.State == settlement.EntryClosing {
					closings++
				}
			}
			if closings != 1 {
				t.Errorf("%d closings", closings)
			}
			wantChecked(t, n)
		})
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
			n := startV1(t)
			c := ready(t, configV1(n))
			id, l := openDuel(t, n), &fakeStream{}
			o := outcomeV1(t, id, "game_completed", map[string]any{"parties": map[string]any{"winner": playerB}})
			ctx, kill := context.WithCancel(t.Context())
			node := &countingNode{Client: c, before: func(sends int) {
				if sends == stop {
					kill()
				}
			}}
			if _, err := settlerV1(node, l).Settle(ctx, o); err == nil {
				t.Fatal("it was not stopped")
			}
			if done, err := settlerV1(ready(t, configV1(n)), l).Settle(t.Context(), o); err != nil || done.Entry.State != settlement.EntryClosed {
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
	id, l := openDuel(t, n), &fakeStream{}
	o := outcomeV1(t, id, "game_completed", map[string]any{"parties": map[string]any{"winner": playerB}})
	var all sync.WaitGroup
	for range 4 {
		c := ready(t, configV1(n))
		all.Go(func() {
			for range 50 {
				if _, err := settlerV1(c, l).Settle(t.Context(), o); err == nil {
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
