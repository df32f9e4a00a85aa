package clearnodetest

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestOmittedFunderLeavesResidue(t *testing.T) {
	n := start(t, Config{})
	id, c := open(t, n, 1), loggedInAs(t, n, key(3))
	if f := c.call("close_app_session", closeOf(id, []Allocation{{Participant: playerA, Asset: "usdc", Amount: amount("15")}})); f.method != "close_app_session" {
		t.Fatal(f.params)
	}
	wantStatus(t, n, id, "closed")
	wantChecked(t, n, "created 5 usdc", "5 usdc of "+playerB+" left")
}

// TestExpiredCloseIsNotInFlight: a close that is too old while another is in work can't commit and doesn't count as in flight.
func TestExpiredCloseIsNotInFlight(t *testing.T) {
	n := start(t, Config{})
	id := open(t, n, 1)
	a, b := loggedInAs(t, n, key(3)), loggedInAs(t, n, key(1))
	s := stall(n, Fault{Kind: Stall, Session: id})
	send(t, a.ws, a.request("close_app_session", closeOf(id, rows("7", "8")), key(3)))
	<-s.struck
	send(t, b.ws, b.requestAt(time.Now().Add(-61*time.Second), "close_app_session", closeOf(id, rows("7", "8")), key(3)))
	if f := b.answer(); f.refusal() != "invalid message timestamp" {
		t.Errorf("answered %s", f.params)
	}
	close(s.release)
	if f := a.answer(); f.method != "close_app_session" {
		t.Errorf("answered %s %s", f.method, f.params)
	}
	if n.MaxClosesInFlight() != 1 || n.Crowded() != id || len(n.Closes(id)) != 2 {
		t.Errorf("%d closes of %s in flight, %d came", n.MaxClosesInFlight(), n.Crowded(), len(n.Closes(id)))
	}
	wantChecked(t, n)
}

// TestLoginsAfterRestart: a restart forgets logins and challenges, but tokens stay valid.
func TestLoginsAfterRestart(t *testing.T) {
	n := start(t, Config{})
	c := connect(t, n, key(3))
	login := authParams{Address: judge, SessionKey: addressOf(key(0x103)), Application: "cnharness", ExpiresAt: 4e9}
	token := c.login(login)
	asked := c.call("auth_request", login)
	n.Stop()
	n.Resume()
	c = connect(t, n, key(3))
	c.wantRefusal("authentication required", "get_ledger_balances", struct{}{})
	challenge := json.RawMessage(strings.Replace(asked.params, "challenge_message", "challenge", 1))
	c.wantRefusal("invalid challenge", "auth_verify", challenge)
	if f := c.call("auth_verify", map[string]string{"jwt": token}); f.method != "auth_verify" {
		t.Error(f.params)
	}
	c.wantRefusal("", "get_ledger_balances", struct{}{})
}

func TestCloseWithRequestsHeld(t *testing.T) {
	n, err := Start(Config{})
	must(t, err)
	c := connect(t, n, key(3))
	s := stall(n, Fault{Kind: Delay})
	send(t, c.ws, c.request("ping", struct{}{}))
	<-s.struck
	for range 2 {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
	n.Resume()
	if n.state.Running() != nil {
		t.Error("a closed node came back")
	}
}

func TestAllFundersAreNotified(t *testing.T) {
	n := start(t, Config{})
	id := open(t, n, 1)
	a, b, c := loggedInAs(t, n, key(1)), loggedInAs(t, n, key(1)), loggedInAs(t, n, key(3))
	c.call("close_app_session", closeOf(id, rows("15", "0")))
	for _, player := range []*client{a, b} {
		if f := player.next(); f.method != "bu" || f.params != `{"balance_updates":[{"asset":"usdc","amount":"15"}]}` {
			t.Errorf("notified %s %s", f.method, f.params)
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
	if _, err := n.OpenSession(gameDefinition(1), rows("60", "100")); err != nil {
		t.Fatal(err)
	}
	if _, err := n.OpenSession(gameDefinition(2), rows("60", "0")); err == nil ||
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

// TestLargeAndSmallAmounts: the database rounds at 18 digits and overflows at 46; the node ignores an asset's decimals.
func TestLargeAndSmallAmounts(t *testing.T) {
	n, c := startLoggedIn(t, Config{}, key(3))
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
	def := gameDefinition(1)
	def.Quorum = 0
	id := openGame(t, n, def)
	c := loggedInAs(t, n, key(1))
	if f := c.call("close_app_session", closeOf(id, rows("7", "8"))); f.refusal() !=
		"incorrect submit_state request: quorum not reached: 0 / 100" {
		t.Error(f.params)
	}
}
