// Package settlement turns one Outcome into one closed app session, exactly as
// its Policy says, however often it is asked.
//
// It decides; it does no input or output of its own, starts no goroutine, and
// has neither a clock nor randomness: the only "now" it knows is the lower bound
// of the node's clock that comes with an observed Session. What it needs from
// outside are four small interfaces, declared beside the Settler that uses
// them: Node (observe, prepare, send), Ledger (head, history, append),
// DeadLetters (store) and EmergencyStop (stopped, stop).
//
// Invariants, each held by a test:
//
//  1. Two closes of one session can never both be carried out. Where requests
//     expire, every send is preceded by its own won append of a closing entry,
//     and happens once, in the call that won it. Where the session's version
//     fences, what is sent follows from the closing entry and that version alone.
//  2. Nothing is recorded as failed for the outcome that holds the session while
//     a request of ours may still land: before a read begun after the intent's
//     valid-until instant shows the session open; where versions fence, before
//     a read shows it past the versions that the intent's requests fit. Until
//     then a request that expires has no other beside it, and one that doesn't
//     only the one that the recorded plan needs next.
//  3. What is paid out equals what was in the session, to the last unit. No
//     participant is a unit or more away from the exact quota.
//  4. The state of a session is the standing its last entry carries, never the
//     kind of that entry.
//  5. Nothing is recorded as an intent, nor sent, while the EmergencyStop says stopped; and
//     no outcome fails for money paid out that was not put in before that brake
//     was pulled. Reading, and recording what reading finds, goes on.
//  6. Every outcome ends in exactly one closed, or one failed with a dead
//     letter, for each time it was published.
//
// It trusts the ledger for what was decided, the node for what was paid, and
// nobody for the content of an outcome; except that what a node doesn't show of a
// session has to be taken from the outcome, which then has to say it. With a
// TrustFunc it believes nothing of an outcome that isn't trusted, not even which
// session it speaks of. A co-signer (CheckProposal) trusts nobody's plan but its own.
package settlement
