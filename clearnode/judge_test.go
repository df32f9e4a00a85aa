package clearnode

import (
	"encoding/json"
	"errors"
	"testing"
	"time"
)

// TestJudge: what the answers to the two probes prove, and when they prove
// nothing. The expiry is a minute, a close is stamped 40 s old, the lead is 2 s.
func TestJudge(t *testing.T) {
	p := newProber(&Client{cfg: Config{}.filled()})
	now := time.UnixMilli(1_700_000_000_000)
	taken := answer{method: "get_ledger_balances", params: json.RawMessage(`{"ledger_balances":[]}`)}
	old := answer{method: "error", params: json.RawMessage(`{"error":"invalid message timestamp"}`)}
	out := answer{method: "error", params: json.RawMessage(`{"error":"authentication required"}`)}
	for _, tc := range []struct {
		it    string
		judge func(expiry, answer, time.Time) error
		a     answer
		after time.Duration // the node's clock at the answer, after the bound
		want  string        // good, bad, or nothing
	}{
		{"stale refused", p.judgeStale, old, 0, "good"},
		{"stale refused a little late", p.judgeStale, old, 5 * time.Second, "good"},
		{"stale refused late", p.judgeStale, old, 6 * time.Second, "nothing"},
		{"stale taken", p.judgeStale, taken, 0, "bad"},
		{"stale taken late", p.judgeStale, taken, time.Hour, "bad"},
		{"stale taken by a clock set back", p.judgeStale, taken, -time.Hour, "nothing"},
		{"stale taken by a clock set back as much as it was too old", p.judgeStale, taken, -2 * time.Second, "nothing"},
		{"stale, signed out", p.judgeStale, out, 0, "nothing"},
		{"fresh taken", p.judgeFresh, taken, 0, "good"},
		{"fresh taken late", p.judgeFresh, taken, time.Hour, "good"},
		{"fresh refused", p.judgeFresh, old, 0, "bad"},
		{"fresh refused late", p.judgeFresh, old, 11 * time.Second, "nothing"},
		{"fresh, signed out", p.judgeFresh, out, 0, "nothing"},
	} {
		tc.a.at = now.Add(tc.after)
		err := tc.judge(nitroExpiry, tc.a, now)
		var differs *fenceOpen
		got := "nothing"
		if err == nil {
			got = "good"
		} else if errors.As(err, &differs) {
			got = "bad"
		}
		if got != tc.want {
			t.Errorf("%s: %s, want %s: %v", tc.it, got, tc.want, err)
		}
	}
}
