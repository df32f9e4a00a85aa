package legacy

import (
	"settled/clearnode/internal/protocol"
	"settled/settlement"
)

// Texts that are also used outside the table.
const (
	stalePrefix = "Message timestamp validation failed: "
	staleText   = stalePrefix + "timestamp expired: {time} older than {number} s"
	absentText  = "Failed to get app definition: failed to find application: record not found"
)

// SignedOutText is what the node answers to everything before sign-in.
const SignedOutText = "Authentication required. Please send auth_request first."

// closePrefix is what every error of a close begins with.
const closePrefix = "Failed to close application: "

// refusals are the errors that prove that a close had no effect: the node finds all of
// them before it commits, and rolls back. Any other text after the prefix is doubtful: an
// error of the commit is the database's own text.
//
// Texts: recorded from the ClearNode of May 2025 (testdata/legacy); those marked
// "source" were read in its code.
var refusals = protocol.NewTable(
	// Closed, or never there: a fresh read shows which.
	protocol.Passing.Texts(closePrefix+"virtual app not found or not open: record not found"),
	// The request was too old.
	protocol.OutOfTime.Texts(staleText),
	// Signed out. The first comes only before sign-in, the second ends the connection.
	protocol.SignedOut.Texts(
		SignedOutText,
		"Session expired. Please re-authenticate.", // source
	),
	// The keys.
	protocol.Never.As(settlement.QuorumNotReached, closePrefix+"quorum not met: {number} / {number}"),
	protocol.Never.As(settlement.Unauthorized,
		closePrefix+"signature from unknown participant {address}",
		closePrefix+"zero weight for signer {address}",
		closePrefix+"duplicate signature",
		closePrefix+"invalid signature hex: {words}",                       // source
		closePrefix+"invalid signature length: got {number}, want 65",      // source
		closePrefix+"signature recovery failed: invalid signature {words}", // source
		closePrefix+"signature recovery failed: recovery failed",           // source
	),
	// The allocation.
	protocol.Never.As(settlement.NotAParticipant, closePrefix+"allocation to non-participant {address}"),
	protocol.Never.As(settlement.AllocationRejected,
		closePrefix+"allocations must be provided for every participant exactly once",
		closePrefix+"participant {address} appears more than once",
		closePrefix+"asset {asset} not fully redistributed",
		closePrefix+"allocation references unknown asset {asset}", // source
		closePrefix+"invalid allocation row",
		closePrefix+"missing required parameters: app_id or allocations", // source
	),
	// The request itself: an internal error (a bug), or a node of another kind.
	protocol.Never.As(settlement.NodeRejected,
		closePrefix+"missing parameters",                                   // source
		stalePrefix+"invalid timestamp {number}: must be 13-digit Unix ms", // source
		"Invalid message format",
		"Unsupported method",
	),
	// In doubt: the database's text.
	protocol.Doubtful.Texts(closePrefix+"{cause}"),
)
