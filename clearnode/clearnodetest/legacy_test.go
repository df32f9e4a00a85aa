package clearnodetest

import (
	"fmt"
	"strings"
	"testing"
)

// TestLegacyMoneyIsLost closes sessions with rows that the node should refuse. Check reports the loss.
func TestLegacyMoneyIsLost(t *testing.T) {
	lowerJudge := strings.ToLower(judge)
	for _, tc := range []struct {
		it    string
		rows  []Allocation
		words []string
	}{
		{"all to a lower-case address",
			append(rows("0", "0"), Allocation{Participant: lowerJudge, Asset: "usdc", Amount: amount("15")}), []string{"paid 15 usdc to " + lowerJudge}},
		{"a funder's zero row in lower case",
			[]Allocation{{Participant: strings.ToLower(playerA), Asset: "usdc", Amount: amount("0")}, {Participant: playerB, Asset: "usdc", Amount: amount("15")}, {Participant: judge, Asset: "usdc", Amount: amount("0")}},
			[]string{"created 10 usdc", "10 usdc of " + playerA + " left"}},
		{"an asset that no row names",
			[]Allocation{{Participant: playerA, Asset: "weth", Amount: amount("0")}, {Participant: playerB, Asset: "weth", Amount: amount("0")}, {Participant: judge, Asset: "weth", Amount: amount("0")}},
			[]string{"10 usdc of " + playerA + " left", "5 usdc of " + playerB + " left"}},
		{"a funder whose row is of another asset",
			[]Allocation{{Participant: playerA, Asset: "weth", Amount: amount("0")}, {Participant: playerB, Asset: "usdc", Amount: amount("15")}, {Participant: judge, Asset: "usdc", Amount: amount("0")}},
			[]string{"created 10 usdc", "10 usdc of " + playerA + " left"}},
	} {
		t.Run(tc.it, func(t *testing.T) {
			n := start(t, Config{Protocol: Legacy})
			id, c := open(t, n, 1), loggedInAs(t, n, key(3))
			if f := c.call("close_app_session", closeOf(id, tc.rows)); f.method != "close_app_session" {
				t.Fatal(f.params)
			}
			wantStatus(t, n, id, "closed")
			wantChecked(t, n, tc.words...)
		})
	}
}

// TestLegacyClosesRefused covers what no recording shows. The texts are the source's.
func TestLegacyClosesRefused(t *testing.T) {
	n := start(t, Config{Protocol: Legacy})
	id, c := open(t, n, 1), loggedInAs(t, n, key(3))
	at := n.state.Config.Now().UnixMilli()
	for _, tc := range []struct{ params, sig, want string }{
		{`[]`, ``, "missing parameters"},
		{`null`, ``, "missing parameters"},
		{`[{}]`, ``, "missing required parameters: app_id or allocations"},
		{`[{"app_session_id":"` + id + `","allocations":[]}]`, ``, "missing required parameters: app_id or allocations"},
		{`[{"app_session_id":"` + id + `","allocations":[{"participant":"0x1","asset":""}]}]`, ``, "invalid allocation row"},
		{`[{"app_session_id":"` + id + `","allocations":[{"participant":"0x1","asset":"usdc"}]}]`, `"zz"`,
			"invalid signature hex: hex string without 0x prefix"},
		{`[{"app_session_id":"` + id + `","allocations":[{"participant":"0x1","asset":"usdc"}]}]`, `"0x00"`,
			"invalid signature length: got 1, want 65"},
		{`[{"app_session_id":"` + id + `","allocations":[{"participant":"0x1","asset":"usdc"}]}]`, `"0x` + strings.Repeat("09", 65) + `"`,
			"signature recovery failed: invalid signature recovery id"},
	} {
		send(t, c.ws, fmt.Sprintf(`{"req":[9,"close_app_session",%s,%d],"sig":[%s]}`, tc.params, at, tc.sig))
		if f := c.answer(); f.refusal() != "Failed to close application: "+tc.want || f.id != 9 {
			t.Errorf("%s: %s", tc.params, f.value)
		}
	}
	for _, raw := range []string{`"usdc"`, `7`, `[1]`, `{"app_session_id":7}`, `{"allocations":[{"amount":"1e2000000000"}]}`, `{"allocations":[{"amount":"x"}]}`} {
		send(t, c.ws, fmt.Sprintf(`{"req":[9,"close_app_session",[%s],%d],"sig":[]}`, raw, at))
		if f := c.answer(); !strings.HasPrefix(f.refusal(), "Failed to close application: invalid parameters format: ") {
			t.Errorf("%s: %s", raw, f.value)
		}
	}
	huge := append(rows("1e46", "0"), Allocation{Participant: judge, Asset: "usdc", Amount: amount("0")})
	const want = "Failed to close application: failed to credit participant: ERROR: numeric field overflow (SQLSTATE 22003)"
	c.wantRefusal(want, "close_app_session", closeOf(id, huge))
	wantStatus(t, n, id, "open")
	wantChecked(t, n)
}

// TestLegacyNewestIsNotified: of two connections of one login the later receives the notifications, whichever sends the request.
// After one of them ends, neither does.
func TestLegacyNewestIsNotified(t *testing.T) {
	n := start(t, Config{Protocol: Legacy})
	older, newest := loggedInAs(t, n, key(3)), loggedInAs(t, n, key(3))
	first, second, third := open(t, n, 1), open(t, n, 2), open(t, n, 3)
	if f := older.call("close_app_session", closeOf(first, allRows("7", "8"))); f.method != "close_app_session" || len(older.notifications) != 0 {
		t.Errorf("%s after %d notifications", f.params, len(older.notifications))
	}
	if f := newest.next(); f.method != "bu" || f.params != "[[]]" {
		t.Errorf("notified %s", f.value)
	}
	if f := newest.call("close_app_session", closeOf(second, allRows("7", "8"))); f.method != "close_app_session" || len(newest.notifications) != 1 {
		t.Errorf("%s after %d notifications", f.params, len(newest.notifications))
	}
	older.leave()
	if f := newest.call("close_app_session", closeOf(third, allRows("7", "8"))); f.method != "close_app_session" || len(newest.notifications) != 0 {
		t.Errorf("%s after %d notifications", f.params, len(newest.notifications))
	}
	wantChecked(t, n)
}

// TestLegacyBuilds checks what other builds answer.
func TestLegacyBuilds(t *testing.T) {
	n := start(t, Config{Protocol: Legacy, Legacy: LegacyBuild{AppSessionClosed: true, ErrFrames: true}})
	id := open(t, n, 1)
	c := connect(t, n, key(3))
	if f := c.call("ping", nil); f.kind != "err" || f.refusal() != "Authentication required. Please send auth_request first." || f.id == c.id {
		t.Errorf("%s: %s", f.kind, f.value)
	}
	c = loggedInAs(t, n, key(3))
	if f := c.call("close_app_session", closeOf(id, allRows("7", "8"))); f.method != "app_session_closed" ||
		f.params != `[{"app_session_id":"`+id+`","status":"closed"}]` {
		t.Errorf("answered %s", f.value)
	}
	f := c.call("close_app_session", closeOf(id, allRows("7", "8")))
	want := fmt.Sprintf(`[%d,-32603,"Failed to close application: virtual app not found or not open: record not found"]`, c.id)
	if f.kind != "err" || string(f.value) != want {
		t.Errorf("answered %s %s", f.kind, f.value)
	}
	wantChecked(t, n)
}
