package clearnodetest

import (
	"encoding/json"
	"testing"
	"time"
)

// TestV1Faults closes a session through each kind of fault and looks at what came of it and what the client was told.
func TestV1Faults(t *testing.T) {
	for _, tc := range []struct {
		it      string
		fault   Fault
		applied bool
		handled int
		told    string // what comes where the answer should: the method, or the error's text, or what became of it
	}{
		{"lose request", Fault{Kind: LoseRequest}, false, 0, "cut"},
		{"lose answer", Fault{Kind: LoseAnswer}, true, 1, "node.v1.ping"},
		{"cut after", Fault{Kind: CutAfter}, true, 1, "cut"},
		{"delay", Fault{Kind: Delay, Delay: time.Millisecond}, true, 1, v1Submit},
		{"delay answer", Fault{Kind: DelayAnswer, Delay: time.Millisecond}, true, 1, v1Submit},
		{"stall", Fault{Kind: Stall, Delay: time.Millisecond}, true, 1, v1Submit},
		{"expire login: there is none", Fault{Kind: ExpireAuth}, true, 1, v1Submit},
		{"wrong signature: there is none", Fault{Kind: WrongSignature}, true, 1, v1Submit},
		{"error", Fault{Kind: Error, Text: "no such luck"}, false, 1, "no such luck"},
		{"error, applied", Fault{Kind: ErrorApplied, Text: "no such luck"}, true, 1, "no such luck"},
		{"garbage", Fault{Kind: Garbage}, true, 1, "garbage"},
	} {
		t.Run(tc.it, func(t *testing.T) {
			n := startV1(t, Config{})
			id := openV1Duel(t, n, 1)
			tc.fault.Method, tc.fault.Session = v1Submit, id
			n.Inject(tc.fault)
			c := connectV1(t, n)
			c.send(v1Submit, submissionOf(closeAt(id, 4, rows("10", "5")), key(3)))
			c.send("node.v1.ping", struct{}{})
			if got := c.told(); got != tc.told {
				t.Errorf("told %q, want %q", got, tc.told)
			}
			n.Stop() // waits for what goes on behind a cut connection
			s, _ := n.Session(id)
			if applied := s.Closes == 1 && s.Status == "closed"; applied != tc.applied {
				t.Errorf("session %+v", s)
			}
			if r := n.Closes(id); len(r) != tc.handled || tc.handled == 1 && r[0].Committed != tc.applied {
				t.Errorf("closes %+v", r)
			}
			wantChecked(t, n)
		})
	}
}

// told says what comes over the connection instead of, or as, the next answer.
func (c *v1Client) told() string {
	c.t.Helper()
	_ = c.ws.SetReadDeadline(time.Now().Add(30 * time.Second))
	_, raw, err := c.ws.ReadMessage()
	switch {
	case err != nil:
		return "cut"
	case !json.Valid(raw):
		return "garbage"
	}
	if told := apartV1(c.t, string(raw)); told.kind == v1Answer {
		return told.method
	} else {
		return told.refusal()
	}
}

// TestV1Outage asks everything while the database is away. What is in memory is told; the rest fails with the real node's
// words, from its source.
func TestV1Outage(t *testing.T) {
	n := startV1(t, Config{})
	id := openV1Duel(t, n, 1)
	c := connectV1(t, n)
	wallet, session := map[string]string{"wallet": judge}, map[string]string{"app_session_id": id}
	create := v1Creation{Definition: *duel(2).onWire(false), Sigs: []string{StateUpdate{}.Sign(key(3))}}
	n.Outage(true)
	for _, tc := range []struct {
		method  string
		payload any
		want    string
	}{
		{"node.v1.ping", struct{}{}, ""},
		{"node.v1.get_config", struct{}{}, ""},
		{"node.v1.get_assets", struct{}{}, ""},
		{"app_sessions.v1.get_app_sessions", session, "failed to retrieve app sessions"},
		{"app_sessions.v1.get_app_definition", session, "failed to retrieve app definition"},
		{"user.v1.get_transactions", wallet, "failed to retrieve transactions"},
		{"user.v1.get_balances", wallet, "failed to retrieve balances"},
		{"app_sessions.v1.create_app_session", create, "failed to create app session"},
		{v1Submit, submissionOf(closeAt(id, 4, rows("10", "5")), key(3)), "failed to process app state update"},
	} {
		if told := c.call(tc.method, tc.payload); told.refusal() != tc.want {
			t.Errorf("%s: %s", tc.method, told.payload)
		}
	}
	n.Outage(false)
	if got := c.submit(closeAt(id, 4, rows("10", "5"))); got != "" {
		t.Error(got)
	}
}

// TestV1OutageMeanwhile takes the database away between an update's checks and its commit.
func TestV1OutageMeanwhile(t *testing.T) {
	n := startV1(t, Config{})
	id := openV1Duel(t, n, 1)
	h := hold(n, Fault{Kind: Stall})
	c := connectV1(t, n)
	c.send(v1Submit, submissionOf(closeAt(id, 4, rows("10", "5")), key(3)))
	<-h.struck
	n.Outage(true)
	close(h.release)
	if got := c.next().refusal(); got != "failed to process app state update" {
		t.Error(got)
	}
	wantStatus(t, n, id, "open")
	wantChecked(t, n)
}

// TestEscrow: a close waits until everybody can be paid.
func TestEscrow(t *testing.T) {
	n := startV1(t, Config{})
	id := openV1Duel(t, n, 1)
	c := connectV1(t, n)
	n.HoldEscrow(walletOf(playerB), "usdc")
	n.HoldEscrow(walletOf(playerA), "weth") // of no interest here
	const want = "failed to issue release state for participant 0x2b5ad5c4795c026514f8317c7a215e218dccd6cf: " +
		"cannot issue release receiver state: escrow lock is still ongoing"
	for _, tc := range []struct {
		u    StateUpdate
		want string
	}{
		{closeAt(id, 4, rows("10", "5")), want},
		{operate(id, 4, rows("8", "7")), ""},
		{closeAt(id, 5, rows("8", "7")), want},
	} {
		if got := c.submit(tc.u); got != tc.want {
			t.Errorf("%v: %s", tc.u, got)
		}
	}
	n.ReleaseEscrow(walletOf(playerB), "usdc")
	if got := c.submit(closeAt(id, 5, rows("8", "7"))); got != "" {
		t.Error(got)
	}
	wantChecked(t, n)
}

// TestV1StopForgets: a stop loses what wasn't committed, and nothing else.
func TestV1StopForgets(t *testing.T) {
	n := startV1(t, Config{})
	id := openV1Duel(t, n, 1)
	c := connectV1(t, n)
	if got := c.submit(operate(id, 4, rows("7", "8"))); got != "" {
		t.Fatal(got)
	}
	h := hold(n, Fault{Kind: Stall})
	c.send(v1Submit, submissionOf(closeAt(id, 5, rows("7", "8")), key(3)))
	<-h.struck
	n.Stop()
	if err := n.Submit(closeAt(id, 5, rows("7", "8")), key(3)); err == nil {
		t.Error("a stopped node took a close")
	}
	if s := wantStatus(t, n, id, "open"); s.Version != 4 {
		t.Errorf("%+v", s)
	}
	if r := n.Closes(id); len(r) != 1 || r[0].Answer != "" || r[0].Committed {
		t.Errorf("%+v", r)
	}
	n.Resume()
	if got := connectV1(t, n).submit(closeAt(id, 5, rows("7", "8"))); got != "" {
		t.Error(got)
	}
	wantChecked(t, n)
}
