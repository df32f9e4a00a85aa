package clearnodetest

import (
	"testing"

	"settled/clearnode/clearnodetest/internal/nitronode"
)

// TestV1Outage makes every call while the database is away. What is in memory is reported; the rest fails with the texts of the
// real node's source.
func TestV1Outage(t *testing.T) {
	n := startNitronode(t, Config{})
	id, c := open(t, n, 1), connectNitronode(t, n)
	wallet, session := map[string]string{"wallet": judge}, map[string]string{"app_session_id": id}
	create := map[string]any{
		"definition": map[string]any{
			"application_id": "cnharness", "quorum": 100, "nonce": "2",
			"participants": []map[string]any{{"wallet_address": judge, "signature_weight": 100}},
		},
		"quorum_sigs": []string{StateUpdate{}.Sign(key(3))},
	}
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
		{submitMethod, nitronode.ParamsOf(closeAt(id, 4, rows("10", "5")), key(3)), "failed to process app state update"},
	} {
		if f := c.call(tc.method, tc.payload); f.refusal() != tc.want {
			t.Errorf("%s: %s", tc.method, f.payload)
		}
	}
	n.Outage(false)
	if got := c.submit(closeAt(id, 4, rows("10", "5"))); got != "" {
		t.Error(got)
	}
}

// TestEscrow: a close is refused while a participant can't be paid.
func TestEscrow(t *testing.T) {
	n := startNitronode(t, Config{})
	id, c := open(t, n, 1), connectNitronode(t, n)
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
