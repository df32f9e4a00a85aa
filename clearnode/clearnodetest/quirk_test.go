package clearnodetest

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"pgregory.net/rapid"
)

// held is a node's request that waits for the test.
type held struct {
	struck  chan struct{}
	release chan struct{}
}

func hold(n *Node, f Fault) held {
	h := held{struck: make(chan struct{}, 10), release: make(chan struct{})}
	f.Struck, f.Release = h.struck, h.release
	n.Inject(f)
	return h
}

func TestTwoClosesThatMeetPayTwice(t *testing.T) {
	n := start(t, Config{})
	id := open(t, n, 1)
	a, b := loggedInAs(t, n, key(3)), loggedInAs(t, n, key(1))
	h := hold(n, Fault{Kind: Stall, Session: id, Times: 2})
	a.send(a.request("close_app_session", closeOf(id, rows("7", "8")), key(3)))
	b.send(b.request("close_app_session", closeOf(id, rows("7", "8")), key(3)))
	<-h.struck
	<-h.struck
	close(h.release)
	for _, c := range []*client{a, b} {
		if f := c.answer(); f.method != "close_app_session" {
			t.Errorf("answered %s %s", f.method, f.params)
		}
	}
	if s := wantStatus(t, n, id, "closed"); s.Closes != 2 || s.Version != 2 || len(s.Payouts) != 4 {
		t.Errorf("session %+v", s)
	}
	if n.MaxClosesInFlight() != 2 {
		t.Errorf("%d closes in flight", n.MaxClosesInFlight())
	}
	wantChecked(t, n, "closed 2 times", "paid out 30 of 15 usdc", "-10 usdc of "+playerA+" left", "-5 usdc of "+playerB+" left")
}

func TestOneConnectionIsServedInOrder(t *testing.T) {
	n := start(t, Config{Work: time.Millisecond})
	id := open(t, n, 1)
	c := loggedInAs(t, n, key(3))
	for range 2 {
		c.send(c.request("close_app_session", closeOf(id, rows("7", "8")), key(3)))
	}
	if f := c.answer(); f.method != "close_app_session" || len(c.notes) != 1 || c.notes[0].method != "bu" {
		t.Errorf("answered %s after %d notifications", f.method, len(c.notes))
	}
	if f := c.answer(); f.refusal() != "an open app session not found: record not found" || len(c.notes) != 1 {
		t.Errorf("answered %s after %d notifications", f.params, len(c.notes))
	}
	if n.MaxClosesInFlight() != 1 {
		t.Errorf("%d closes in flight", n.MaxClosesInFlight())
	}
	wantChecked(t, n)
}

// TestDroppedConnectionGoesOn closes three sessions on a connection that is gone before the first of them is begun.
func TestDroppedConnectionGoesOn(t *testing.T) {
	n := start(t, Config{})
	watcher, c := loggedInAs(t, n, key(1)), loggedInAs(t, n, key(3))
	var opened []string
	for nonce := range uint64(3) {
		opened = append(opened, open(t, n, nonce+1))
		watcher.next() // what the deposit left
	}
	h := hold(n, Fault{Kind: Delay, Session: opened[0]})
	for _, id := range opened {
		c.send(c.request("close_app_session", closeOf(id, rows("7", "8")), key(3)))
	}
	<-h.struck
	var dropped *conn
	for _, other := range n.connections(n.alive()) {
		if n.user(other) == judge {
			dropped = other
		}
	}
	if err := c.ws.Close(); err != nil {
		t.Fatal(err)
	}
	<-dropped.gone
	close(h.release)
	for _, id := range opened {
		watcher.next() // what the payout brought
		wantStatus(t, n, id, "closed")
		if r := n.Closes(id); len(r) != 1 || !r[0].Committed {
			t.Errorf("closes %+v", r)
		}
	}
	wantChecked(t, n)
}

func TestOmittedFunderLeavesResidue(t *testing.T) {
	n := start(t, Config{})
	id := open(t, n, 1)
	c := loggedInAs(t, n, key(3))
	if f := c.call("close_app_session", closeOf(id, []Allocation{{playerA, "usdc", amount("15")}})); f.method != "close_app_session" {
		t.Fatal(f.params)
	}
	wantStatus(t, n, id, "closed")
	wantChecked(t, n, "created 5 usdc", "5 usdc of "+playerB+" left")
}

func TestMessageExpiry(t *testing.T) {
	at := &clock{}
	at.set(1795309613340)
	n := start(t, Config{Now: at.Now, MessageExpiry: 20 * time.Second})
	c := loggedInAs(t, n, key(3))
	now := at.Now()
	for _, tc := range []struct {
		it   string
		at   time.Time
		want string
	}{
		{"as old as allowed", now.Add(-20 * time.Second), ""},
		{"a millisecond older", now.Add(-20*time.Second - time.Millisecond), "invalid message timestamp"},
		{"an hour in the future", now.Add(time.Hour), ""},
		{"in seconds", time.UnixMilli(now.Unix()), "invalid message timestamp"},
	} {
		c.send(c.requestAt(tc.at, "get_ledger_balances", struct{}{}))
		if f := c.answer(); f.refusal() != tc.want {
			t.Errorf("%s: %q", tc.it, f.refusal())
		}
	}
	c.send(c.requestAt(now.Add(-time.Hour), "get_app_sessions", struct{}{}))
	if f := c.answer(); f.refusal() != "" {
		t.Errorf("a public read: %q", f.refusal())
	}
}

// TestRequestAgesOnTheWire has a close held up until it is too old, which the node notices when it takes it up.
func TestRequestAgesOnTheWire(t *testing.T) {
	at := &clock{}
	at.set(1795309613340)
	n := start(t, Config{Now: at.Now})
	id := open(t, n, 1)
	c := loggedInAs(t, n, key(3))
	h := hold(n, Fault{Kind: Delay, Session: id})
	c.send(c.request("close_app_session", closeOf(id, rows("7", "8")), key(3)))
	<-h.struck
	at.add(61 * time.Second)
	close(h.release)
	if f := c.answer(); f.refusal() != "invalid message timestamp" || len(c.notes) != 0 {
		t.Errorf("answered %s after %d notifications", f.params, len(c.notes))
	}
	want := CloseRecord{Received: at.Now(), Timestamp: 1795309613340, Answer: "invalid message timestamp"}
	if r := n.Closes(id); len(r) != 1 || r[0] != want {
		t.Errorf("closes %+v", r)
	}
}

// A close that comes too late while another is at work can't land, and isn't counted as two at once.
func TestTooLateIsNeverAtWork(t *testing.T) {
	n := start(t, Config{})
	id := open(t, n, 1)
	a, b := loggedInAs(t, n, key(3)), loggedInAs(t, n, key(1))
	h := hold(n, Fault{Kind: Stall, Session: id})
	a.send(a.request("close_app_session", closeOf(id, rows("7", "8")), key(3)))
	<-h.struck
	b.send(b.requestAt(time.Now().Add(-61*time.Second), "close_app_session", closeOf(id, rows("7", "8")), key(3)))
	if f := b.answer(); f.refusal() != "invalid message timestamp" {
		t.Errorf("answered %s", f.params)
	}
	close(h.release)
	if f := a.answer(); f.method != "close_app_session" {
		t.Errorf("answered %s %s", f.method, f.params)
	}
	if n.MaxClosesInFlight() != 1 || n.Crowded() != id || len(n.Closes(id)) != 2 {
		t.Errorf("%d closes of %s in flight, %d came", n.MaxClosesInFlight(), n.Crowded(), len(n.Closes(id)))
	}
	wantChecked(t, n)
}

func TestLoginExpires(t *testing.T) {
	at := &clock{}
	at.set(1795309613340)
	n := start(t, Config{Now: at.Now})
	c := loggedInAs(t, n, key(3))
	at.add(24*time.Hour + time.Second)
	if f := c.call("get_ledger_balances", struct{}{}); f.refusal() != "session expired, please re-authenticate" {
		t.Error(f.params)
	}
}

// TestUnansweredChallenges: a thousand of them are too many until the expired ones are swept out.
func TestUnansweredChallenges(t *testing.T) {
	at := &clock{}
	at.set(1795309613340)
	n := start(t, Config{Now: at.Now})
	c := connect(t, n, key(3))
	for range maxChallenges {
		c.call("auth_request", authParams{Address: judge})
	}
	if f := c.call("auth_request", authParams{Address: judge}); f.refusal() != "failed to generate challenge" {
		t.Error(f.params)
	}
	at.add(challengeLife + time.Second)
	if f := c.call("auth_request", authParams{Address: judge}); f.refusal() != "failed to generate challenge" {
		t.Error(f.params)
	}
	at.add(sweepEvery - challengeLife)
	if f := c.call("auth_request", authParams{Address: judge}); f.refusal() != "" {
		t.Error(f.params)
	}
}

// TestStopForgets stops the node while a close is between its checks and its commit.
func TestStopForgets(t *testing.T) {
	n := start(t, Config{})
	id := open(t, n, 1)
	c := loggedInAs(t, n, key(3))
	token := c.login(authParams{
		Address: judge, SessionKey: addressOf(key(0x103)), Application: "cnharness", ExpiresAt: 4e9,
	}, []string{}...)
	asked := c.call("auth_request", authParams{Address: judge, SessionKey: judge, Application: "cnharness", ExpiresAt: 4e9})
	h := hold(n, Fault{Kind: Stall})
	c.send(c.request("close_app_session", closeOf(id, rows("7", "8")), key(3)))
	<-h.struck
	n.Stop()
	n.Stop()
	if _, _, err := c.ws.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseAbnormalClosure) {
		t.Errorf("the connection ended with %v", err)
	}
	if ws, _, err := websocket.DefaultDialer.Dial(n.URL(), nil); err == nil {
		_ = ws.Close()
		t.Error("a stopped node let somebody in")
	}
	n.SendRaw([]byte("into nothing"))
	n.DropConnections()
	n.Resume()
	wantStatus(t, n, id, "open")
	if r := n.Closes(id); len(r) != 1 || r[0].Answer != "" || r[0].Committed {
		t.Errorf("closes %+v", r)
	}
	again := connect(t, n, key(3))
	if f := again.call("get_ledger_balances", struct{}{}); f.refusal() != "authentication required" {
		t.Error(f.params)
	}
	challenge := json.RawMessage(strings.Replace(asked.params, "challenge_message", "challenge", 1))
	if f := again.call("auth_verify", challenge); f.refusal() != "invalid challenge" {
		t.Error(f.params)
	}
	if f := again.call("auth_verify", map[string]string{"jwt": token}); f.method != "auth_verify" {
		t.Error(f.params)
	}
	if f := again.call("close_app_session", closeOf(id, rows("7", "8"))); f.method != "close_app_session" {
		t.Error(f.params)
	}
	wantChecked(t, n)
}

func TestCloseWithRequestsHeld(t *testing.T) {
	n, err := Start(Config{})
	if err != nil {
		t.Fatal(err)
	}
	c := connect(t, n, key(3))
	h := hold(n, Fault{Kind: Delay})
	c.send(c.request("ping", struct{}{}))
	<-h.struck
	for range 2 {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
	n.Resume()
	if n.alive() != nil {
		t.Error("a closed node came back")
	}
}

func TestEverybodyAffectedIsTold(t *testing.T) {
	n := start(t, Config{})
	id := open(t, n, 1)
	a, b, c := loggedInAs(t, n, key(1)), loggedInAs(t, n, key(1)), loggedInAs(t, n, key(3))
	c.call("close_app_session", closeOf(id, rows("15", "0")))
	for _, player := range []*client{a, b} {
		if f := player.next(); f.method != "bu" || f.params != `{"balance_updates":[{"asset":"usdc","amount":"15"}]}` {
			t.Errorf("told %s %s", f.method, f.params)
		}
	}
	n.SendRaw([]byte(`{"hello":`))
	for _, client := range []*client{a, b, c} {
		if raw := receive(t, client.ws); raw != `{"hello":` {
			t.Errorf("sent %s", raw)
		}
	}
}

func TestFaucetFillsOnFirstSight(t *testing.T) {
	n := start(t, Config{Faucet: amount("100")})
	if _, err := n.OpenSession(duel(1), rows("60", "100")); err != nil {
		t.Fatal(err)
	}
	if _, err := n.OpenSession(duel(2), rows("60", "0")); err == nil ||
		err.Error() != "clearnodetest: open session: insufficient funds: "+playerA+" for asset usdc" {
		t.Errorf("opened with %v", err)
	}
	c := loggedInAs(t, n, key(5))
	if f := c.call("get_ledger_balances", struct{}{}); f.params !=
		`{"ledger_balances":[{"asset":"usdc","amount":"100"},{"asset":"weth","amount":"100"}]}` {
		t.Error(f.params)
	}
	wantChecked(t, n)
}

// TestLargeAndSmallAmounts: the database rounds at 18 digits and overflows at 46; the node doesn't look at an asset's decimals.
func TestLargeAndSmallAmounts(t *testing.T) {
	n := start(t, Config{})
	c := loggedInAs(t, n, key(3))
	for i, tc := range []struct{ a, b, want string }{
		{"9.99999999999", "5.00000000001", ""},
		{"0.1e2", "5.000", ""},
		{"9.9999999999999999996", "5.0000000000000000004", ""},
		{"1e46", "0", "failed to record a ledger entry : ERROR: numeric field overflow (SQLSTATE 22003)"},
		{"1e2000000000", "0", "failed to parse parameters"},
	} {
		id := open(t, n, uint64(i+1))
		raw := fmt.Sprintf(`{"app_session_id":%q,"allocations":[{"participant":%q,"asset":"usdc","amount":%q},`+
			`{"participant":%q,"asset":"usdc","amount":%q}]}`, id, playerA, tc.a, playerB, tc.b)
		if f := c.call("close_app_session", json.RawMessage(raw)); f.refusal() != tc.want {
			t.Errorf("%s and %s: %s", tc.a, tc.b, f.params)
		}
	}
	player := loggedInAs(t, n, key(1))
	if f := player.call("get_ledger_balances", struct{}{}); !strings.Contains(f.params, `"29.99999999999"`) {
		t.Error(f.params)
	}
	wantChecked(t, n)
}

func TestQuorumOfZeroIsStoredAsHundred(t *testing.T) {
	n := start(t, Config{})
	def := duel(1)
	def.Quorum = 0
	id := openDuel(t, n, def)
	c := loggedInAs(t, n, key(1))
	if f := c.call("close_app_session", closeOf(id, rows("7", "8"))); f.refusal() !=
		"incorrect submit_state request: quorum not reached: 0 / 100" {
		t.Error(f.params)
	}
}

// TestLawfulClosesBalance closes sessions with random deposits by random splits that name every funder.
func TestLawfulClosesBalance(t *testing.T) {
	n := start(t, Config{})
	c := loggedInAs(t, n, key(3))
	nonce := uint64(0)
	rapid.Check(t, func(t *rapid.T) {
		nonce++
		a, b := rapid.Int64Range(0, 1e9).Draw(t, "a"), rapid.Int64Range(0, 1e9).Draw(t, "b")
		to := rapid.Int64Range(0, a+b).Draw(t, "to a")
		units := func(x, y int64) []Allocation {
			return rows(fmt.Sprintf("%de-6", x), fmt.Sprintf("%de-6", y))
		}
		for _, f := range units(a, b) {
			n.Fund([20]byte(addressBytes(f.Participant)), f.Asset, f.Amount)
		}
		id, err := n.OpenSession(duel(nonce), units(a, b))
		if err != nil {
			t.Fatal(err)
		}
		if f := c.call("close_app_session", closeOf(id, units(to, a+b-to))); f.method != "close_app_session" {
			t.Fatal(f.params)
		}
		if err := n.Check(); err != nil {
			t.Fatal(err)
		}
	})
}
