package clearnode_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"settled/clearnode"
	"settled/clearnode/clearnodetest"
	"settled/settlement"
)

// generation is what the conformance suite needs to know of a generation of node.
type generation struct {
	protocol string
	method   string // that changes a session
	steps    int    // requests until a session is closed

	absenceReads string // the method that a session is first looked for by

	passing  string // an error after which another attempt may succeed
	doubtful string // an error that proves nothing
	final    string // an error that no such request survives
}

var generations = []generation{
	{
		protocol: clearnodetest.Nitro04, method: "close_app_session", steps: 1, absenceReads: "get_app_definition",
		passing: "an open app session not found: record not found", doubtful: "failed to close application session", final: "asset usdc not fully redistributed",
	},
	{
		protocol: clearnodetest.Legacy, method: "close_app_session", steps: 1, absenceReads: "get_app_definition",
		passing:  "Failed to close application: virtual app not found or not open: record not found",
		doubtful: "Failed to close application: database is locked", final: "Failed to close application: asset usdc not fully redistributed",
	},
	{
		protocol: clearnodetest.NitronodeV1, method: v1Submit, steps: 2, absenceReads: v1Sessions,
		passing: "failed to get current allocations: gone", doubtful: "failed to process app state update", final: "allocation to non-participant 0x7e5f4552091a69125d5dfcb7b8c2659029395bdf",
	},
}

// conform runs a test against every generation, on a node and a ready client of its own.
func conform(t *testing.T, change func(*clearnode.Config), test func(*testing.T, generation, *clearnodetest.Node, *clearnode.Client)) {
	t.Helper()
	for _, g := range generations {
		t.Run(g.protocol, func(t *testing.T) {
			t.Parallel()
			n := startNode(t, clearnodetest.Config{Protocol: g.protocol, RateLimit: -1})
			cfg := config(n.URL())
			cfg.RateLimit, cfg.RateBurst = 1e5, 1e5
			if change != nil {
				change(&cfg)
			}
			test(t, g, n, ready(t, cfg))
		})
	}
}

// settle closes a session as planned.
func (g generation) settle(t testing.TB, c *clearnode.Client, plan settlement.Plan) (last settlement.Request) {
	t.Helper()
	for range g.steps {
		var err error
		if last, _, err = sendV1(t, c, settlement.Outcome{}, plan); err != nil {
			t.Fatal(err)
		}
	}
	if !last.Closes {
		t.Fatalf("not closed after %d requests", g.steps)
	}
	return last
}

// readAgain reads a session, on another connection where one was lost.
func readAgain(t testing.TB, c *clearnode.Client, id settlement.SessionID) (s settlement.Session) {
	t.Helper()
	eventually(t, "read", func() (read bool) {
		var err error
		s, err = c.Session(t.Context(), id, settlement.ReadOptions{})
		return err == nil
	})
	return s
}

// TestConformSend: the effect of each fault of a request, and what Send reports, for every
// request on the way to the close.
func TestConformSend(t *testing.T) {
	for _, g := range generations {
		wrongSignature := clearnodetest.Fault{Kind: clearnodetest.WrongSignature}
		if g.protocol == clearnodetest.NitronodeV1 { // it signs nothing
			wrongSignature.Kind = clearnodetest.Garbage
		}
		for _, tc := range []struct {
			it      string
			fault   clearnodetest.Fault
			applied bool
			refused bool // otherwise in doubt
			code    settlement.Code
		}{
			{"the request is lost", clearnodetest.Fault{Kind: clearnodetest.LoseRequest}, false, false, ""},
			{"the answer is lost", clearnodetest.Fault{Kind: clearnodetest.LoseAnswer}, true, false, ""},
			{"the answer is lost with the connection", clearnodetest.Fault{Kind: clearnodetest.CutAfter}, true, false, ""},
			{"the answer is not the node's", wrongSignature, true, false, ""},
			{"a doubtful error of a request that was executed", clearnodetest.Fault{Kind: clearnodetest.ErrorApplied, Text: g.doubtful}, true, false, ""},
			{"a doubtful error", clearnodetest.Fault{Kind: clearnodetest.Error, Text: g.doubtful}, false, false, ""},
			{"an unknown error", clearnodetest.Fault{Kind: clearnodetest.ErrorApplied, Text: "no such luck"}, true, false, ""},
			{"a known error with more to it", clearnodetest.Fault{Kind: clearnodetest.ErrorApplied, Text: g.final + ": database is locked"}, true, false, ""},
			{"a passing error", clearnodetest.Fault{Kind: clearnodetest.Error, Text: g.passing}, false, true, ""},
			{"a final error", clearnodetest.Fault{Kind: clearnodetest.Error, Text: g.final}, false, true, "rejected"},
		} {
			for step := range g.steps {
				t.Run(g.protocol+", "+tc.it, func(t *testing.T) {
					t.Parallel()
					n := startNode(t, clearnodetest.Config{Protocol: g.protocol, RateLimit: -1})
					cfg := config(n.URL())
					cfg.RateLimit, cfg.RateBurst = 1e5, 1e5
					if k := tc.fault.Kind; k == clearnodetest.LoseAnswer || k == clearnodetest.Garbage {
						cfg.RequestTimeout = time.Second // nothing else ends the call
					}
					c := ready(t, cfg)
					id := openGame(t, n)
					plan := gamePlan(t, readSession(t, c, id, settlement.ReadOptions{}))
					for range step {
						if _, _, err := sendV1(t, c, settlement.Outcome{}, plan); err != nil {
							t.Fatal(err)
						}
					}
					before := readSession(t, c, id, settlement.ReadOptions{})
					fault := tc.fault // tc is shared with the other steps
					fault.Method = g.method
					n.Inject(fault)
					_, _, err := sendV1(t, c, settlement.Outcome{}, plan)
					if !tc.refused {
						wantInDoubt(t, err)
						if !errors.Is(err, clearnode.ErrNoAnswer) {
							t.Errorf("no ErrNoAnswer in %v", err)
						}
					} else if f := wantRefused(t, err); (f == nil) != (tc.code == "") {
						t.Errorf("failure %v, want %q", f, tc.code)
					}
					now := readAgain(t, c, id)
					if applied := now.Open != before.Open || now.Version != before.Version; applied != tc.applied {
						t.Errorf("applied %v: %+v", applied, now)
					}
					wantChecked(t, n)
				})
			}
		}
	}
}

// TestConformSettle: many sessions in parallel, each closed once; a close that is sent
// again is refused, and the answers verify.
func TestConformSettle(t *testing.T) {
	conform(t, func(cfg *clearnode.Config) { cfg.Connections = 4 }, func(t *testing.T, g generation, n *clearnodetest.Node, c *clearnode.Client) {
		var settling sync.WaitGroup
		for range 24 {
			id := openGame(t, n)
			settling.Go(func() {
				s, err := c.Session(t.Context(), id, settlement.ReadOptions{InDoubt: true})
				if err != nil {
					t.Error(err)
					return
				}
				plan := gamePlan(t, s)
				var a settlement.Answer
				var r settlement.Request
				for range g.steps {
					if r, err = c.Prepare(t.Context(), settlement.Outcome{}, plan, s); err == nil {
						a, err = c.Send(t.Context(), r)
					}
					if err == nil {
						s, err = c.Session(t.Context(), id, settlement.ReadOptions{})
					}
					if err != nil {
						t.Error(err)
						return
					}
				}
				if s.Open || !r.Closes || s.Version != a.Version || clearnode.VerifyAnswer(a.Evidence) != nil || clearnode.VerifyAnswer(s.Evidence) != nil || a.Evidence.URL != n.URL() {
					t.Errorf("%+v, answered %+v", s, a)
				}
			})
		}
		settling.Wait()
		id := openGame(t, n)
		last := g.settle(t, c, gamePlan(t, readSession(t, c, id, settlement.ReadOptions{})))
		if _, err := c.Send(t.Context(), last); wantRefused(t, err) != nil {
			t.Errorf("closed already: %v", err)
		}
		wantChecked(t, n)
	})
}

// TestConformNotSent: a request other than the recorded one never leaves.
func TestConformNotSent(t *testing.T) {
	conform(t, nil, func(t *testing.T, g generation, n *clearnodetest.Node, c *clearnode.Client) {
		id := openGame(t, n)
		s := readSession(t, c, id, settlement.ReadOptions{})
		r := prepare(t, c, settlement.Outcome{}, gamePlan(t, s), s)
		for it, spoil := range map[string]func(*settlement.Request){
			"other bytes":     func(r *settlement.Request) { r.Frame = []byte(strings.Replace(string(r.Frame), `"7"`, `"6"`, 1)) },
			"no frame":        func(r *settlement.Request) { r.Frame = nil },
			"another id":      func(r *settlement.Request) { r.Ref.ID++ },
			"another time":    func(r *settlement.Request) { r.Ref.Timestamp++ },
			"another request": func(r *settlement.Request) { r.Ref.Digest = strings.Repeat("0", 64) },
		} {
			bad := r
			spoil(&bad)
			if _, err := c.Send(t.Context(), bad); wantRefused(t, err) != nil || !errors.Is(err, clearnode.ErrNotSent) {
				t.Errorf("%s: %v", it, err)
			}
		}
		if n.Requests(g.method) != 0 {
			t.Error("something was sent")
		}
	})
}

// TestConformNotFound: only where the node has no such session in two reads, and its
// database answers.
func TestConformNotFound(t *testing.T) {
	conform(t, nil, func(t *testing.T, g generation, n *clearnodetest.Node, c *clearnode.Client) {
		unknown := settlement.SessionID("0x" + strings.Repeat("1", 64))
		before := n.Requests(g.absenceReads)
		if _, err := c.Session(t.Context(), unknown, settlement.ReadOptions{}); !errors.Is(err, settlement.ErrSessionNotFound) {
			t.Errorf("unknown: %v", err)
		}
		if reads := n.Requests(g.absenceReads) - before; reads != 2 {
			t.Errorf("%d reads", reads)
		}
		id := openGame(t, n)
		n.Outage(true)
		for _, id := range []settlement.SessionID{unknown, id} {
			_, err := c.Session(t.Context(), id, settlement.ReadOptions{})
			wantReadFailed(t, err)
		}
		n.Outage(false)
		if s := readSession(t, c, id, settlement.ReadOptions{}); !s.Open {
			t.Errorf("after the outage: %+v", s)
		}
	})
}
