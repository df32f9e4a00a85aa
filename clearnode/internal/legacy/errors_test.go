package legacy

import (
	"encoding/json"
	"errors"
	"testing"

	"settled/clearnode/internal/protocol"
	"settled/settlement"
)

func failureIn(err error) *settlement.Failure {
	var f *settlement.Failure
	errors.As(err, &f)
	return f
}

// recorded is what every error in the recording means for a close.
var recorded = map[string]struct {
	meaning protocol.Meaning
	code    settlement.Code
}{
	"Authentication required. Please send auth_request first.":                                                   {protocol.SignedOut, ""},
	"Message timestamp validation failed: timestamp expired: 2026-11-22T01:00:57.489Z older than 60 s":           {protocol.OutOfTime, ""},
	"Failed to close application: virtual app not found or not open: record not found":                           {protocol.Passing, ""},
	"Failed to close application: quorum not met: 0 / 100":                                                       {protocol.Never, settlement.QuorumNotReached},
	"Failed to close application: quorum not met: 50 / 100":                                                      {protocol.Never, settlement.QuorumNotReached},
	"Failed to close application: zero weight for signer 0x7e5f4552091a69125d5dfcb7b8c2659029395bdf":             {protocol.Never, settlement.Unauthorized},
	"Failed to close application: duplicate signature":                                                           {protocol.Never, settlement.Unauthorized},
	"Failed to close application: signature from unknown participant 0xe1ab8145f7e55dc933d51a18c793f901a3a0b276": {protocol.Never, settlement.Unauthorized},
	"Failed to close application: signature from unknown participant 0xa157a04d5ae778331c58934c472e5ab7834c0c46": {protocol.Never, settlement.Unauthorized},
	"Failed to close application: signature from unknown participant 0x5f73a848746b52e33aa041a9be3dc25ca46448db": {protocol.Never, settlement.Unauthorized},
	"Failed to close application: allocation to non-participant 0xe1AB8145F7E55DC933d51a18c793F901A3A0b276":      {protocol.Never, settlement.NotAParticipant},
	"Failed to close application: allocations must be provided for every participant exactly once":               {protocol.Never, settlement.AllocationRejected},
	"Failed to close application: participant 0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf appears more than once": {protocol.Never, settlement.AllocationRejected},
	"Failed to close application: asset usdc not fully redistributed":                                            {protocol.Never, settlement.AllocationRejected},
	"Failed to close application: asset doge not fully redistributed":                                            {protocol.Never, settlement.AllocationRejected},
	"Failed to close application: invalid allocation row":                                                        {protocol.Never, settlement.AllocationRejected},
	"Invalid message format": {protocol.Never, settlement.NodeRejected},
	"Unsupported method":     {protocol.Never, settlement.NodeRejected},

	// These never answer a close; if one did, nobody knows what it would mean.
	"invalid signature":                               {},
	"missing signature in request":                    {},
	"challenge not found":                             {},
	"Failed to get app sessions: missing participant": {},
}

// TestLegacyRecordedErrors: every error that was recorded is classed, and exactly so.
func TestLegacyRecordedErrors(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range recording(t, "recv") {
		var frame struct {
			Res []json.RawMessage `json:"res"`
		}
		var params []struct{ Error string }
		if json.Unmarshal([]byte(r.Frame), &frame) != nil || string(frame.Res[1]) != `"error"` || json.Unmarshal(frame.Res[2], &params) != nil {
			continue
		}
		text := params[0].Error
		want, known := recorded[text]
		if !known {
			t.Errorf("%q is recorded (%s) and not classed here", text, r.Case)
		}
		if got := refusals.Find(text); got.Meaning != want.meaning || got.Code != want.code {
			t.Errorf("%q: got %d %q, want %d %q", text, got.Meaning, got.Code, want.meaning, want.code)
		}
		seen[text] = true
	}
	for text := range recorded {
		if !seen[text] {
			t.Errorf("%q is classed here and not recorded", text)
		}
	}
}

// TestLegacyDoubtfulErrors: what looks like a refusal, and is not one word for word,
// proves nothing.
func TestLegacyDoubtfulErrors(t *testing.T) {
	for _, text := range []string{
		"", " ", "Failed to close application: ", "Failed to close application",
		"Failed to close application: database is locked",
		"Failed to close application: record not found",
		"Failed to close application: pq: could not serialize access",
		"Failed to close application: virtual app not found or not open: database table is locked: app_sessions",
		"Failed to close application: virtual app not found or not open: record not found ",
		"virtual app not found or not open: record not found",
		"Failed to close application: failed to read balance for 0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf:usdc: database is locked",
		"Failed to close application: failed to get participant balance: database is locked",
		"Failed to close application: failed to debit session: database is locked",
		"Failed to close application: failed to credit participant: database is locked",
		"Failed to close application: asset usdc not fully redistributed: database is locked",
		"Failed to close application: asset  not fully redistributed",
		"Failed to close application: quorum not met: many / 100",
		"Failed to close application: signature from unknown participant nobody",
		"Failed to close application: signature recovery failed: who knows",
		"Failed to create application: duplicate signature",
		"Failed to get app definition: failed to find application: record not found",
		"Message timestamp validation failed: ",
		"Message timestamp validation failed: timestamp expired: yesterday older than 60 s",
		"Message timestamp validation failed: timestamp expired: 2026-11-22T01:00:57.489Z older than 60 s\n",
		"Failed to close application: Unsupported method",
		"Session expired. Please re-authenticate",
	} {
		if got := refusals.Find(text); got.Meaning.Proves() {
			t.Errorf("%q is taken for a refusal (%d %s)", text, got.Meaning, got.Code)
		}
	}
}

// TestLegacySourceErrors: what the node's code says and no recording shows.
func TestLegacySourceErrors(t *testing.T) {
	for text, want := range map[string]protocol.Meaning{
		"Session expired. Please re-authenticate.":                                                      protocol.SignedOut,
		"Message timestamp validation failed: timestamp expired: 2026-11-22T01:00:57Z older than 120 s": protocol.OutOfTime,
		"Message timestamp validation failed: invalid timestamp 17953093: must be 13-digit Unix ms":     protocol.Never,
		"Failed to close application: invalid signature hex: hex string without 0x prefix":              protocol.Never,
		"Failed to close application: invalid signature length: got 64, want 65":                        protocol.Never,
		"Failed to close application: signature recovery failed: invalid signature recovery id":         protocol.Never,
		"Failed to close application: missing required parameters: app_id or allocations":               protocol.Never,
		"Failed to close application: allocation references unknown asset usdc":                         protocol.Never,
	} {
		if got := refusals.Find(text); got.Meaning != want {
			t.Errorf("%q: %d, want %d", text, got.Meaning, want)
		}
	}
	for text, want := range map[string]bool{
		"Message timestamp validation failed: timestamp expired: 2026-11-22T01:00:57.489123456Z older than 60 s": true,
		"Message timestamp validation failed: invalid timestamp 1: must be 13-digit Unix ms":                     false,
		"invalid message timestamp": false,
		"Failed to close application: virtual app not found or not open: record not found": false,
	} {
		if isStale(text) != want {
			t.Errorf("%q: stale is not %v", text, want)
		}
	}
}
