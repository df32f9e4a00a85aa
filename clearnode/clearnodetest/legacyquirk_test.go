package clearnodetest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestLegacyTwoClosesThatMeetPayTwice, as the source has it: nothing locks the session, and the update finds it by its key.
func TestLegacyTwoClosesThatMeetPayTwice(t *testing.T) {
	n := start(t, Config{Protocol: Legacy})
	id := openLegacyDuel(t, n, 1)
	a, b := signedIn(t, n, key(3)), signedIn(t, n, key(1))
	h := hold(n, Fault{Kind: Stall, Session: id, Times: 2})
	a.send(a.request("close_app_session", legacyCloseOf(id, everybody("7", "8")), key(3)))
	b.send(b.request("close_app_session", legacyCloseOf(id, everybody("7", "8")), key(3)))
	<-h.struck
	<-h.struck
	close(h.release)
	for _, c := range []*elder{a, b} {
		if f := c.answer(); f.method != "close_app_session" || len(c.notes) != 1 {
			t.Errorf("answered %s %s after %d notifications", f.method, f.params, len(c.notes))
		}
	}
	if s := wantStatus(t, n, id, "closed"); s.Closes != 2 || len(s.Payouts) != 6 {
		t.Errorf("session %+v", s)
	}
	if n.MaxClosesInFlight() != 2 {
		t.Errorf("%d closes in flight", n.MaxClosesInFlight())
	}
	wantChecked(t, n, "closed 2 times", "paid out 30 of 15 usdc", "-10 usdc of "+playerA+" left", "-5 usdc of "+playerB+" left")
}

// TestLegacyOneConnectionIsServedInOrder: the second of two closes finds the session closed.
func TestLegacyOneConnectionIsServedInOrder(t *testing.T) {
	n := start(t, Config{Protocol: Legacy, Work: time.Millisecond})
	id := openLegacyDuel(t, n, 1)
	c := signedIn(t, n, key(3))
	for range 2 {
		c.send(c.request("close_app_session", legacyCloseOf(id, everybody("7", "8")), key(3)))
	}
	if f := c.answer(); f.params != `[{"app_session_id":"`+id+`","status":"closed"}]` || len(c.notes) != 1 || c.notes[0].id != c.notes[0].ts {
		t.Errorf("answered %s after %v", f.params, c.notes)
	}
	const want = "Failed to close application: virtual app not found or not open: record not found"
	if f := c.answer(); f.refusal() != want || len(c.notes) != 0 {
		t.Errorf("answered %s after %d notifications", f.params, len(c.notes))
	}
	if r := n.Closes(id); n.MaxClosesInFlight() != 1 || len(r) != 2 || r[0].Answer != "closed" || r[1].Answer != want {
		t.Errorf("closes %+v", r)
	}
	wantChecked(t, n)
}

// TestLegacyMoneyIsLost where the node asks less than it should. Check says so each time.
func TestLegacyMoneyIsLost(t *testing.T) {
	lowerJudge := strings.ToLower(judge)
	for _, tc := range []struct {
		it    string
		rows  []Allocation
		words []string
	}{
		{"all to a lower-case address",
			append(rows("0", "0"), Allocation{lowerJudge, "usdc", amount("15")}), []string{"paid 15 usdc to " + lowerJudge}},
		{"a funder's zero row in lower case",
			[]Allocation{{strings.ToLower(playerA), "usdc", amount("0")}, {playerB, "usdc", amount("15")}, {judge, "usdc", amount("0")}},
			[]string{"created 10 usdc", "10 usdc of " + playerA + " left"}},
		{"an asset that no row names",
			[]Allocation{{playerA, "weth", amount("0")}, {playerB, "weth", amount("0")}, {judge, "weth", amount("0")}},
			[]string{"10 usdc of " + playerA + " left", "5 usdc of " + playerB + " left"}},
		{"a funder whose row is of another asset",
			[]Allocation{{playerA, "weth", amount("0")}, {playerB, "usdc", amount("15")}, {judge, "usdc", amount("0")}},
			[]string{"created 10 usdc", "10 usdc of " + playerA + " left"}},
	} {
		t.Run(tc.it, func(t *testing.T) {
			n := start(t, Config{Protocol: Legacy})
			id := openLegacyDuel(t, n, 1)
			c := signedIn(t, n, key(3))
			if f := c.call("close_app_session", legacyCloseOf(id, tc.rows)); f.method != "close_app_session" {
				t.Fatal(f.params)
			}
			wantStatus(t, n, id, "closed")
			wantChecked(t, n, tc.words...)
		})
	}
}

// TestLegacyClosesRefused: what no recording shows. The texts are the source's.
func TestLegacyClosesRefused(t *testing.T) {
	n := start(t, Config{Protocol: Legacy})
	id := openLegacyDuel(t, n, 1)
	c := signedIn(t, n, key(3))
	at := n.cfg.Now().UnixMilli()
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
		c.send(fmt.Sprintf(`{"req":[9,"close_app_session",%s,%d],"sig":[%s]}`, tc.params, at, tc.sig))
		if f := c.answer(); f.refusal() != "Failed to close application: "+tc.want || f.id != 9 {
			t.Errorf("%s: %s", tc.params, f.value)
		}
	}
	for _, raw := range []string{`"usdc"`, `7`, `[1]`, `{"app_session_id":7}`, `{"allocations":[{"amount":"1e2000000000"}]}`, `{"allocations":[{"amount":"x"}]}`} {
		c.send(fmt.Sprintf(`{"req":[9,"close_app_session",[%s],%d],"sig":[]}`, raw, at))
		if f := c.answer(); !strings.HasPrefix(f.refusal(), "Failed to close application: invalid parameters format: ") {
			t.Errorf("%s: %s", raw, f.value)
		}
	}
	huge := append(rows("1e46", "0"), Allocation{judge, "usdc", amount("0")})
	const want = "Failed to close application: failed to credit participant: ERROR: numeric field overflow (SQLSTATE 22003)"
	if f := c.call("close_app_session", legacyCloseOf(id, huge)); f.refusal() != want {
		t.Error(f.params)
	}
	wantStatus(t, n, id, "open")
	wantChecked(t, n)
}

// TestLegacyAges: every call after the login, a ping too, has to be fresh; its error carries its own id.
func TestLegacyAges(t *testing.T) {
	at := &clock{}
	at.set(1795309613340)
	n := start(t, Config{Protocol: Legacy, Now: at.Now, MessageExpiry: 20 * time.Second})
	c := signedIn(t, n, key(3))
	now := at.Now()
	const failed = "Message timestamp validation failed: "
	for _, tc := range []struct {
		it   string
		at   time.Time
		want string
	}{
		{"as old as allowed", now.Add(-20 * time.Second), ""},
		{"a millisecond older", now.Add(-20*time.Second - time.Millisecond), failed + "timestamp expired: 2026-11-22T01:06:33.339Z older than 20 s"},
		{"an hour in the future", now.Add(time.Hour), ""},
		{"in seconds", time.UnixMilli(now.Unix()), failed + "invalid timestamp 1795309613: must be 13-digit Unix ms"},
	} {
		for _, method := range []string{"ping", "get_ledger_balances", "no_such_method"} {
			c.send(c.requestAt(tc.at, method, nil))
			want := tc.want
			if want == "" && method == "no_such_method" {
				want = "Unsupported method"
			}
			if f := c.answer(); f.refusal() != want || f.id != c.id {
				t.Errorf("%s, %s: %s", tc.it, method, f.value)
			}
		}
	}
}

// TestLegacyCloseAgesOnTheWire has a close held up until it is too old, which the node notices when it takes it up.
func TestLegacyCloseAgesOnTheWire(t *testing.T) {
	at := &clock{}
	at.set(1795309613340)
	n := start(t, Config{Protocol: Legacy, Now: at.Now})
	id := openLegacyDuel(t, n, 1)
	c := signedIn(t, n, key(3))
	h := hold(n, Fault{Kind: Delay, Session: id})
	c.send(c.request("close_app_session", legacyCloseOf(id, everybody("7", "8")), key(3)))
	<-h.struck
	at.add(61 * time.Second)
	close(h.release)
	const text = "Message timestamp validation failed: timestamp expired: 2026-11-22T01:06:53.34Z older than 60 s"
	if f := c.answer(); f.refusal() != text || len(c.notes) != 0 {
		t.Errorf("answered %s after %d notifications", f.params, len(c.notes))
	}
	want := CloseRecord{Received: at.Now(), Timestamp: 1795309613340, Answer: text}
	if r := n.Closes(id); len(r) != 1 || r[0] != want {
		t.Errorf("closes %+v", r)
	}
}

// TestLegacyNewestIsTold: of two connections of one login the later gets the notifications, whichever asks; and nobody does
// any more once one of them has ended.
func TestLegacyNewestIsTold(t *testing.T) {
	n := start(t, Config{Protocol: Legacy})
	older, newest := signedIn(t, n, key(3)), signedIn(t, n, key(3))
	first, second, third := openLegacyDuel(t, n, 1), openLegacyDuel(t, n, 2), openLegacyDuel(t, n, 3)
	if f := older.call("close_app_session", legacyCloseOf(first, everybody("7", "8"))); f.method != "close_app_session" || len(older.notes) != 0 {
		t.Errorf("%s after %d notifications", f.params, len(older.notes))
	}
	if f := newest.next(); f.method != "bu" || f.params != "[[]]" {
		t.Errorf("told %s", f.value)
	}
	if f := newest.call("close_app_session", legacyCloseOf(second, everybody("7", "8"))); f.method != "close_app_session" || len(newest.notes) != 1 {
		t.Errorf("%s after %d notifications", f.params, len(newest.notes))
	}
	older.leave()
	if f := newest.call("close_app_session", legacyCloseOf(third, everybody("7", "8"))); f.method != "close_app_session" || len(newest.notes) != 0 {
		t.Errorf("%s after %d notifications", f.params, len(newest.notes))
	}
	wantChecked(t, n)
}

// TestLegacyBuilds: what other builds answer.
func TestLegacyBuilds(t *testing.T) {
	n := start(t, Config{Protocol: Legacy, Legacy: LegacyBuild{AppSessionClosed: true, ErrFrames: true}})
	id := openLegacyDuel(t, n, 1)
	c := elderAt(t, n, key(3))
	if f := c.call("ping", nil); f.kind != "err" || f.refusal() != "Authentication required. Please send auth_request first." || f.id == c.id {
		t.Errorf("%s: %s", f.kind, f.value)
	}
	c = signedIn(t, n, key(3))
	if f := c.call("close_app_session", legacyCloseOf(id, everybody("7", "8"))); f.method != "app_session_closed" ||
		f.params != `[{"app_session_id":"`+id+`","status":"closed"}]` {
		t.Errorf("answered %s", f.value)
	}
	f := c.call("close_app_session", legacyCloseOf(id, everybody("7", "8")))
	want := fmt.Sprintf(`[%d,-32603,"Failed to close application: virtual app not found or not open: record not found"]`, c.id)
	if f.kind != "err" || string(f.value) != want {
		t.Errorf("answered %s %s", f.kind, f.value)
	}
	wantChecked(t, n)
}

// TestLegacyLawfulClosesBalance closes sessions with random deposits by random splits that have a row for everybody.
func TestLegacyLawfulClosesBalance(t *testing.T) {
	n := start(t, Config{Protocol: Legacy})
	c := signedIn(t, n, key(3))
	nonce := uint64(0)
	rapid.Check(t, func(t *rapid.T) {
		nonce++
		a, b := rapid.Int64Range(0, 1e9).Draw(t, "a"), rapid.Int64Range(0, 1e9).Draw(t, "b")
		to := rapid.Int64Range(0, a+b).Draw(t, "to a")
		units := func(x, y int64) []Allocation {
			return everybody(fmt.Sprintf("%de-6", x), fmt.Sprintf("%de-6", y))
		}
		for _, f := range units(a, b) {
			n.Fund([20]byte(addressBytes(f.Participant)), f.Asset, f.Amount)
		}
		id, err := n.OpenSession(duel(nonce), units(a, b))
		if err != nil {
			t.Fatal(err)
		}
		if f := c.call("close_app_session", legacyCloseOf(id, units(to, a+b-to))); f.method != "close_app_session" {
			t.Fatal(f.params)
		}
		if err := n.Check(); err != nil {
			t.Fatal(err)
		}
	})
}
