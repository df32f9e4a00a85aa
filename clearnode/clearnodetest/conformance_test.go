package clearnodetest

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"settled/clearnode/clearnodetest/internal/server"

	"github.com/ethereum/go-ethereum/common"
	"github.com/gorilla/websocket"
	"pgregory.net/rapid"
)

// peer is a connection to a node of any generation, with the judge's key.
type peer interface {
	socket() *websocket.Conn
	sendClose(id string, at time.Time) // closes a game by its deposits
	sendPing()
	read(raw string) (signer common.Address, answer string) // the answer's method or the error's text; empty: a notification
	survives(raw string)
}

// generation is what the generations answer differently in the common tests.
type generation struct {
	protocol  string
	connect   func(testing.TB, *Node) peer
	closed    string // the method of a close, and of its answer
	pong      string
	expired   string // after ExpireAuth; empty: ignored
	outage    string // while the close waits for its commit
	notOpen   string // the second of two closes
	tooOld    string // empty: no request is too old
	committed int    // closes that commit of two that overlap
}

var generations = []generation{
	{
		protocol: Nitro02, connect: func(t testing.TB, n *Node) peer { return loggedInAs(t, n, key(3)) },
		closed: "close_app_session", pong: "pong", expired: "authentication required",
		outage: "failed to close application session", notOpen: "an open app session not found: record not found",
		tooOld: "invalid message timestamp", committed: 2,
	},
	{
		protocol: Legacy, connect: func(t testing.TB, n *Node) peer { return loggedInAs(t, n, key(3)) },
		closed: "close_app_session", pong: "pong", expired: "Session expired. Please re-authenticate.",
		outage:  "Failed to close application: FATAL: terminating connection due to administrator command (SQLSTATE 57P01)",
		notOpen: "Failed to close application: virtual app not found or not open: record not found",
		tooOld:  "Message timestamp validation failed: timestamp expired: 2026-11-22T01:06:53.34Z older than 60 s", committed: 2,
	},
	{
		protocol: NitronodeV1, connect: func(t testing.TB, n *Node) peer { return connectNitronode(t, n) },
		closed: submitMethod, pong: "node.v1.ping", outage: "failed to process app state update",
		notOpen: "app session is already closed", committed: 1,
	},
}

// forEachGeneration runs a test with a node of each generation.
func forEachGeneration(t *testing.T, cfg Config, test func(*testing.T, generation, *Node)) {
	for _, g := range generations {
		t.Run(g.protocol, func(t *testing.T) {
			cfg.Protocol, cfg.RateLimit = g.protocol, -1
			test(t, g, start(t, cfg))
		})
	}
}

// nextAnswer describes what the peer receives next: the answer's method, the error's text, or what happened instead.
func nextAnswer(t *testing.T, n *Node, p peer) string {
	t.Helper()
	for {
		_ = p.socket().SetReadDeadline(time.Now().Add(30 * time.Second))
		_, raw, err := p.socket().ReadMessage()
		if err != nil {
			return "cut"
		}
		if !json.Valid(raw) {
			return "garbage"
		}
		switch signer, answer := p.read(string(raw)); {
		case signer != n.Address():
			return "signed by another key"
		case answer != "":
			return answer
		}
	}
}

// TestFaults closes a session under each kind of fault and checks the effect and the answer.
func TestFaults(t *testing.T) {
	for _, g := range generations {
		expired, wrongSignature := g.expired, "signed by another key"
		if g.protocol == NitronodeV1 {
			expired, wrongSignature = g.closed, g.closed
		}
		for _, tc := range []struct {
			name    string
			fault   Fault
			applied bool
			handled int
			answer  string
		}{
			{"lose request", Fault{Kind: LoseRequest}, false, 0, "cut"},
			{"lose answer", Fault{Kind: LoseAnswer}, true, 1, g.pong},
			{"cut after", Fault{Kind: CutAfter}, true, 1, "cut"},
			{"delay", Fault{Kind: Delay, Delay: time.Millisecond}, true, 1, g.closed},
			{"delay answer", Fault{Kind: DelayAnswer, Delay: time.Millisecond}, true, 1, g.closed},
			{"stall", Fault{Kind: Stall, Delay: time.Millisecond}, true, 1, g.closed},
			{"expire login", Fault{Kind: ExpireAuth}, g.expired == "", 1, expired},
			{"error", Fault{Kind: Error, Text: "failure"}, false, 1, "failure"},
			{"error, applied", Fault{Kind: ErrorApplied, Text: "failure"}, true, 1, "failure"},
			{"garbage", Fault{Kind: Garbage}, true, 1, "garbage"},
			{"wrong signature", Fault{Kind: WrongSignature}, true, 1, wrongSignature},
		} {
			t.Run(g.protocol+"/"+tc.name, func(t *testing.T) {
				n := start(t, Config{Protocol: g.protocol, RateLimit: -1})
				id := open(t, n, 1)
				p := g.connect(t, n)
				tc.fault.Method, tc.fault.Session = g.closed, id
				n.Inject(tc.fault)
				p.sendClose(id, time.Now())
				p.sendPing()
				if got := nextAnswer(t, n, p); got != tc.answer {
					t.Errorf("answer %q, want %q", got, tc.answer)
				}
				if n.Requests(g.closed) != tc.handled {
					t.Errorf("%d closes handled", n.Requests(g.closed))
				}
				n.Stop() // waits for what continues behind a cut connection
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
}

// TestOutageBeforeCommit takes the database away between the checks of a close and its commit.
func TestOutageBeforeCommit(t *testing.T) {
	forEachGeneration(t, Config{}, func(t *testing.T, g generation, n *Node) {
		id := open(t, n, 1)
		p := g.connect(t, n)
		s := stall(n, Fault{Kind: Stall})
		p.sendClose(id, time.Now())
		<-s.struck
		n.Outage(true)
		close(s.release)
		if got := nextAnswer(t, n, p); got != g.outage {
			t.Errorf("answer %q, want %q", got, g.outage)
		}
		wantStatus(t, n, id, "open")
		wantChecked(t, n)
	})
}

// TestStopDiscardsUncommitted stops the node between the checks of a close and its commit.
func TestStopDiscardsUncommitted(t *testing.T) {
	forEachGeneration(t, Config{}, func(t *testing.T, g generation, n *Node) {
		id := open(t, n, 1)
		p := g.connect(t, n)
		s := stall(n, Fault{Kind: Stall})
		p.sendClose(id, time.Now())
		<-s.struck
		n.Stop()
		n.Stop()
		if _, _, err := p.socket().ReadMessage(); !websocket.IsCloseError(err, websocket.CloseAbnormalClosure) {
			t.Errorf("the connection ended with %v", err)
		}
		if ws, _, err := websocket.DefaultDialer.Dial(n.URL(), nil); err == nil {
			_ = ws.Close()
			t.Error("a stopped node accepted a connection")
		}
		n.SendRaw([]byte("frame"))
		n.DropConnections()
		n.Resume()
		wantStatus(t, n, id, "open")
		if r := n.Closes(id); len(r) != 1 || r[0].Answer != "" || r[0].Committed {
			t.Errorf("closes %+v", r)
		}
		p = g.connect(t, n)
		p.sendClose(id, time.Now())
		if got := nextAnswer(t, n, p); got != g.closed {
			t.Errorf("answer %q", got)
		}
		wantChecked(t, n)
	})
}

// TestRequestsOutliveTheirConnection closes three sessions on a connection that ends before the first close begins.
func TestRequestsOutliveTheirConnection(t *testing.T) {
	forEachGeneration(t, Config{}, func(t *testing.T, g generation, n *Node) {
		p := g.connect(t, n)
		ids := []string{open(t, n, 1), open(t, n, 2), open(t, n, 3)}
		s := stall(n, Fault{Kind: Delay, Session: ids[0]})
		last := make(chan struct{}, 1)
		n.Inject(Fault{Kind: LoseAnswer, Session: ids[2], Struck: last})
		for _, id := range ids {
			p.sendClose(id, time.Now())
		}
		<-s.struck
		conn := n.state.Connections()[0]
		must(t, p.socket().Close())
		<-conn.Gone
		close(s.release)
		<-last
		for _, id := range ids[:2] { // the third has begun, so these are committed
			wantStatus(t, n, id, "closed")
			if r := n.Closes(id); len(r) != 1 || !r[0].Committed {
				t.Errorf("closes %+v", r)
			}
		}
		n.Stop()
		wantChecked(t, n)
	})
}

// TestOverlappingCloses: of two closes that both pass their checks, ClearNode commits both and pays twice, nitronode one.
func TestOverlappingCloses(t *testing.T) {
	forEachGeneration(t, Config{}, func(t *testing.T, g generation, n *Node) {
		id := open(t, n, 1)
		a, b := g.connect(t, n), g.connect(t, n)
		s := stall(n, Fault{Kind: Stall, Session: id, Times: 2})
		a.sendClose(id, time.Now())
		b.sendClose(id, time.Now())
		<-s.struck
		<-s.struck
		close(s.release)
		answered := 0
		for _, p := range []peer{a, b} {
			if nextAnswer(t, n, p) == g.closed {
				answered++
			}
		}
		state := wantStatus(t, n, id, "closed")
		if state.Closes != g.committed || answered != g.committed || n.MaxClosesInFlight() != 2 {
			t.Errorf("%d closes answered, %d in flight, session %+v", answered, n.MaxClosesInFlight(), state)
		}
		if g.committed == 1 {
			wantChecked(t, n)
			return
		}
		wantChecked(t, n, "closed 2 times", "paid out 30 of 15 usdc", "-10 usdc of "+playerA+" left", "-5 usdc of "+playerB+" left")
	})
}

// TestOneConnectionIsServedInOrder: the second of two closes on one connection finds the session closed.
func TestOneConnectionIsServedInOrder(t *testing.T) {
	forEachGeneration(t, Config{Work: time.Millisecond}, func(t *testing.T, g generation, n *Node) {
		id := open(t, n, 1)
		p := g.connect(t, n)
		p.sendClose(id, time.Now())
		p.sendClose(id, time.Now())
		for _, want := range []string{g.closed, g.notOpen} {
			if got := nextAnswer(t, n, p); got != want {
				t.Errorf("answer %q, want %q", got, want)
			}
		}
		if r := n.Closes(id); n.MaxClosesInFlight() != 1 || len(r) != 2 || r[0].Answer != "closed" || r[1].Answer != g.notOpen {
			t.Errorf("closes %+v", r)
		}
		wantChecked(t, n)
	})
}

// TestRequestExpiresOnTheWire delays a close until it is too old. The node notices when it takes it from the queue.
func TestRequestExpiresOnTheWire(t *testing.T) {
	at := newClock(0)
	forEachGeneration(t, Config{Now: at.Now}, func(t *testing.T, g generation, n *Node) {
		at.set(1795309613340)
		id := open(t, n, 1)
		p := g.connect(t, n)
		s := stall(n, Fault{Kind: Delay, Session: id})
		p.sendClose(id, at.Now())
		<-s.struck
		at.add(61 * time.Second)
		close(s.release)
		want, status := g.tooOld, "open"
		if g.tooOld == "" {
			want, status = g.closed, "closed"
		}
		if got := nextAnswer(t, n, p); got != want {
			t.Errorf("answer %q, want %q", got, want)
		}
		wantStatus(t, n, id, status)
		if r := n.Closes(id); len(r) != 1 || !r[0].Received.Equal(at.Now()) || g.tooOld != "" && r[0].Answer != g.tooOld {
			t.Errorf("closes %+v", r)
		}
	})
}

// TestLawfulClosesBalance closes sessions with random deposits by random splits.
func TestLawfulClosesBalance(t *testing.T) {
	forEachGeneration(t, Config{}, func(t *testing.T, g generation, n *Node) {
		if g.protocol == NitronodeV1 {
			t.Skip("a close pays the current allocation")
		}
		p := g.connect(t, n)
		nonce := uint64(0)
		rapid.Check(t, func(rt *rapid.T) {
			nonce++
			a, b := rapid.Int64Range(0, 1e9).Draw(rt, "a"), rapid.Int64Range(0, 1e9).Draw(rt, "b")
			to := rapid.Int64Range(0, a+b).Draw(rt, "to a")
			units := func(x, y int64) []Allocation { return allRows(fmt.Sprintf("%de-6", x), fmt.Sprintf("%de-6", y)) }
			for _, f := range units(a, b) {
				n.Fund(walletOf(f.Participant), f.Asset, f.Amount)
			}
			id, err := n.OpenSession(gameDefinition(nonce), units(a, b))
			if err != nil {
				rt.Fatal(err)
			}
			if refusal := p.(*client).call("close_app_session", closeOf(id, units(to, a+b-to))).refusal(); refusal != "" {
				rt.Fatal(refusal)
			}
			if err := n.Check(); err != nil {
				rt.Fatal(err)
			}
		})
	})
}

// withLogin runs a test with a node of each generation that has logins.
func withLogin(t *testing.T, cfg Config, test func(t *testing.T, n *Node, legacy bool)) {
	for _, protocol := range []string{Nitro02, Legacy} {
		t.Run(protocol, func(t *testing.T) {
			cfg.Protocol = protocol
			test(t, start(t, cfg), protocol == Legacy)
		})
	}
}

// TestMessageExpiry: a private request has a maximum age. With a legacy node every call after the login is private.
func TestMessageExpiry(t *testing.T) {
	at := newClock(1795309613340)
	now := at.Now()
	withLogin(t, Config{Now: at.Now, MessageExpiry: 20 * time.Second}, func(t *testing.T, n *Node, legacy bool) {
		c := loggedInAs(t, n, key(3))
		const failed = "Message timestamp validation failed: "
		for _, tc := range []struct {
			it     string
			at     time.Time
			legacy string
		}{
			{"as old as allowed", now.Add(-20 * time.Second), ""},
			{"a millisecond older", now.Add(-20*time.Second - time.Millisecond), failed + "timestamp expired: 2026-11-22T01:06:33.339Z older than 20 s"},
			{"an hour in the future", now.Add(time.Hour), ""},
			{"in seconds", time.UnixMilli(now.Unix()), failed + "invalid timestamp 1795309613: must be 13-digit Unix ms"},
		} {
			for method, unchecked := range map[string]string{"get_ledger_balances": "", "ping": "", "no_such_method": "unknown method: no_such_method"} {
				send(t, c.ws, c.requestAt(tc.at, method, struct{}{}))
				want := unchecked
				switch {
				case legacy && tc.legacy != "":
					want = tc.legacy
				case legacy && unchecked != "":
					want = "Unsupported method"
				case method == "get_ledger_balances" && tc.legacy != "":
					want = "invalid message timestamp"
				}
				if f := c.answer(); f.refusal() != want || f.id != c.id {
					t.Errorf("%s, %s: %s", tc.it, method, f.value)
				}
			}
		}
	})
}

// TestLoginExpires: a login ends after a day without a private request, and with it a legacy node's connection.
func TestLoginExpires(t *testing.T) {
	at := newClock(1795309613340)
	withLogin(t, Config{Now: at.Now}, func(t *testing.T, n *Node, legacy bool) {
		c := loggedInAs(t, n, key(3))
		for range 2 {
			at.add(23 * time.Hour)
			c.wantRefusal("", "get_ledger_balances", struct{}{})
		}
		at.add(24*time.Hour + time.Second)
		f := c.call("get_ledger_balances", struct{}{})
		if !legacy && f.refusal() != "session expired, please re-authenticate" {
			t.Error(f.params)
		}
		if legacy {
			if f.refusal() != "Session expired. Please re-authenticate." || f.id != uint64(at.Now().UnixMilli()) {
				t.Errorf("%s", f.value)
			}
			c.wantReset()
		}
	})
}

// TestUnansweredChallenges: a thousand pending challenges are too many until the expired ones are removed.
func TestUnansweredChallenges(t *testing.T) {
	at := newClock(1795309613340)
	withLogin(t, Config{Now: at.Now}, func(t *testing.T, n *Node, legacy bool) {
		c := connect(t, n, key(3))
		var params any = authParams{Address: judge}
		tooMany := "failed to generate challenge"
		if legacy {
			params, tooMany = judge, tooMany+": too many pending challenges"
		}
		for i := range server.MaxChallenges + 3 {
			want := ""
			switch i {
			case server.MaxChallenges:
				want = tooMany
			case server.MaxChallenges + 1:
				at.add(server.ChallengeLifetime + time.Second)
				want = tooMany
			case server.MaxChallenges + 2:
				at.add(server.SweepInterval - server.ChallengeLifetime)
			}
			if f := c.call("auth_request", params); f.refusal() != want {
				t.Errorf("challenge %d: %s", i, f.params)
			}
		}
	})
}

// TestDropConnections resets connections; the node accepts new ones.
func TestDropConnections(t *testing.T) {
	forEachGeneration(t, Config{}, func(t *testing.T, g generation, n *Node) {
		p := g.connect(t, n)
		n.DropConnections()
		if got := nextAnswer(t, n, p); got != "cut" {
			t.Error(got)
		}
		g.connect(t, n)
	})
}

// TestFaultsAreChosen by method and session, the oldest first, as often as configured.
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
	if s := fmt.Sprintf("%q", got); s != `["twice" "session" "twice" "session" "once" ""]` {
		t.Error(s)
	}
	n.ClearFaults()
	if s := ask("0x02"); s != "" {
		t.Error(s)
	}
}

// TestProtocols starts a node of each protocol and none of an unknown one.
func TestProtocols(t *testing.T) {
	for _, p := range []string{"", Nitro02, Nitro04, Legacy, NitronodeV1} {
		start(t, Config{Protocol: p})
	}
	for _, p := range []string{"auto", "NITRONODE/V1", "nitronode/v2"} {
		if n, err := Start(Config{Protocol: p}); err == nil {
			t.Errorf("started a node of protocol %s", p)
			_ = n.Close()
		}
	}
}

// TestHostileFrames sends frames of any size, depth and type. The node answers or ends the connection, and moves no money.
func TestHostileFrames(t *testing.T) {
	at := newClock(1795309613340)
	forEachGeneration(t, Config{Now: at.Now}, func(t *testing.T, g generation, n *Node) {
		id := open(t, n, 1)
		depth, length, body, frames := 1<<18, 1<<20, `{"req":[1,"%s",%s,1]}`, nitrorpcHostileFrames
		switch g.protocol {
		case Legacy:
			body, frames = `{"req":[1,"%s",[%s],1]}`, legacyHostileFrames
		case NitronodeV1:
			depth, length, body, frames = 1<<16, 1<<16, `[1,1,"%s",%s,1]`, nitronodeHostileFrames
		}
		deep := strings.Repeat("[", depth)
		frames = append([]string{
			deep, deep + strings.Repeat("]", depth/2),
			fmt.Sprintf(body, "ping", strings.Repeat(`{"a":`, 9000)+"1"+strings.Repeat("}", 9000)),
			fmt.Sprintf(body, strings.Repeat("x", length), "{}"),
			`{"req":[1,"get_app_definition",{"app_session_id":"` + strings.Repeat("0", length) + `"},1]}`,
			`{"req":[1,"ping",{},1],"sig":[` + strings.Repeat(`"0x00",`, length>>4) + `"0x00"]}`,
			`{"req":[1,"ping",[],1],"sid":"x","sig":[` + strings.Repeat(`"0x00",`, length>>4) + `"0x00"]}`,
			`[1,1,"app_sessions.v1.submit_app_state",{"app_state_update":{"app_session_id":"` + id + `","version":"4"},"quorum_sigs":[` +
				strings.Repeat(`"0xa1",`, 1<<13) + `"0xa1"]},1]`,
			`[1,1,"app_sessions.v1.submit_app_state",{"app_state_update":{"app_session_id":"` + id + `","version":"4"},"quorum_sigs":["0X"]},1]`,
		}, frames...)
		p := g.connect(t, n)
		for _, raw := range frames {
			if g.protocol != Legacy { // which ends the connection after some
				p.survives(raw)
				continue
			}
			for _, c := range []*client{connect(t, n, key(3)), loggedInAs(t, n, key(3))} {
				c.survives(raw)
				c.leave()
			}
		}
		g.connect(t, n)
		wantStatus(t, n, id, "open")
		wantChecked(t, n)
	})
}
