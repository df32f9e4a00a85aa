package clearnode

import "settled/settlement"

// The texts that mean something outside of the table as well.
const (
	legacyStalePrefix = "Message timestamp validation failed: "
	legacyStaleText   = legacyStalePrefix + "timestamp expired: {time} older than {number} s"
	legacyAbsentText  = "Failed to get app definition: failed to find application: record not found"
)

// unclosed is what every error of a close begins with.
const unclosed = "Failed to close application: "

// legacyRefusals are the errors by which a close is known not to have happened. The
// node finds all of these before it commits, and rolls back. Whatever else stands
// behind the prefix is doubtful: an error of the commit is the database's own words.
//
// Texts: recorded from the ClearNode of May 2025 (testdata/legacy); those marked
// "source" were read in its code.
var legacyRefusals = compile([]refusal{
	// Closed, or never there: a fresh read tells.
	{unclosed + "virtual app not found or not open: record not found", passing, ""},
	// Too late, by our own stamp.
	{legacyStaleText, outOfTime, ""},
	// Signed out. The first comes only before sign-in, the second ends the connection.
	{legacyUnknownText, signedOutNow, ""},
	{"Session expired. Please re-authenticate.", signedOutNow, ""}, // source
	// The keys.
	{unclosed + "quorum not met: {number} / {number}", never, settlement.QuorumNotReached},
	{unclosed + "signature from unknown participant {address}", never, settlement.Unauthorized},
	{unclosed + "zero weight for signer {address}", never, settlement.Unauthorized},
	{unclosed + "duplicate signature", never, settlement.Unauthorized},
	{unclosed + "invalid signature hex: {words}", never, settlement.Unauthorized},                       // source
	{unclosed + "invalid signature length: got {number}, want 65", never, settlement.Unauthorized},      // source
	{unclosed + "signature recovery failed: invalid signature {words}", never, settlement.Unauthorized}, // source
	{unclosed + "signature recovery failed: recovery failed", never, settlement.Unauthorized},           // source
	// The allocation.
	{unclosed + "allocation to non-participant {address}", never, settlement.NotAParticipant},
	{unclosed + "allocations must be provided for every participant exactly once", never, settlement.AllocationRejected},
	{unclosed + "participant {address} appears more than once", never, settlement.AllocationRejected},
	{unclosed + "asset {asset} not fully redistributed", never, settlement.AllocationRejected},
	{unclosed + "allocation references unknown asset {asset}", never, settlement.AllocationRejected}, // source
	{unclosed + "invalid allocation row", never, settlement.AllocationRejected},
	{unclosed + "missing required parameters: app_id or allocations", never, settlement.AllocationRejected}, // source
	// The request itself: a defect, or a node of another kind.
	{unclosed + "missing parameters", never, settlement.NodeRejected},                                            // source
	{legacyStalePrefix + "invalid timestamp {number}: must be 13-digit Unix ms", never, settlement.NodeRejected}, // source
	{"Invalid message format", never, settlement.NodeRejected},
	{"Unsupported method", never, settlement.NodeRejected},
	// In doubt: the database's words.
	{unclosed + "{cause}", doubtful, ""},
})
