package clearnodetest

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// TestFaults closes a session through each kind of fault and looks at what came of it and what the client was told.
func TestFaults(t *testing.T) {
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
		{"expire login", Fault{Kind: ExpireAuth}, false, 1, "authentication required"},
		{"error", Fault{Kind: Error, Text: "failed to close application session"}, false, 1, "failed to close application session"},
		{"error, applied", Fault{Kind: ErrorApplied, Text: "no such luck"}, true, 1, "no such luck"},
		{"garbage", Fault{Kind: Garbage}, true, 1, "garbage"},
		{"wrong signature", Fault{Kind: WrongSignature}, true, 1, "signed by somebody else"},
	} {
		t.Run(tc.it, func(t *testing.T) {
			n := start(t, Config{})
			id := open(t, n, 1)
			c := loggedInAs(t, n, key(3))
			tc.fault.Method, tc.fault.Session = "close_app_session", id
			n.Inject(tc.fault)
			c.send(c.request("close_app_session", closeOf(id, rows("7", "8")), key(3)))
			c.send(c.request("ping", struct{}{}))
			if got := c.told(n); got != tc.told {
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
func (c *client) told(n *Node) string {
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
		f := apart(c.t, string(raw))
		switch {
		case f.signedBy(c.t) != n.Address():
			return "signed by somebody else"
		case f.method == "error":
			return f.refusal()
		case f.id != 0:
			return f.method
		}
	}
}

// TestFaultsAreChosen: by method and session, the oldest first, as often as said.
func TestFaultsAreChosen(t *testing.T) {
	n := start(t, Config{})
	c := connect(t, n, key(3))
	n.Inject(Fault{Method: "get_app_definition", Kind: Error, Text: "other method", Times: -1})
	n.Inject(Fault{Session: "0x02", Kind: Error, Text: "session", Times: -1})
	n.Inject(Fault{Method: "get_ledger_transactions", Kind: Error, Text: "twice", Times: 2})
	n.Inject(Fault{Kind: Error, Text: "once"})
	ask := func(id string) string {
		return c.call("get_ledger_transactions", map[string]string{"account_id": id}).refusal()
	}
	var got []string
	for _, id := range []string{"0x01", "0x02", "0x01", "0x02", "0x01", "0x01"} {
		got = append(got, ask(id))
	}
	if s := strings.Join(got, ", "); s != "twice, session, twice, session, once, " {
		t.Error(s)
	}
	n.ClearFaults()
	if s := ask("0x02"); s != "" {
		t.Error(s)
	}
}

// TestDelayHoldsOneConnection: requests queued behind the one held wait, those on other connections don't.
func TestDelayHoldsOneConnection(t *testing.T) {
	n := start(t, Config{})
	a, b := connect(t, n, key(1)), connect(t, n, key(2))
	h := hold(n, Fault{Kind: Delay, Method: "get_config"})
	a.send(a.request("get_config", struct{}{}))
	a.send(a.request("ping", struct{}{}))
	<-h.struck
	if f := b.call("ping", struct{}{}); f.method != "pong" {
		t.Error(f.method)
	}
	if n.Requests("ping") != 1 || n.Requests("get_config") != 0 || n.Requests("") != 1 {
		t.Errorf("%d pings and %d others handled", n.Requests("ping"), n.Requests("get_config"))
	}
	close(h.release)
	for _, want := range []string{"get_config", "pong"} {
		if f := a.answer(); f.method != want {
			t.Errorf("answered %s, want %s", f.method, want)
		}
	}
}

// TestDelayedAnswerIsAlreadyTrue sees the session closed, and a player told, before the answer is let go.
func TestDelayedAnswerIsAlreadyTrue(t *testing.T) {
	n := start(t, Config{})
	id := open(t, n, 1)
	player, c := loggedInAs(t, n, key(1)), loggedInAs(t, n, key(3))
	h := hold(n, Fault{Kind: DelayAnswer})
	c.send(c.request("close_app_session", closeOf(id, rows("7", "8")), key(3)))
	<-h.struck
	player.next()
	wantStatus(t, n, id, "closed")
	close(h.release)
	if f := c.answer(); f.method != "close_app_session" {
		t.Error(f.params)
	}
}

func TestDropConnections(t *testing.T) {
	n := start(t, Config{})
	c := connect(t, n, key(3))
	n.DropConnections()
	if got := c.told(n); got != "cut" {
		t.Error(got)
	}
	connect(t, n, key(3))
}

// TestOutage asks everything that needs the database while it is away. The rest is in the recording.
func TestOutage(t *testing.T) {
	n := start(t, Config{})
	c := loggedInAs(t, n, key(3))
	n.Outage(true)
	for method, want := range map[string]string{
		"ping":                    "",
		"get_config":              "",
		"get_assets":              "",
		"get_app_sessions":        "failed to get application sessions",
		"get_ledger_entries":      "failed to get ledger entries",
		"get_ledger_transactions": "failed to get transactions",
		"get_ledger_balances":     "failed to get ledger balances",
		"submit_app_state":        "failed to submit app state",
	} {
		if f := c.call(method, struct{}{}); f.refusal() != want || len(c.notes) != 0 {
			t.Errorf("%s: %s", method, f.params)
		}
	}
	if f := c.call("create_app_session", creation{Definition: duel(1)}); f.refusal() != "failed to create application session" {
		t.Error(f.params)
	}
	n.Outage(false)
	if f := c.call("create_app_session", creation{Definition: duel(1)}); f.refusal() != "" {
		t.Error(f.params)
	}
}
