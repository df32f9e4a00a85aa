package clearnode

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"settled/clearnode/internal/nitrorpc"
	"settled/clearnode/internal/protocol"
)

// TestProbeAnswers: what the answers to the two probes prove, and when they prove
// nothing. The expiry is a minute, a close is stamped 40 s old, the lead is 2 s.
func TestProbeAnswers(t *testing.T) {
	p := newProber(&Client{cfg: Config{}.withDefaults()})
	expiry := nitrorpc.New(nil, &protocol.Settings{}).Traits().Expiry
	now := time.UnixMilli(1_700_000_000_000)
	taken := protocol.Answer{Method: "get_ledger_balances", Params: json.RawMessage(`{"ledger_balances":[]}`)}
	old := protocol.Answer{Method: "error", Params: json.RawMessage(`{"error":"invalid message timestamp"}`)}
	out := protocol.Answer{Method: "error", Params: json.RawMessage(`{"error":"authentication required"}`)}
	for _, tc := range []struct {
		it    string
		check func(*protocol.Expiry, protocol.Answer, time.Time) error
		a     protocol.Answer
		after time.Duration // the node's clock at the answer, after the bound
		want  string        // good, bad, or nothing
	}{
		{"stale refused", p.checkStale, old, 0, "good"},
		{"stale refused a little late", p.checkStale, old, 5 * time.Second, "good"},
		{"stale refused late", p.checkStale, old, 6 * time.Second, "nothing"},
		{"stale taken", p.checkStale, taken, 0, "bad"},
		{"stale taken late", p.checkStale, taken, time.Hour, "bad"},
		{"stale taken by a clock set back", p.checkStale, taken, -time.Hour, "nothing"},
		{"stale taken by a clock set back as much as it was too old", p.checkStale, taken, -2 * time.Second, "nothing"},
		{"stale, signed out", p.checkStale, out, 0, "nothing"},
		{"fresh taken", p.checkFresh, taken, 0, "good"},
		{"fresh taken late", p.checkFresh, taken, time.Hour, "good"},
		{"fresh refused", p.checkFresh, old, 0, "bad"},
		{"fresh refused late", p.checkFresh, old, 11 * time.Second, "nothing"},
		{"fresh, signed out", p.checkFresh, out, 0, "nothing"},
	} {
		tc.a.At = now.Add(tc.after)
		err := tc.check(expiry, tc.a, now)
		var differs *expiryMismatch
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
