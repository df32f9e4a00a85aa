package clearnodetest

import (
	"fmt"
	"strings"
	"testing"

	"settled/clearnode/clearnodetest/internal/legacy"
)

// TestLegacyReads covers what no recording shows about lists. A login sees only its own entries of a session's account.
func TestLegacyReads(t *testing.T) {
	n := start(t, Config{Protocol: Legacy})
	id, c := open(t, n, 1), loggedInAs(t, n, key(1))
	s, _ := n.Session(id)
	row := fmt.Sprintf(`{"app_session_id":"%s","status":"open","participants":["%s","%s","%s"],"protocol":"NitroRPC/0.2",`+
		`"challenge":86400,"weights":[0,0,100],"quorum":100,"version":%d,"nonce":1}`, id, playerA, playerB, judge, s.Version)
	for _, tc := range []struct {
		method string
		param  any
		want   string // the result, or after ! the error
	}{
		{"get_app_sessions", map[string]string{"participant": playerA}, `[[` + row + `]]`},
		{"get_app_sessions", map[string]string{"participant": playerA, "status": "open"}, `[[` + row + `]]`},
		{"get_app_sessions", map[string]string{"participant": playerA, "status": "closed"}, `[[]]`},
		{"get_app_sessions", map[string]string{"participant": strings.ToLower(playerA)}, `[[]]`},
		{"get_app_sessions", map[string]any{"participant": playerA, "limit": 1}, "!Failed to get app sessions: missing participant"},
		{"get_app_definition", map[string]string{"app_session_id": "0x11"}, "!Failed to get app definition: failed to find application: record not found"},
		{"get_app_definition", nil, "!Failed to get app definition: missing account ID"},
		{"get_app_definition", "0x11", "!Failed to get app definition: missing account ID"},
		{"get_ledger_balances", map[string]string{"participant": id}, `[[{"asset":"usdc","amount":"10"}]]`},
		{"get_ledger_balances", map[string]string{"participant": playerA}, `[[{"asset":"usdc","amount":"0"}]]`},
		{"get_ledger_balances", map[string]string{"participant": playerB}, `[[]]`},
		{"get_ledger_balances", nil, `[[]]`},
		{"get_ledger_entries", nil, "!Failed to get ledger entries: missing account_id"},
		{"get_ledger_entries", map[string]string{"account_id": id, "asset": "weth"}, `[[]]`},
		{"get_ledger_entries", map[string]string{"account_id": playerB}, `[[]]`},
		{"get_assets", map[string]any{"chain_id": 2}, `[[]]`},
		{"get_assets", map[string]any{"chain_id": "1"}, `[[{"token":"0x1111111111111111111111111111111111111111","chain_id":1,"symbol":"usdc","decimals":6},` +
			`{"token":"0x2222222222222222222222222222222222222222","chain_id":1,"symbol":"weth","decimals":18}]]`},
		{"get_rpc_history", nil, "!Unsupported method"},
	} {
		f := c.call(tc.method, tc.param)
		if got := strings.Replace(tc.want, "!", "", 1); f.refusal() != got && f.params != got || f.id != c.id {
			t.Errorf("%s %v: %s, want %s", tc.method, tc.param, f.value, tc.want)
		}
	}
	f := c.call("get_ledger_entries", map[string]string{"account_id": id})
	if !strings.HasPrefix(f.params, `[[{"id":4,"account_id":"`+id+`","account_type":0,"asset":"usdc","participant":"`+playerA+`","credit":"10","debit":"0",`) ||
		strings.Count(f.params, "account_id") != 1 {
		t.Error(f.params)
	}
}

// TestLegacyCreationsRefused covers refused creations, and one that the node should refuse.
func TestLegacyCreationsRefused(t *testing.T) {
	n := start(t, Config{Protocol: Legacy})
	n.Fund(walletOf(playerA), "usdc", amount("10"))
	c := loggedInAs(t, n, key(1))
	for _, tc := range []struct {
		change func(*legacy.Creation)
		want   string
	}{
		{func(p *legacy.Creation) { p.Definition.Participants = p.Definition.Participants[:1] }, "invalid number of participants"},
		{func(p *legacy.Creation) { p.Allocations = p.Allocations[:2] }, "number of allocations must be equal to participants"},
		{func(p *legacy.Creation) { p.Definition.Weights = p.Definition.Weights[:2] }, "number of weights must be equal to participants"},
		{func(p *legacy.Creation) { p.Allocations[0].Amount = amount("-1") }, "invalid allocation"},
		{func(p *legacy.Creation) { p.Allocations[0].Amount = amount("11") }, "insufficient funds"},
		{func(p *legacy.Creation) { p.Allocations[1].Amount = amount("1") }, "missing signature for participant " + playerB},
		{func(p *legacy.Creation) { p.Allocations[0].Participant = strings.ToLower(playerA) }, "missing signature for participant " + strings.ToLower(playerA)},
		{func(p *legacy.Creation) { p.Definition.Weights[0] = 1 << 40 }, `failed to record virtual app: ERROR: value "1099511627776" is out of range for type integer (SQLSTATE 22003)`},
		{func(p *legacy.Creation) { p.Definition.Protocol = "anything" }, ""},
		{func(p *legacy.Creation) { p.Allocations[0].Amount = amount("0"); p.Definition.Protocol = "anything" }, "failed to record virtual app: " +
			`ERROR: duplicate key value violates unique constraint "app_sessions_session_id_key" (SQLSTATE 23505)`},
	} {
		p := legacyGame(1, allRows("10", "0"))
		tc.change(&p)
		want := ""
		if tc.want != "" {
			want = "Failed to create application: " + tc.want
		}
		if f := c.call("create_app_session", p); f.refusal() != want {
			t.Errorf("%s, want %q", f.params, tc.want)
		}
	}
	wantChecked(t, n)
}

// TestLegacyDefaults: nonce and version default to the request's time, quorum and protocol to the database's defaults.
func TestLegacyDefaults(t *testing.T) {
	at := newClock(1795309613340)
	_, c := startLoggedIn(t, Config{Protocol: Legacy, Now: at.Now}, key(1))
	def := legacy.Definition{Participants: []string{playerA, playerB}, Weights: []uint64{50, 50}}
	if f := c.call("create_app_session", legacy.Creation{Definition: def, Allocations: rows("0", "0")}); f.refusal() != "" {
		t.Fatal(f.params)
	}
	list := c.call("get_app_sessions", map[string]string{"participant": playerA})
	for _, want := range []string{`"protocol":"NitroRPC/0.2"`, `"quorum":100`, `"version":1795309613340`, `"nonce":1795309613340`} {
		if !strings.Contains(list.params, want) {
			t.Errorf("%s, want %s", list.params, want)
		}
	}
}

// TestLegacyOpenSession opens sessions without signatures with up to one row for each participant.
func TestLegacyOpenSession(t *testing.T) {
	n := start(t, Config{Protocol: Legacy, Faucet: amount("100")})
	two := append(rows("60", "100"), Allocation{Participant: playerA, Asset: "weth", Amount: amount("1")})
	if _, err := n.OpenSession(gameDefinition(1), two); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		rows []Allocation
		want string
	}{
		{rows("60", "0"), "insufficient funds"},
		{append(two, Allocation{Participant: playerB, Asset: "weth", Amount: amount("1")}), "number of allocations must be equal to participants"},
	} {
		if _, err := n.OpenSession(gameDefinition(2), tc.rows); err == nil || err.Error() != "clearnodetest: open session: "+tc.want {
			t.Errorf("opened with %v, want %s", err, tc.want)
		}
	}
	wantChecked(t, n)
}
