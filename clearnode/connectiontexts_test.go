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

// TestConnectionTexts: what each generation answers that is about the connection, the
// sign-in, the time or the rate, and not about the outcome. None of it is a refusal of
// the outcome, and none costs a further attempt.
func TestConnectionTexts(t *testing.T) {
	for name, g := range map[string]struct {
		node  dialect
		texts map[string]settlement.Reason
	}{
		"nitrorpc/0.2 and 0.4": {nitrorpc.New(nil, &protocol.Settings{}), map[string]settlement.Reason{
			"authentication required":                 settlement.NotReady,
			"session expired, please re-authenticate": settlement.NotReady,
			"invalid policy type in storage":          settlement.NotReady,
			"invalid message timestamp":               settlement.NotReady,
		}},
		"nitrorpc/legacy": {legacy.New(nil, &protocol.Settings{}), map[string]settlement.Reason{
			"Authentication required. Please send auth_request first.":                                         settlement.NotReady,
			"Session expired. Please re-authenticate.":                                                         settlement.NotReady,
			"Message timestamp validation failed: timestamp expired: 2026-11-22T01:00:57.489Z older than 60 s": settlement.NotReady,
		}},
		"nitronode/v1": {nitronode.New(nil, &protocol.Settings{}), map[string]settlement.Reason{
			"rate limit exceeded": settlement.NodeTransient,
			"action app_session_operation limit reached: used 10 of 10 allowed in 24h": settlement.NodeTransient,
			"action 'operate' limit reached: used 3 of 3 allowed in 24h":               settlement.NodeTransient,
		}},
	} {
		for text, reason := range g.texts {
			err := g.node.Classify(text).Err("close", text)
			var r *settlement.Refused
			var w *settlement.Waiting
			if !errors.As(err, &r) || !errors.As(err, &w) || w.Reason != reason {
				t.Errorf("%s: %q: %v, want a refusal that waits (%s)", name, text, err, reason)
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
