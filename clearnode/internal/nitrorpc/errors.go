package nitrorpc

import (
	"settled/clearnode/internal/protocol"
	"settled/settlement"
)

// Texts that are also used outside the table.
const (
	staleText   = "invalid message timestamp"
	unknownText = "failed to get application session" // the definition of no session, or the database is away
)

// refusals are the errors that prove that a close had no effect: the node finds all of
// them before it commits, and rolls back. Those listed as doubtful prove nothing, whatever
// their wording, and neither does any other error.
//
// Texts: recorded from ClearNode 0.5.2 (testdata/errors.json); those marked "source"
// were read in its code.
var refusals = protocol.NewTable(
	// Closed, or never there, or rolled back in a lost race: a fresh read shows which.
	protocol.Passing.Texts(
		"an open app session not found: record not found",
		"asset {asset} is not deposited into the app session. Please deposit the asset first", // source
	),
	// The request was too old.
	protocol.OutOfTime.Texts(staleText),
	// Signed out.
	protocol.SignedOut.Texts(
		"authentication required",
		"session expired, please re-authenticate", // source
		"invalid policy type in storage",          // source
	),
	// The keys.
	protocol.Never.As(settlement.QuorumNotReached, "incorrect submit_state request: quorum not reached: {number} / {number}"),
	protocol.Never.As(settlement.Unauthorized,
		"signature from unknown participant wallet {address}",
		"session key application validation failed for signer {address}: session key application mismatch: session key is for '{name}', but app session is for '{name}'",
		"failed to get wallets from RPC message",
		"failed to get signers from RPC message", // source
	),
	// The allocation.
	protocol.Never.As(settlement.NotAParticipant, "allocation to non-participant {address}"),
	protocol.Never.As(settlement.AllocationRejected,
		"asset {asset} not fully redistributed",
		"allocation references unknown asset {asset}",
		"negative allocation: {number} for asset {asset}",
		"missing required parameters: app_id or allocations",
	),
	// The request itself: an internal error (a bug), or a node of another kind.
	protocol.Never.As(settlement.NodeRejected,
		"failed to parse parameters",
		"invalid message format",
		"message validation failed",
		"message request is empty", // source
		"unknown method: {name}",
	),
	// In doubt: the database failed, perhaps at the commit.
	protocol.Doubtful.Texts(
		"failed to close application session",
		"an error occurred while processing the request",
		// Raised inside the transaction.
		"an open app session not found: {cause}",
		"failed to get app session balances: {cause}",
		"failed to get session balance for asset {cause}",
		"failed to record a ledger entry{cause}",
		"failed to record transaction{cause}",
	),
)
