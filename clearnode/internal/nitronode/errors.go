package nitronode

import (
	"settled/clearnode/internal/protocol"
	"settled/settlement"
)

// refusals are the errors that prove that an update had no effect: the node finds all of
// them before it commits, and rolls back. A refused update proves nothing about the next
// one like it, which stays valid as long as the session's version does. Those listed as
// doubtful prove nothing, and neither does any other error.
//
// Texts: recorded from nitronode 1.4.1 (testdata/v1); those marked
// "source" were read in its code. Each is compared as a whole, and the first that
// fits counts.
var refusals = protocol.NewTable(
	// Another update came first, or the session has changed since it was read: a fresh
	// read shows which.
	protocol.Passing.Texts(
		"app session is already closed",
		"invalid app session version: expected {number}, got {number}",
		"failed to update app session: concurrent modification detected for session {session}",
		"close intent requires allocations to match current state: participant {address}, asset {asset}, current {number}, provided {number}",
		"close intent missing allocation for participant {address}, asset {asset} with current amount {number}",
		"close intent contains unexpected allocation for participant {address}, asset {asset} with amount {number}", // source
		// The same: the node compares the loser of a race with what the winner left
		// (measured: an update came after a close, "session balance 0").
		"operate intent allocation mismatch for asset {asset}: total allocations {number}, session balance {number}",
		"operate intent missing allocation for participant {address}, asset {asset} with current amount {number}",
		"operate intent missing allocations for asset {asset} with balance {number}", // source
	),
	// A payee's escrow on some chain is pending.
	protocol.Escrow.Texts("failed to issue release state for participant {address}: cannot issue release receiver state: {name} still ongoing"), // source
	// The database, inside the transaction: rolled back.
	protocol.Passing.Texts(
		"app session not found: {cause}",                                          // source
		"failed to get current allocations: {cause}",                              // source
		"failed to get app session balances: {cause}",                             // source
		"failed to record operate ledger entry: {cause}",                          // source
		"failed to record new allocation ledger entry: {cause}",                   // source
		"failed to record close ledger entry: {cause}",                            // source
		"failed to issue release state for participant {address}: {cause}",        // source
		"failed to update app session: {cause}",                                   // source
		"failed to recover user wallet: failed to get session key owner: {cause}", // source
	),
	// The node limits what a connection, or an application, may send (1.3.1).
	protocol.Limited.Texts(
		"rate limit exceeded",
		"action {cause} limit reached: {cause}",
	),
	protocol.Never.As(settlement.Unauthorized, "application {cause} is not registered"),
	// The keys.
	protocol.Never.As(settlement.QuorumNotReached,
		"quorum not met: achieved {number}, required {number}",
		"no signatures provided",
		"quorum_sigs count ({number}) exceeds participants count ({number})",
	),
	protocol.Never.As(settlement.Unauthorized,
		"signature from non-participant: {address}",
		"failed to recover user wallet: {cause}",
		"failed to decode signature: {cause}",
		"empty signature after decode at index {number}", // source
	),
	// The allocation.
	protocol.Never.As(settlement.NotAParticipant, "allocation to non-participant {address}"),
	protocol.Never.As(settlement.AllocationRejected,
		"duplicate allocation for participant {address}, asset {asset}",
		"negative allocation: {number} for asset {asset}",
		"invalid amount for allocation with asset {asset} and participant {address}: amount exceeds maximum decimal precision: max {number} decimals allowed, got {number}",
		"failed to get asset decimals: {cause}",
	),
	// The request itself: an internal error (a bug), or a node of another kind.
	protocol.Never.As(settlement.SessionNotFound, "app session not found"),
	protocol.Never.As(settlement.InvalidOutcome, "session_data exceeds maximum length of {number}"),
	protocol.Never.As(settlement.NodeRejected,
		"invalid intent: {name}",
		"deposit intent must use submit_deposit_state endpoint",
		"failed to parse app state update",         // source
		"failed to pack app state update: {cause}", // source
		"failed to parse parameters",
		"invalid message format",
		"unknown method: {name}",
	),
	// In doubt: the database failed, perhaps at the commit; or committed, and the answer
	// could not be written.
	protocol.Doubtful.Texts(
		"failed to process app state update",
		"failed to create response",
		"an error occurred while processing the request",
	),
)
