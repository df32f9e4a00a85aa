package clearnode

import (
	"errors"
	"testing"

	"settled/settlement"
)

// recorded is what every error in the recordings means for a close.
var recorded = map[string]struct {
	meaning meaning
	code    settlement.Code
}{
	"an open app session not found: record not found": {passing, ""},
	"invalid message timestamp":                       {outOfTime, ""},
	"authentication required":                         {signedOutNow, ""},

	"incorrect submit_state request: quorum not reached: 0 / 100":                          {never, settlement.QuorumNotReached},
	"incorrect submit_state request: quorum not reached: 50 / 100":                         {never, settlement.QuorumNotReached},
	"signature from unknown participant wallet 0xe1AB8145F7E55DC933d51a18c793F901A3A0b276": {never, settlement.Unauthorized},
	"signature from unknown participant wallet 0xFf1211b6804298d211F13CaecC84A38F1E7E9a33": {never, settlement.Unauthorized},
	"signature from unknown participant wallet 0xB77772105ec3A8d5a17BD5ebfDbA230d55BA75Ad": {never, settlement.Unauthorized},
	"signature from unknown participant wallet 0xBdD413435381D7Eb4038b25b90d53E666e522147": {never, settlement.Unauthorized},
	"signature from unknown participant wallet 0xB4E52CbB8B73b756D722Daa761c1e4324F0fde9a": {never, settlement.Unauthorized},
	"failed to get wallets from RPC message":                                               {never, settlement.Unauthorized},
	"session key application validation failed for signer 0xe6eF3a317f91A0a44eB097c8e68B49CcF9E63895: session key application mismatch: session key is for 'cnharness', but app session is for 'otherapp'": {never, settlement.Unauthorized},

	"allocation to non-participant 0xe1AB8145F7E55DC933d51a18c793F901A3A0b276": {never, settlement.NotAParticipant},
	"allocation to non-participant 0x7e5f4552091a69125d5dfcb7b8c2659029395bdf": {never, settlement.NotAParticipant},
	"asset usdc not fully redistributed":                                       {never, settlement.AllocationRejected},
	"asset weth not fully redistributed":                                       {never, settlement.AllocationRejected},
	"allocation references unknown asset doge":                                 {never, settlement.AllocationRejected},
	"allocation references unknown asset weth":                                 {never, settlement.AllocationRejected},
	"negative allocation: -1 for asset usdc":                                   {never, settlement.AllocationRejected},
	"missing required parameters: app_id or allocations":                       {never, settlement.AllocationRejected},

	"failed to parse parameters":     {never, settlement.NodeRejected},
	"invalid message format":         {never, settlement.NodeRejected},
	"message validation failed":      {never, settlement.NodeRejected},
	"unknown method: no_such_method": {never, settlement.NodeRejected},

	// Of a close these prove nothing.
	"failed to close application session": {},
	// These never answer a close; if one did, nobody knows what it would mean.
	"invalid JWT token": {},
	"invalid authentication method: expected JWT or signature":                      {},
	"invalid challenge or signature":                                                {},
	"invalid challenge":                                                             {},
	"failed to parse auth parameters":                                               {},
	"unsupported token: asset 'doge' is not supported":                              {},
	"expiration time must be set and in the future":                                 {},
	"signer is already in use for another wallet":                                   {},
	"authentication failed":                                                         {},
	"failed to get application sessions":                                            {},
	"failed to get application session":                                             {},
	"missing account ID":                                                            {},
	"invalid ledger transaction type":                                               {},
	"unsupported protocol: NitroRPC/0.3":                                            {},
	"missing signature for participant 0x2B5AD5c4795c026514f8317c7a215E218DcCD6cF":  {},
	"insufficient funds: 0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf for asset usdc": {},
	"failed to create application session":                                          {},
}

// TestRecordedErrors: every error that was recorded is classed, and exactly so.
func TestRecordedErrors(t *testing.T) {
	var list []struct {
		Error string   `json:"error"`
		Cases []string `json:"cases"`
	}
	readJSON(t, "testdata/errors.json", &list)
	seen := map[string]bool{}
	for _, r := range list {
		want, known := recorded[r.Error]
		if !known {
			t.Errorf("%q is recorded (%s) and not classed here", r.Error, r.Cases[0])
		}
		if got := nitroRefusals.find(r.Error); got.meaning != want.meaning || got.code != want.code {
			t.Errorf("%q: got %d %q, want %d %q", r.Error, got.meaning, got.code, want.meaning, want.code)
		}
		seen[r.Error] = true
	}
	for text := range recorded {
		if !seen[text] {
			t.Errorf("%q is classed here and not recorded", text)
		}
	}
}

// TestDoubtfulErrors: what looks like a refusal, and is not one word for word,
// proves nothing.
func TestDoubtfulErrors(t *testing.T) {
	for _, text := range []string{
		"", " ", "no such luck",
		"failed to close application session",
		"an error occurred while processing the request",
		"an open app session not found: database table is locked: app_sessions",
		"an open app session not found: record not found ",
		"an open app session not found",
		"An open app session not found: record not found",
		"failed to get app session balances: database table is locked",
		"failed to record a ledger entry : database table is locked",
		"failed to record transaction : no such table: ledger_transactions",
		"failed to get session balance for asset usdc",
		"invalid message timestamp\n",
		"close: invalid message timestamp",
		" authentication required",
		"quorum not reached: 0 / 100",
		"incorrect submit_state request: quorum not reached: many / 100",
		"incorrect submit_state request: quorum not reached: 0 / 100; retrying",
		"asset  not fully redistributed",
		"asset usdc weth not fully redistributed",
		"asset usdc not fully redistributed: database table is locked",
		"allocation to non-participant 0x7e5f",
		"signature from unknown participant wallet nobody",
		"failed to get wallets from RPC message: connection refused",
	} {
		if got := nitroRefusals.find(text); got.meaning != doubtful {
			t.Errorf("%q is taken for a refusal (%d %s)", text, got.meaning, got.code)
		}
		err := nitroRefused(text)
		var r *settlement.Refused
		if errors.As(err, &r) || !errors.Is(err, ErrNoAnswer) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestSourceErrors: those of the table that were read in the node's code.
func TestSourceErrors(t *testing.T) {
	for text, want := range map[string]meaning{
		"asset usdc is not deposited into the app session. Please deposit the asset first": passing,
		"session expired, please re-authenticate":                                          signedOutNow,
		"invalid policy type in storage":                                                   signedOutNow,
		"failed to get signers from RPC message":                                           never,
		"message request is empty":                                                         never,
	} {
		if got := nitroRefusals.find(text); got.meaning != want {
			t.Errorf("%q: %d", text, got.meaning)
		}
	}
}

func nitroRefused(text string) error {
	return refused(closeMethod, text, nitroRefusals.find(text))
}

// TestRefusals: what Send makes of the classes.
func TestRefusals(t *testing.T) {
	var r *settlement.Refused
	var f *settlement.Failure
	if err := nitroRefused("invalid message timestamp"); !errors.As(err, &r) || errors.As(err, &f) {
		t.Errorf("passing: %v", err)
	}
	if err := nitroRefused("authentication required"); !errors.As(err, &r) || errors.As(err, &f) {
		t.Errorf("signed out: %v", err)
	}
	err := nitroRefused("asset usdc not fully redistributed")
	if !errors.As(err, &r) || !errors.As(err, &f) || f.Code != settlement.AllocationRejected || f.Class != settlement.Rejected {
		t.Errorf("never: %v", err)
	}
}

// TestErrorsAreCut: a hostile text can't flood a log or forge a line of it.
func TestErrorsAreCut(t *testing.T) {
	long := make([]byte, 1<<20)
	for i := range long {
		long[i] = '\n'
	}
	if text := nitroRefused(string(long)).Error(); len(text) > 1000 {
		t.Errorf("%d bytes", len(text))
	}
}
