package nitrorpc

import (
	"errors"
	"testing"

	"settled/clearnode/internal/protocol"
	"settled/clearnode/internal/protocoltest"
	"settled/settlement"
)

// recorded is what every error in the recordings means for a close.
var recorded = map[string]struct {
	meaning protocol.Meaning
	code    settlement.Code
}{
	"an open app session not found: record not found": {protocol.Passing, ""},
	"invalid message timestamp":                       {protocol.OutOfTime, ""},
	"authentication required":                         {protocol.SignedOut, ""},

	"incorrect submit_state request: quorum not reached: 0 / 100":                          {protocol.Never, settlement.QuorumNotReached},
	"incorrect submit_state request: quorum not reached: 50 / 100":                         {protocol.Never, settlement.QuorumNotReached},
	"signature from unknown participant wallet 0xe1AB8145F7E55DC933d51a18c793F901A3A0b276": {protocol.Never, settlement.Unauthorized},
	"signature from unknown participant wallet 0xFf1211b6804298d211F13CaecC84A38F1E7E9a33": {protocol.Never, settlement.Unauthorized},
	"signature from unknown participant wallet 0xB77772105ec3A8d5a17BD5ebfDbA230d55BA75Ad": {protocol.Never, settlement.Unauthorized},
	"signature from unknown participant wallet 0xBdD413435381D7Eb4038b25b90d53E666e522147": {protocol.Never, settlement.Unauthorized},
	"signature from unknown participant wallet 0xB4E52CbB8B73b756D722Daa761c1e4324F0fde9a": {protocol.Never, settlement.Unauthorized},
	"failed to get wallets from RPC message":                                               {protocol.Never, settlement.Unauthorized},
	"session key application validation failed for signer 0xe6eF3a317f91A0a44eB097c8e68B49CcF9E63895: session key application mismatch: session key is for 'cnharness', but app session is for 'otherapp'": {protocol.Never, settlement.Unauthorized},

	"allocation to non-participant 0xe1AB8145F7E55DC933d51a18c793F901A3A0b276": {protocol.Never, settlement.NotAParticipant},
	"allocation to non-participant 0x7e5f4552091a69125d5dfcb7b8c2659029395bdf": {protocol.Never, settlement.NotAParticipant},
	"asset usdc not fully redistributed":                                       {protocol.Never, settlement.AllocationRejected},
	"asset weth not fully redistributed":                                       {protocol.Never, settlement.AllocationRejected},
	"allocation references unknown asset doge":                                 {protocol.Never, settlement.AllocationRejected},
	"allocation references unknown asset weth":                                 {protocol.Never, settlement.AllocationRejected},
	"negative allocation: -1 for asset usdc":                                   {protocol.Never, settlement.AllocationRejected},
	"missing required parameters: app_id or allocations":                       {protocol.Never, settlement.AllocationRejected},

	"failed to parse parameters":     {protocol.Never, settlement.NodeRejected},
	"invalid message format":         {protocol.Never, settlement.NodeRejected},
	"message validation failed":      {protocol.Never, settlement.NodeRejected},
	"unknown method: no_such_method": {protocol.Never, settlement.NodeRejected},

	// Of a close these prove nothing.
	"failed to close application session": {protocol.Doubtful, ""},
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
	protocoltest.ReadJSON(t, "../../testdata/errors.json", &list)
	seen := map[string]bool{}
	for _, r := range list {
		want, known := recorded[r.Error]
		if !known {
			t.Errorf("%q is recorded (%s) and not classed here", r.Error, r.Cases[0])
		}
		if got := refusals.Find(r.Error); got.Meaning != want.meaning || got.Code != want.code {
			t.Errorf("%q: got %d %q, want %d %q", r.Error, got.Meaning, got.Code, want.meaning, want.code)
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
		if got := refusals.Find(text); got.Meaning.Proves() {
			t.Errorf("%q is taken for a refusal (%d %s)", text, got.Meaning, got.Code)
		}
		err := refused(text)
		var r *settlement.Refused
		if errors.As(err, &r) || !errors.Is(err, protocol.ErrNoAnswer) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestSourceErrors: those of the table that were read in the node's code.
func TestSourceErrors(t *testing.T) {
	for text, want := range map[string]protocol.Meaning{
		"asset usdc is not deposited into the app session. Please deposit the asset first": protocol.Passing,
		"session expired, please re-authenticate":                                          protocol.SignedOut,
		"invalid policy type in storage":                                                   protocol.SignedOut,
		"failed to get signers from RPC message":                                           protocol.Never,
		"message request is empty":                                                         protocol.Never,
	} {
		if got := refusals.Find(text); got.Meaning != want {
			t.Errorf("%q: %d", text, got.Meaning)
		}
	}
}

func refused(text string) error { return refusals.Find(text).Err(CloseMethod, text) }

// TestRefusals: what Send makes of the classes.
func TestRefusals(t *testing.T) {
	var r *settlement.Refused
	var f *settlement.Failure
	if err := refused("invalid message timestamp"); !errors.As(err, &r) || errors.As(err, &f) {
		t.Errorf("passing: %v", err)
	}
	if err := refused("authentication required"); !errors.As(err, &r) || errors.As(err, &f) {
		t.Errorf("signed out: %v", err)
	}
	err := refused("asset usdc not fully redistributed")
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
	if text := refused(string(long)).Error(); len(text) > 1000 {
		t.Errorf("%d bytes", len(text))
	}
}
