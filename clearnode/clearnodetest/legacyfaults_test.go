package clearnodetest

import (
	"testing"
)

// TestLegacyFaultsAtTheLogin: faults apply to the login as to other calls.
func TestLegacyFaultsAtTheLogin(t *testing.T) {
	n := start(t, Config{Protocol: Legacy})
	c := connect(t, n, key(3))
	n.Inject(Fault{Method: "auth_request", Kind: Error, Text: "not now"})
	n.Inject(Fault{Method: "auth_verify", Kind: ErrorApplied, Text: "not so"})
	if f := c.legacyLogin(judge); f.refusal() != "not now" {
		t.Error(f.params)
	}
	if f := c.legacyLogin(judge); f.refusal() != "not so" {
		t.Error(f.params)
	}
	if f := c.call("ping", nil); f.method != "pong" || len(c.notifications) != 2 {
		t.Errorf("%s after %d notifications", f.params, len(c.notifications))
	}
}

// TestLegacyOutage makes every call that needs the database while it is away.
func TestLegacyOutage(t *testing.T) {
	const away = "failed to connect to `user=postgres database=clearnode`: " +
		"127.0.0.1:5432 (127.0.0.1): dial error: dial tcp 127.0.0.1:5432: connect: connection refused"
	n := start(t, Config{Protocol: Legacy})
	id := open(t, n, 1)
	n.Outage(true)
	c := connect(t, n, key(3))
	if f := c.legacyLogin(judge); f.method != "auth_verify" {
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
		if f.refusal() != want || len(c.notifications) != 0 {
			t.Errorf("%s: %s", method, f.params)
		}
	}
	c.wantRefusal("Failed to close application: "+away, "close_app_session", closeOf(id, allRows("7", "8")))
	created := legacyGame(2, allRows("0", "0"))
	c.wantRefusal("Failed to create application: "+away, "create_app_session", created)
	n.Outage(false)
	if f := c.call("close_app_session", closeOf(id, allRows("7", "8"))); f.method != "close_app_session" {
		t.Error(f.params)
	}
	wantChecked(t, n)
}
