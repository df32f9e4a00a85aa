package clearnodetest

import (
	"fmt"
	"testing"
	"time"
)

// TestV1Pages: lists are paginated as requested, counted in full, newest first.
func TestV1Pages(t *testing.T) {
	n := startNitronode(t, Config{})
	var ids []string
	for nonce := range 25 {
		id, err := n.OpenSessionUnexplained(gameDefinition(uint64(nonce+1)), rows("1", "0"))
		must(t, err)
		ids = append(ids, id)
	}
	c := connectNitronode(t, n)
	must(t, n.Submit(closeAt(ids[24], 2, rows("1", "0")), key(3)))
	type page map[string]any
	for _, tc := range []struct {
		page   page
		status string
		first  int // counted from the newest
		rows   int
		want   pageMetadata
	}{
		{nil, "", 0, 10, pageMetadata{1, 10, 25, 3}},
		{page{"limit": 0}, "", 0, 10, pageMetadata{1, 10, 25, 3}},
		{page{"limit": 1000}, "", 0, 25, pageMetadata{1, 100, 25, 1}},
		{page{"offset": 20}, "", 20, 5, pageMetadata{3, 10, 25, 3}},
		{page{"offset": 4, "limit": 3, "sort": "asc"}, "", 4, 3, pageMetadata{2, 3, 25, 9}},
		{page{"offset": 4294967295}, "", 0, 0, pageMetadata{214748365, 10, 25, 3}},
		{nil, "open", 1, 10, pageMetadata{1, 10, 24, 3}},
		{nil, "closed", 0, 1, pageMetadata{1, 10, 1, 1}},
	} {
		ask := map[string]any{"participant": judge}
		if tc.page != nil {
			ask["pagination"] = tc.page
		}
		if tc.status != "" {
			ask["status"] = tc.status
		}
		var got sessionList
		c.call("app_sessions.v1.get_app_sessions", ask).into(t, &got)
		if len(got.Sessions) != tc.rows || got.Metadata != tc.want || tc.rows > 0 && got.Sessions[0].ID != ids[24-tc.first] {
			t.Errorf("%v: %d rows, %+v", ask, len(got.Sessions), got.Metadata)
		}
	}
}

// history asks for a wallet's transactions and returns "type amount asset" of each.
func (c *nitronodeClient) history(ask map[string]any) []string {
	c.t.Helper()
	var got struct {
		Transactions []struct {
			Asset  string `json:"asset"`
			Kind   int    `json:"tx_type"`
			Amount string `json:"amount"`
		} `json:"transactions"`
	}
	c.call("user.v1.get_transactions", ask).into(c.t, &got)
	all := []string{}
	for _, x := range got.Transactions {
		all = append(all, fmt.Sprintf("%d %s %s", x.Kind, x.Amount, x.Asset))
	}
	return all
}

// TestV1Transactions lists what a wallet received, deposited and was paid, newest first, filtered as requested.
func TestV1Transactions(t *testing.T) {
	at := newClock(1_800_000_000_000)
	n := startNitronode(t, Config{Now: at.Now})
	id := open(t, n, 1)
	at.add(time.Minute)
	c := connectNitronode(t, n)
	if got := c.submit(operate(id, 4, rows("15", "0"))) + c.submit(closeAt(id, 5, rows("15", "0"))); got != "" {
		t.Fatal(got)
	}
	n.Fund(walletOf(playerA), "weth", amount("2"))
	n.Fund(walletOf(playerA), "weth", amount("-1"))
	for _, tc := range []struct {
		ask  map[string]any
		want string
	}{
		{map[string]any{"wallet": playerA}, "[11 1 weth 10 2 weth 41 15 usdc 40 10 usdc 10 10 usdc]"},
		{map[string]any{"wallet": playerB}, "[40 5 usdc 10 5 usdc]"},
		{map[string]any{"wallet": judge}, "[]"},
		{map[string]any{"wallet": playerA, "asset": "usdc", "tx_type": 41}, "[41 15 usdc]"},
		{map[string]any{"wallet": playerA, "to_time": 1_800_000_000}, "[40 10 usdc 10 10 usdc]"},
		{map[string]any{"wallet": playerA, "from_time": 1_800_000_001, "pagination": map[string]int{"limit": 1}}, "[11 1 weth]"},
	} {
		if got := fmt.Sprint(c.history(tc.ask)); got != tc.want {
			t.Errorf("%v: %s, want %s", tc.ask, got, tc.want)
		}
	}
	if got := c.call("user.v1.get_transactions", map[string]any{"wallet": id}).refusal(); got !=
		"invalid wallet: invalid hex address: incorrect length, expected 42 characters including 0x prefix" {
		t.Error(got)
	}
	if got := c.call("user.v1.get_balances", map[string]any{"wallet": playerA}).payload; got !=
		`{"balances":[{"asset":"usdc","amount":"15","enforced":"0"},{"asset":"weth","amount":"1","enforced":"0"}]}` {
		t.Error(got)
	}
}

// TestUnexplained: the session holds money that no transaction explains.
func TestUnexplained(t *testing.T) {
	n := startNitronode(t, Config{})
	id, err := n.OpenSessionUnexplained(gameDefinition(1), rows("10", "5"))
	must(t, err)
	c := connectNitronode(t, n)
	if got := c.history(map[string]any{"wallet": playerA}); len(got) != 0 {
		t.Error(got)
	}
	if s := wantStatus(t, n, id, "open"); s.Version != 1 || len(s.Current) != 2 {
		t.Errorf("%+v", s)
	}
	if got := c.submit(closeAt(id, 2, rows("10", "5"))); got != "" {
		t.Error(got)
	}
	wantChecked(t, n)
	if _, err := start(t, Config{}).OpenSessionUnexplained(gameDefinition(1), nil); err == nil {
		t.Error("another dialect has such sessions")
	}
}
