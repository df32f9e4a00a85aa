// Package settlement turns one Outcome into one closed app session, exactly as
// its Policy says, however often it is asked.
//
// It decides; it does no input or output of its own, starts no goroutine, and
// has neither a clock nor randomness: the only "now" it knows is the lower bound
// of the node's clock that comes with an observed Session. What it needs from
// outside are three small interfaces, declared beside the Settler that uses
// them: Node (observe, prepare, send), Ledger (head, history, append) and
// DeadLetters (store).
//
// Invariants, each held by a test:
//
//  1. Two closes of one session are never in flight at once. Every send is
//     preceded by its own won append of a closing entry, and happens once, in
//     the call that won it.
//  2. Nothing is sent, and nothing is recorded as failed for the outcome that
//     holds the session, while a request of ours may still land: before a read
//     begun after the intent's valid-until instant shows the session open.
//  3. What is paid out equals what was in the session, to the last unit. No
//     participant is a unit or more away from the exact quota.
//  4. The state of a session is the standing its last entry carries, never the
//     kind of that entry.
//  5. Every outcome ends in exactly one closed, or one failed with a dead
//     letter, for each time it was published.
//
// It trusts the ledger for what was decided, the node for what was paid, and
// nobody for the content of an outcome.
package settlement
