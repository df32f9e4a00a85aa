package clearnode

import "settled/settlement"

// v1Refusals are the errors by which an update is known not to have happened. The
// node answers all of these from before its commit, and rolls back; that a request
// of ours was refused so says nothing of the next one like it, which stays good as
// long as the session's version stands. Those listed as doubtful prove nothing, and no
// other error does.
//
// Texts: recorded from nitronode 1.4.1 (testdata/v1); those marked
// "source" were read in its code. Each is compared as a whole, and the first that
// fits counts.
var v1Refusals = compile([]refusal{
	// Somebody was first, or the session isn't as we saw it: a fresh read tells.
	{"app session is already closed", passing, ""},
	{"invalid app session version: expected {number}, got {number}", passing, ""},
	{"failed to update app session: concurrent modification detected for session {session}", passing, ""},
	{"close intent requires allocations to match current state: participant {address}, asset {asset}, current {number}, provided {number}", passing, ""},
	{"close intent missing allocation for participant {address}, asset {asset} with current amount {number}", passing, ""},
	{"close intent contains unexpected allocation for participant {address}, asset {asset} with amount {number}", passing, ""}, // source
	// The same: whoever loses a race may be held to what the winner left (measured:
	// an update met a close, "session balance 0").
	{"operate intent allocation mismatch for asset {asset}: total allocations {number}, session balance {number}", passing, ""},
	{"operate intent missing allocation for participant {address}, asset {asset} with current amount {number}", passing, ""},
	{"operate intent missing allocations for asset {asset} with balance {number}", passing, ""}, // source
	// A payee's escrow on some chain is pending.
	{"failed to issue release state for participant {address}: cannot issue release receiver state: {name} still ongoing", escrow, ""}, // source
	// The database, inside the transaction: rolled back.
	{"app session not found: {cause}", passing, ""},                                          // source
	{"failed to get current allocations: {cause}", passing, ""},                              // source
	{"failed to get app session balances: {cause}", passing, ""},                             // source
	{"failed to record operate ledger entry: {cause}", passing, ""},                          // source
	{"failed to record new allocation ledger entry: {cause}", passing, ""},                   // source
	{"failed to record close ledger entry: {cause}", passing, ""},                            // source
	{"failed to issue release state for participant {address}: {cause}", passing, ""},        // source
	{"failed to update app session: {cause}", passing, ""},                                   // source
	{"failed to recover user wallet: failed to get session key owner: {cause}", passing, ""}, // source
	// The node limits what a connection, or an application, may send (1.3.1).
	{"rate limit exceeded", limited, ""},
	{"action {cause} limit reached: {cause}", limited, ""},
	{"application {cause} is not registered", never, settlement.Unauthorized},
	// The keys.
	{"quorum not met: achieved {number}, required {number}", never, settlement.QuorumNotReached},
	{"no signatures provided", never, settlement.QuorumNotReached},
	{"quorum_sigs count ({number}) exceeds participants count ({number})", never, settlement.QuorumNotReached},
	{"signature from non-participant: {address}", never, settlement.Unauthorized},
	{"failed to recover user wallet: {cause}", never, settlement.Unauthorized},
	{"failed to decode signature: {cause}", never, settlement.Unauthorized},
	{"empty signature after decode at index {number}", never, settlement.Unauthorized}, // source
	// The allocation.
	{"allocation to non-participant {address}", never, settlement.NotAParticipant},
	{"duplicate allocation for participant {address}, asset {asset}", never, settlement.AllocationRejected},
	{"negative allocation: {number} for asset {asset}", never, settlement.AllocationRejected},
	{"invalid amount for allocation with asset {asset} and participant {address}: amount exceeds maximum decimal precision: max {number} decimals allowed, got {number}", never, settlement.AllocationRejected},
	{"failed to get asset decimals: {cause}", never, settlement.AllocationRejected},
	// The request itself: a defect, or a node of another kind.
	{"app session not found", never, settlement.SessionNotFound},
	{"session_data exceeds maximum length of {number}", never, settlement.InvalidOutcome},
	{"invalid intent: {name}", never, settlement.NodeRejected},
	{"deposit intent must use submit_deposit_state endpoint", never, settlement.NodeRejected},
	{"failed to parse app state update", never, settlement.NodeRejected},         // source
	{"failed to pack app state update: {cause}", never, settlement.NodeRejected}, // source
	{"failed to parse parameters", never, settlement.NodeRejected},
	{"invalid message format", never, settlement.NodeRejected},
	{"unknown method: {name}", never, settlement.NodeRejected},
	// In doubt: the database failed, perhaps at the commit; or committed, and the answer
	// could not be written.
	{"failed to process app state update", doubtful, ""},
	{"failed to create response", doubtful, ""},
	{"an error occurred while processing the request", doubtful, ""},
})
