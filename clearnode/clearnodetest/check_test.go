package clearnodetest

import (
	"testing"

	"settled/clearnode/clearnodetest/internal/server"

	"github.com/ethereum/go-ethereum/common"
)

// TestCheckFinds violates the node's rules, which no request can.
func TestCheckFinds(t *testing.T) {
	for _, tc := range []struct {
		it    string
		spoil func(*Node, *server.Session)
		words []string
	}{
		{"nothing", func(*Node, *server.Session) {}, nil},
		{"an unsigned close", func(_ *Node, s *server.Session) { s.Closes[0] = []string{playerA} }, []string{"closed with weight 0 of 100"}},
		{"a stranger's close", func(_ *Node, s *server.Session) { s.Closes[0] = []string{judge, "0x00"} }, []string{"closed with weight 0 of 100"}},
		{"money from nowhere", func(n *Node, _ *server.Session) {
			d := n.state.Ledger.Begin()
			_ = d.Record(playerA, playerA, "usdc", amount("0.000001"))
			d.Commit()
		}, []string{"created 0.000001 usdc"}},
		{"money gone", func(n *Node, _ *server.Session) { n.state.Ledger.Funded["weth"] = amount("3") }, []string{"destroyed 3 weth"}},
		{"an overpaid session", func(_ *Node, s *server.Session) {
			s.Payouts = append(s.Payouts, Allocation{Participant: playerA, Asset: "usdc", Amount: amount("1")})
		}, []string{"paid out 16 of 15 usdc"}},
	} {
		t.Run(tc.it, func(t *testing.T) {
			n := start(t, Config{})
			id, c := open(t, n, 1), loggedInAs(t, n, key(3))
			c.call("close_app_session", closeOf(id, rows("7", "8")))
			n.state.Lock()
			tc.spoil(n, n.state.Sessions.ByID[id])
			n.state.Unlock()
			wantChecked(t, n, tc.words...)
		})
	}
}

// TestVersions changes a 0.4 session by each intent.
func TestVersions(t *testing.T) {
	n := start(t, Config{})
	def := gameDefinition(1)
	def.Protocol = "NitroRPC/0.4"
	id := openGame(t, n, def)
	n.Fund(common.HexToAddress(playerA), "usdc", amount("2"))
	c := loggedInAs(t, n, key(3))
	for _, tc := range []struct {
		it      string
		intent  string
		version uint64
		rows    []Allocation
		want    string
	}{
		{"skips a version", "operate", 3, rows("5", "10"), "incorrect app state: incorrect version: expected 2, got 3"},
		{"another intent", "rob", 2, rows("5", "10"), "incorrect app state: unsupported intent: rob"},
		{"moves", "operate", 2, rows("5", "10"), ""},
		{"moves more than there is", "operate", 3, rows("6", "10"),
			"incorrect operate request: non-zero allocations sum delta: asset usdc not fully redistributed"},
		{"deposits unsigned", "deposit", 3, rows("7", "10"), "incorrect deposit request: depositor signature is required"},
		{"deposits less", "deposit", 3, rows("4", "10"), "incorrect deposit request: decreased allocation for participant " + playerA},
		{"deposits nothing", "deposit", 3, rows("5", "10"), "incorrect deposit request: non-positive allocations sum delta"},
		{"withdraws more", "withdraw", 3, rows("6", "10"), "incorrect withdrawal request: increased allocation for participant " + playerA},
		{"withdraws nothing", "withdraw", 3, rows("5", "10"), "incorrect withdrawal request: non-negative allocations sum delta"},
		{"withdraws", "withdraw", 3, rows("5", "4"), ""},
	} {
		f := c.call("submit_app_state", map[string]any{"app_session_id": id, "intent": tc.intent, "version": tc.version, "allocations": tc.rows})
		if f.refusal() != tc.want {
			t.Errorf("%s: %s", tc.it, f.params)
		}
	}
	deposit := map[string]any{"app_session_id": id, "intent": "deposit", "version": 4, "allocations": rows("7", "4")}
	send(t, c.ws, c.request("submit_app_state", deposit, key(3), key(1)))
	if f := c.answer(); f.refusal() != "" {
		t.Error(f.params)
	}
	c.wantRefusal("", "close_app_session", closeOf(id, rows("11", "0")))
	if s := wantStatus(t, n, id, "closed"); s.Version != 5 || len(s.Deposits) != 3 || len(s.Payouts) != 3 {
		t.Errorf("session %+v", s)
	}
	wantChecked(t, n)
}

// TestDefinitionsRefused covers definitions that the node refuses.
func TestDefinitionsRefused(t *testing.T) {
	_, c := startLoggedIn(t, Config{}, key(3))
	for _, tc := range []struct {
		change func(*Definition)
		want   string
	}{
		{func(d *Definition) { d.Protocol = "NitroRPC/1.0" }, "unsupported protocol: NitroRPC/1.0"},
		{func(d *Definition) { d.Participants = d.Participants[:1] }, "invalid number of participants"},
		{func(d *Definition) { d.Weights = d.Weights[:2] }, "number of weights must be equal to participants"},
		{func(d *Definition) { d.Nonce = 0 }, "nonce is zero or not provided"},
		{func(d *Definition) { d.Weights = []int64{-1, 0, 101} }, "participant " + playerA + " weight cannot be negative"},
		{func(d *Definition) { d.Quorum = 101 }, "target quorum (101) cannot be greater than total sum of weights (100)"},
		{func(d *Definition) { d.Weights = []int64{0, 0, 1 << 40} }, "failed to create application session"},
		{func(*Definition) {}, ""},
	} {
		def := gameDefinition(1)
		tc.change(&def)
		if f := c.call("create_app_session", creationOf(def, nil)); f.refusal() != tc.want {
			t.Errorf("%s, want %q", f.params, tc.want)
		}
	}
}

// TestSessionKeySpends deposits by a session key up to its allowance.
func TestSessionKeySpends(t *testing.T) {
	n := start(t, Config{Faucet: amount("100")})
	c := connect(t, n, key(1))
	c.login(authParams{
		Address: playerA, SessionKey: addressOf(key(0x101)), Application: "cnharness", ExpiresAt: 4e9,
		Allowances: []map[string]any{{"asset": "usdc", "amount": "15"}},
	})
	other := gameDefinition(9)
	other.Application = "otherapp"
	for i, tc := range []struct {
		def  Definition
		row  Allocation
		want string
	}{
		{gameDefinition(1), Allocation{Participant: playerA, Asset: "usdc", Amount: amount("10")}, ""},
		{gameDefinition(2), Allocation{Participant: playerA, Asset: "usdc", Amount: amount("10")},
			"session key spending validation failed: operation denied: insufficient session key allowance: 10 required, 5 available"},
		{gameDefinition(2), Allocation{Participant: playerA, Asset: "weth", Amount: amount("1")},
			"session key spending validation failed: operation denied: asset weth not allowed in session key spending cap"},
		{gameDefinition(2), Allocation{Participant: playerB, Asset: "usdc", Amount: amount("1")}, "missing signature for participant " + playerB},
		{other, Allocation{Participant: playerA, Asset: "usdc", Amount: amount("1")}, "session key application validation failed: session key application mismatch: " +
			"session key is for 'cnharness', but app session is for 'otherapp'"},
	} {
		send(t, c.ws, c.request("create_app_session", creationOf(tc.def, []Allocation{tc.row}), key(0x101)))
		if f := c.answer(); f.refusal() != tc.want {
			t.Errorf("%d: %s", i, f.params)
		}
	}
}
