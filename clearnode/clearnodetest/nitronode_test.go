package clearnodetest

import (
	"strings"
	"testing"

	"settled/clearnode/clearnodetest/internal/nitronode"

	"github.com/shopspring/decimal"
)

const noSession = "0x1111111111111111111111111111111111111111111111111111111111111111"

// wethRows are the players' weth.
func wethRows(a, b string) []Allocation {
	return []Allocation{{Participant: playerA, Asset: "weth", Amount: amount(a)}, {Participant: playerB, Asset: "weth", Amount: amount(b)}}
}

// TestV1Intents changes a session by each intent.
func TestV1Intents(t *testing.T) {
	n := startNitronode(t, Config{Faucet: amount("10")})
	id, err := n.OpenSession(gameDefinition(1), wethRows("10", "5"))
	must(t, err)
	c := connectNitronode(t, n)
	a, b := strings.ToLower(playerA), strings.ToLower(playerB)
	withdraw := func(version uint64, rows []Allocation) StateUpdate {
		return StateUpdate{Session: id, Intent: IntentWithdraw, Version: version, Allocations: rows}
	}
	for _, tc := range []struct {
		it   string
		u    StateUpdate
		want string
	}{
		{"moves", operate(id, 4, wethRows("5", "10")), ""},
		{"withdraws more", withdraw(5, wethRows("6", "10")), "withdraw intent cannot increase allocations: participant " + a + ", asset weth"},
		{"withdraws what isn't there", withdraw(5, append(wethRows("5", "10"), rows("1", "0")...)),
			"withdraw intent cannot add new allocation for participant " + a + ", asset usdc"},
		{"withdraws without naming all", withdraw(5, wethRows("5", "10")[:1]),
			"withdraw intent missing allocation for participant " + b + ", asset weth with current amount 10"},
		{"withdraws nothing", withdraw(5, wethRows("5", "10")), ""},
		{"withdraws", withdraw(6, wethRows("5", "4")), ""},
		{"closes with more than there is", closeAt(id, 7, append(wethRows("5", "4"), rows("1", "0")...)),
			"close intent contains unexpected allocation for participant " + a + ", asset usdc with amount 1"},
		{"empties a part", operate(id, 7, wethRows("9", "0")), ""},
		{"leaves out a zero", operate(id, 8, wethRows("9", "0")[:1]), ""},
		{"names an asset that nobody has", operate(id, 9, []Allocation{{Participant: playerA, Asset: "doge", Amount: amount("0")}}),
			"failed to get asset decimals: asset 'doge' is not supported"},
		{"closes at an older version", closeAt(id, 8, wethRows("9", "0")), "invalid app session version: expected 9, got 8"},
		{"closes", closeAt(id, 9, wethRows("9", "0")), ""},
		{"closes twice", closeAt(id, 10, wethRows("9", "0")), "app session is already closed"},
		{"another session", closeAt(noSession, 2, nil), "app session not found"},
	} {
		if got := c.submit(tc.u); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.it, got, tc.want)
		}
	}
	s := wantStatus(t, n, id, "closed")
	if s.Version != 9 || s.Closes != 1 || len(s.Deposits) != 2 {
		t.Errorf("%+v", s)
	}
	wantSplit(t, s.Payouts, b+" 6 weth", a+" 9 weth")
	wantSplit(t, s.Current)
	wantChecked(t, n)
}

// TestWithdrawRefused: as on the real node, an asset with fewer than 18 decimals can't be withdrawn.
func TestWithdrawRefused(t *testing.T) {
	n := startNitronode(t, Config{})
	id := open(t, n, 1)
	err := n.Submit(StateUpdate{Session: id, Intent: IntentWithdraw, Version: 4, Allocations: rows("9", "5")}, key(3))
	if err == nil || err.Error() != "invalid withdraw amount for allocation with asset usdc and participant "+strings.ToLower(playerA)+
		": amount exceeds maximum decimal precision: max 6 decimals allowed, got 18" {
		t.Error(err)
	}
}

// TestV1Data: an update that has session data replaces it.
func TestV1Data(t *testing.T) {
	n := startNitronode(t, Config{})
	id, c := open(t, n, 1), connectNitronode(t, n)
	u := operate(id, 4, rows("15", "0"))
	u.Data = strings.Repeat("x", 1024)
	if got := c.submit(u) + c.submit(closeAt(id, 5, rows("15", "0"))); got != "" {
		t.Fatal(got)
	}
	if f := c.call("app_sessions.v1.get_app_sessions", map[string]any{"app_session_id": strings.ToUpper(id[2:])}); f.refusal() != "invalid app_session_id" {
		t.Error(f.payload)
	}
	var list sessionList
	c.call("app_sessions.v1.get_app_sessions", map[string]any{"app_session_id": "0x" + strings.ToUpper(id[2:])}).into(t, &list)
	if len(list.Sessions) != 1 || list.Sessions[0].Data != u.Data || list.Sessions[0].Version != "5" {
		t.Errorf("%+v", list)
	}
	for _, a := range list.Sessions[0].Allocations {
		if !a.Amount.IsZero() {
			t.Errorf("%+v left after the close", a)
		}
	}
}

// TestV1OpenSession: each deposit is a version and a transaction. A failed one leaves nothing behind.
func TestV1OpenSession(t *testing.T) {
	n := startNitronode(t, Config{Faucet: decimal.NewFromInt(100)})
	def := gameDefinition(1)
	for _, tc := range []struct {
		rows []Allocation
		want string
	}{
		{rows("101", "5"), "clearnodetest: open session: insufficient funds: " + playerA + " for asset usdc"},
		{[]Allocation{{Participant: addressOf(key(5)), Asset: "usdc", Amount: amount("1")}}, "clearnodetest: open session: allocation to non-participant " + addressOf(key(5))},
		{rows("-1", "5"), "clearnodetest: open session: negative allocation: -1 for asset usdc"},
	} {
		if _, err := n.OpenSession(def, tc.rows); err == nil || err.Error() != tc.want {
			t.Errorf("%v, want %q", err, tc.want)
		}
	}
	id, err := n.OpenSession(def, rows("10", "0"))
	must(t, err)
	must(t, n.Deposit(id, walletOf(playerB), "usdc", amount("5")))
	if err := n.Deposit(id, walletOf(playerB), "doge", amount("5")); err == nil {
		t.Error("deposited an asset that the node doesn't have")
	}
	s := wantStatus(t, n, id, "open")
	if s.Version != 3 || len(s.Deposits) != 2 {
		t.Errorf("%+v", s)
	}
	if _, err := n.OpenSession(def, nil); err == nil {
		t.Error("opened the same session twice")
	}
	def.Weights[2] = 256
	if _, err := n.OpenSession(def, nil); err == nil {
		t.Error("opened a session with a weight that the wire can't say")
	}
	wantChecked(t, n)
}

// TestV1Rivals: of two updates at one version that pass their checks together, the first to commit wins.
func TestV1Rivals(t *testing.T) {
	n := startNitronode(t, Config{})
	id := open(t, n, 1)
	s := stall(n, Fault{Kind: Stall, Method: submitMethod, Session: id})
	c := connectNitronode(t, n)
	c.send(submitMethod, nitronode.ParamsOf(operate(id, 4, rows("7", "8")), key(3)))
	<-s.struck
	if err := n.Submit(closeAt(id, 4, rows("10", "5")), key(1)); err == nil || err.Error() != "quorum not met: achieved 0, required 100" {
		t.Error(err)
	}
	if err := n.Submit(closeAt(id, 4, rows("10", "5")), key(3)); err != nil {
		t.Error(err)
	}
	close(s.release)
	if got := c.next().refusal(); got != "failed to update app session: concurrent modification detected for session "+id {
		t.Error(got)
	}
	if s := wantStatus(t, n, id, "closed"); s.Version != 4 {
		t.Errorf("%+v", s)
	}
	all := n.Submissions(id)
	if len(all) != 3 || all[0].Committed || !all[2].Committed || all[2].Answer != "closed" || all[2].Intent != IntentClose ||
		all[0].Version != "4" || len(n.Closes(id)) != 2 || n.MaxClosesInFlight() != 2 {
		t.Errorf("%+v", all)
	}
	wantChecked(t, n)
}

// TestV1RivalMeanwhile: an update that reads the session before a concurrent close and its allocations after it is refused for
// its rows. A list that is read so shows an open session with nothing in it.
func TestV1RivalMeanwhile(t *testing.T) {
	n := startNitronode(t, Config{})
	id := open(t, n, 1)
	c, d := connectNitronode(t, n), connectNitronode(t, n)
	s := stall(n, Fault{Kind: StallRead, Session: id, Times: 2})
	c.send(submitMethod, nitronode.ParamsOf(operate(id, 4, rows("7", "8")), key(3)))
	<-s.struck
	d.send("app_sessions.v1.get_app_sessions", map[string]string{"app_session_id": id})
	<-s.struck
	must(t, n.Submit(closeAt(id, 4, rows("10", "5")), key(3)))
	close(s.release)
	if got := c.next().refusal(); got != "operate intent allocation mismatch for asset usdc: total allocations 15, session balance 0" {
		t.Error(got)
	}
	var list sessionList
	d.next().into(t, &list)
	if s := list.Sessions[0]; s.Status != "open" || s.Version != "3" || !s.Allocations[0].Amount.IsZero() || !s.Allocations[1].Amount.IsZero() {
		t.Errorf("%+v", s)
	}
	wantChecked(t, n)
}

// TestV1SessionKeys: a session key counts for its wallet, only in its application, and only as a session key.
func TestV1SessionKeys(t *testing.T) {
	n := startNitronode(t, Config{})
	id := open(t, n, 1)
	other := gameDefinition(2)
	other.Application = "otherapp"
	n.AddSessionKey(walletOf(judge), walletOf(addressOf(key(0x103))), "cnharness")
	c := connectNitronode(t, n)
	sign := func(u StateUpdate, sig string) string {
		p := nitronode.ParamsOf(u)
		p.Sigs = []string{sig}
		return c.call(submitMethod, p).refusal()
	}
	k, u := key(0x103), closeAt(id, 4, rows("10", "5"))
	if got := sign(u, u.Sign(k)); got != "signature from non-participant: "+strings.ToLower(addressOf(k)) {
		t.Error(got)
	}
	if got := sign(u, u.SignBySessionKey(key(3))); !strings.Contains(got, "no active session key found for key "+strings.ToLower(judge)) {
		t.Error(got)
	}
	elsewhere := closeAt(openGame(t, n, other), 4, rows("10", "5"))
	if got := sign(elsewhere, elsewhere.SignBySessionKey(k)); !strings.HasSuffix(got, "application otherapp") {
		t.Error(got)
	}
	if got := sign(u, u.SignBySessionKey(k)); got != "" {
		t.Error(got)
	}
	wantChecked(t, n)
}

// TestDepositFor deposits an amount that one wallet pays and another holds.
func TestDepositFor(t *testing.T) {
	n := startNitronode(t, Config{})
	id := open(t, n, 1)
	house := walletOf(addressOf(key(4)))
	if err := n.DepositFor(id, house, walletOf(playerB), "usdc", amount("2")); err == nil {
		t.Error("paid with nothing")
	}
	n.Fund(house, "usdc", amount("2"))
	if err := n.DepositFor(id, house, house, "usdc", amount("2")); err == nil {
		t.Error("a stranger holds a part")
	}
	must(t, n.DepositFor(id, house, walletOf(playerB), "usdc", amount("2")))
	c := connectNitronode(t, n)
	if got := c.history(map[string]any{"wallet": house.Hex(), "tx_type": 40}); len(got) != 1 {
		t.Error(got)
	}
	if got := c.submit(closeAt(id, 5, rows("10", "7"))); got != "" {
		t.Error(got)
	}
	wantChecked(t, n)
}
