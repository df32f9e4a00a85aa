package clearnode

import (
	"errors"
	"testing"

	"settled/clearnode/internal/legacy"
	"settled/clearnode/internal/nitronode"
	"settled/clearnode/internal/nitrorpc"
	"settled/clearnode/internal/protocol"
	"settled/settlement"
)

// TestConnectionTexts: what each generation answers that is about the connection, the sign-in, the time or the rate, and not about
// the outcome. None of it is a refusal of the outcome, and none costs a further attempt.
func TestConnectionTexts(t *testing.T) {
	for _, g := range []struct {
		node   dialect
		reason settlement.Reason
		texts  []string
	}{
		{nitrorpc.New(nil, &protocol.Settings{}), settlement.NotReady, []string{
			"authentication required", "session expired, please re-authenticate", "invalid policy type in storage", "invalid message timestamp",
		}},
		{legacy.New(nil, &protocol.Settings{}), settlement.NotReady, []string{
			"Authentication required. Please send auth_request first.", "Session expired. Please re-authenticate.",
			"Message timestamp validation failed: timestamp expired: 2026-11-22T01:00:57.489Z older than 60 s",
		}},
		{nitronode.New(nil, &protocol.Settings{}), settlement.NodeTransient, []string{
			"rate limit exceeded", "action app_session_operation limit reached: used 10 of 10 allowed in 24h",
			"action 'operate' limit reached: used 3 of 3 allowed in 24h",
		}},
	} {
		for _, text := range g.texts {
			err := g.node.Classify(text).Err("close", text)
			var r *settlement.Refused
			var w *settlement.Waiting
			if !errors.As(err, &r) || !errors.As(err, &w) || w.Reason != g.reason {
				t.Errorf("%q: %v, want a refusal that waits (%s)", text, err, g.reason)
			}
		}
	}
	for _, text := range []string{"application settled-test is not registered", `application "settled" is not registered`} {
		var f *settlement.Failure
		if err := nitronode.New(nil, &protocol.Settings{}).Classify(text).Err("submit", text); !errors.As(err, &f) || f.Code != settlement.Unauthorized {
			t.Errorf("%q: %v", text, err)
		}
	}
}
