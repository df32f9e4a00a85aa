package clearnode

import "settled/settlement"

// The texts that mean something outside of the table as well.
const (
	staleText   = "invalid message timestamp"
	unknownText = "failed to get application session" // the definition of no session, or the database is away
)

// nitroRefusals are the errors by which a close is known not to have happened. The
// node checks all of these before it commits, and rolls back. Those listed as doubtful
// prove nothing even where their wording sounds harmless, and no other error does.
//
// Texts: recorded from ClearNode 0.5.2 (testdata/errors.json); those marked "source"
// were read in its code.
var nitroRefusals = compile([]refusal{
	// Closed, or never there, or rolled back in a lost race: a fresh read tells.
	{"an open app session not found: record not found", passing, ""},
	{"asset {asset} is not deposited into the app session. Please deposit the asset first", passing, ""}, // source
	// Too late, by our own stamp.
	{staleText, outOfTime, ""},
	// Signed out.
	{"authentication required", signedOutNow, ""},
	{"session expired, please re-authenticate", signedOutNow, ""}, // source
	{"invalid policy type in storage", signedOutNow, ""},          // source
	// The keys.
	{"incorrect submit_state request: quorum not reached: {number} / {number}", never, settlement.QuorumNotReached},
	{"signature from unknown participant wallet {address}", never, settlement.Unauthorized},
	{"session key application validation failed for signer {address}: session key application mismatch: session key is for '{name}', but app session is for '{name}'", never, settlement.Unauthorized},
	{"failed to get wallets from RPC message", never, settlement.Unauthorized},
	{"failed to get signers from RPC message", never, settlement.Unauthorized}, // source
	// The allocation.
	{"allocation to non-participant {address}", never, settlement.NotAParticipant},
	{"asset {asset} not fully redistributed", never, settlement.AllocationRejected},
	{"allocation references unknown asset {asset}", never, settlement.AllocationRejected},
	{"negative allocation: {number} for asset {asset}", never, settlement.AllocationRejected},
	{"missing required parameters: app_id or allocations", never, settlement.AllocationRejected},
	// The request itself: a defect, or a node of another kind.
	{"failed to parse parameters", never, settlement.NodeRejected},
	{"invalid message format", never, settlement.NodeRejected},
	{"message validation failed", never, settlement.NodeRejected},
	{"message request is empty", never, settlement.NodeRejected}, // source
	{"unknown method: {name}", never, settlement.NodeRejected},
	// In doubt: the database failed, perhaps at the commit.
	{"failed to close application session", doubtful, ""},
	{"an error occurred while processing the request", doubtful, ""},
	// Raised inside the transaction.
	{"an open app session not found: {cause}", doubtful, ""},
	{"failed to get app session balances: {cause}", doubtful, ""},
	{"failed to get session balance for asset {cause}", doubtful, ""},
	{"failed to record a ledger entry{cause}", doubtful, ""},
	{"failed to record transaction{cause}", doubtful, ""},
})
