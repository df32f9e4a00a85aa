package clearnodetest

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// openLegacyDuel opens the recordings' session on a legacy node.
func openLegacyDuel(t testing.TB, n *Node, nonce uint64) string {
	t.Helper()
	def := duel(nonce)
	def.Application = "" // it knows none
	return openDuel(t, n, def)
}

// TestLegacyFaults closes a session through each kind of fault and looks at what came of it and what the client was told.
func TestLegacyFaults(t *testing.T) {
	for _, tc := range []struct {
		it      string
		fault   Fault
		applied bool
		handled int
		told    string // what comes where the answer should: its method, or the error's text, or what became of it
	}{
		{"lose request", Fault{Kind: LoseRequest}, false, 0, "cut"},
		{"lose answer", Fault{Kind: LoseAnswer}, true, 1, "pong"},
		{"cut after", Fault{Kind: CutAfter}, true, 1, "cut"},
		{"delay", Fault{Kind: Delay, Delay: time.Millisecond}, true, 1, "close_app_session"},
		{"delay answer", Fault{Kind: DelayAnswer, Delay: time.Millisecond}, true, 1, "close_app_session"},
		{"stall", Fault{Kind: Stall, Delay: time.Millisecond}, true, 1, "close_app_session"},
		{"expire login", Fault{Kind: ExpireAuth}, false, 1, "Session expired. Please re-authenticate."},
		{"error", Fault{Kind: Error, Text: "Failed to close application: no luck"}, false, 1, "Failed to close application: no luck"},
		{"error, applied", Fault{Kind: ErrorApplied, Text: "no such luck"}, true, 1, "no such luck"},
		{"garbage", Fault{Kind: Garbage}, true, 1, "garbage"},
		{"wrong signature", Fault{Kind: WrongSignature}, true, 1, "signed by somebody else"},
	} {
		t.Run(tc.it, func(t *testing.T) {
			n := start(t, Config{Protocol: Legacy})
			id := openLegacyDuel(t, n, 1)
			c := signedIn(t, n, key(3))
			tc.fault.Method, tc.fault.Session = "close_app_session", id
			n.Inject(tc.fault)
			c.send(c.request("close_app_session", legacyCloseOf(id, everybody("7", "8")), key(3)))
			c.send(c.request("ping", nil))
			if got := c.told(); got != tc.told {
				t.Errorf("told %q, want %q", got, tc.told)
			}
			if n.Requests("close_app_session") != tc.handled {
				t.Errorf("%d closes handled", n.Requests("close_app_session"))
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
func (c *elder) told() string {
	c.t.Helper()
	for {
		_ = c.ws.SetReadDeadline(time.Now().Add(30 * time.Second))
		_, raw, err := c.ws.ReadMessage()
		if err != nil {
			return "cut"
		}
		if !json.Valid(raw) {
			return "garbage"
		}
		f := hear(c.t, string(raw))
		signer, _ := f.signedBy(c.t)
		switch {
		case signer != c.node.Address():
			return "signed by somebody else"
		case f.method == "error":
			return f.refusal()
		case f.method != "bu":
			return f.method
		}
	}
}

// TestLegacyFaultsAtTheLogin: it can fail like any other call.
func TestLegacyFaultsAtTheLogin(t *testing.T) {
	n := start(t, Config{Protocol: Legacy})
	c := elderAt(t, n, key(3))
	n.Inject(Fault{Method: "auth_request", Kind: Error, Text: "not now"})
	n.Inject(Fault{Method: "auth_verify", Kind: ErrorApplied, Text: "not so"})
	if f := c.login(judge); f.refusal() != "not now" {
		t.Error(f.params)
	}
	if f := c.login(judge); f.refusal() != "not so" {
		t.Error(f.params)
	}
	if f := c.call("ping", nil); f.method != "pong" || len(c.notes) != 2 {
		t.Errorf("%s after %d notifications", f.params, len(c.notes))
	}
}

// TestLegacyOutage asks everything that needs the database while it is away.
func TestLegacyOutage(t *testing.T) {
	const away = "failed to connect to `user=postgres database=clearnode`: " +
		"127.0.0.1:5432 (127.0.0.1): dial error: dial tcp 127.0.0.1:5432: connect: connection refused"
	n := start(t, Config{Protocol: Legacy})
	id := openLegacyDuel(t, n, 1)
	n.Outage(true)
	c := elderAt(t, n, key(3))
	if f := c.login(judge); f.method != "auth_verify" {
		t.Fatal(f.params)
	}
	if f := c.next(); f.method != "channels" {
		t.Error(f.params)
	}
	for method, want := range map[string]string{
		"ping": "", "get_config": "",
		"get_assets":          "Failed to get assets: failed to retrieve assets: " + away,
		"get_app_definition":  "Failed to get app definition: failed to find application: " + away,
		"get_app_sessions":    "Failed to get app sessions: failed to find application sessions: " + away,
		"get_ledger_balances": "Failed to get ledger balances: failed to find account: " + away,
		"get_ledger_entries":  "Failed to get ledger entries: failed to find account: " + away,
	} {
		f := c.call(method, map[string]string{"app_session_id": id, "participant": judge, "account_id": id})
		if f.refusal() != want || len(c.notes) != 0 {
			t.Errorf("%s: %s", method, f.params)
		}
	}
	if f := c.call("close_app_session", legacyCloseOf(id, everybody("7", "8"))); f.refusal() != "Failed to close application: "+away {
		t.Error(f.params)
	}
	created := legacyCreation{Definition: duel(2).legacy(), Allocations: everybody("0", "0")}
	if f := c.call("create_app_session", created); f.refusal() != "Failed to create application: "+away {
		t.Error(f.params)
	}
	n.Outage(false)
	if f := c.call("close_app_session", legacyCloseOf(id, everybody("7", "8"))); f.method != "close_app_session" {
		t.Error(f.params)
	}
	wantChecked(t, n)
}

// TestLegacyOutageInTheMiddle takes the database away between a close's checks and its commit.
func TestLegacyOutageInTheMiddle(t *testing.T) {
	n := start(t, Config{Protocol: Legacy})
	id := openLegacyDuel(t, n, 1)
	c := signedIn(t, n, key(3))
	h := hold(n, Fault{Kind: Stall})
	c.send(c.request("close_app_session", legacyCloseOf(id, everybody("7", "8")), key(3)))
	<-h.struck
	n.Outage(true)
	close(h.release)
	const want = "Failed to close application: FATAL: terminating connection due to administrator command (SQLSTATE 57P01)"
	if f := c.answer(); f.refusal() != want {
		t.Error(f.params)
	}
	wantStatus(t, n, id, "open")
	wantChecked(t, n)
}

// TestLegacyStopForgets stops the node while a close is between its checks and its commit.
func TestLegacyStopForgets(t *testing.T) {
	n := start(t, Config{Protocol: Legacy})
	id := openLegacyDuel(t, n, 1)
	c := signedIn(t, n, key(3))
	h := hold(n, Fault{Kind: Stall})
	c.send(c.request("close_app_session", legacyCloseOf(id, everybody("7", "8")), key(3)))
	<-h.struck
	n.Stop()
	c.cutOff()
	if ws, _, err := websocket.DefaultDialer.Dial(n.URL(), nil); err == nil {
		_ = ws.Close()
		t.Error("a stopped node let somebody in")
	}
	n.Resume()
	wantStatus(t, n, id, "open")
	if r := n.Closes(id); len(r) != 1 || r[0].Answer != "" || r[0].Committed {
		t.Errorf("closes %+v", r)
	}
	again := signedIn(t, n, key(3))
	if f := again.call("close_app_session", legacyCloseOf(id, everybody("7", "8"))); f.method != "close_app_session" {
		t.Error(f.params)
	}
	wantChecked(t, n)
}

// TestLegacyDroppedConnectionGoesOn closes three sessions on a connection that is gone before the first of them is begun.
func TestLegacyDroppedConnectionGoesOn(t *testing.T) {
	n := start(t, Config{Protocol: Legacy})
	c := signedIn(t, n, key(3))
	var opened []string
	for nonce := range uint64(3) {
		opened = append(opened, openLegacyDuel(t, n, nonce+1))
	}
	h := hold(n, Fault{Kind: Delay, Session: opened[0]})
	done := make(chan struct{}, 1)
	n.Inject(Fault{Kind: LoseAnswer, Session: opened[2], Struck: done})
	for _, id := range opened {
		c.send(c.request("close_app_session", legacyCloseOf(id, everybody("7", "8")), key(3)))
	}
	<-h.struck
	dropped := n.connections(n.alive())[0]
	if err := c.ws.Close(); err != nil {
		t.Fatal(err)
	}
	<-dropped.gone
	close(h.release)
	<-done
	for _, id := range opened[:2] { // the third has begun, so these are over
		wantStatus(t, n, id, "closed")
	}
	n.Stop()
	wantChecked(t, n)
}
