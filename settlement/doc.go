// Package settlement turns one Outcome into one closed app session, exactly as
// its Policy says, however often it is asked.
//
// It decides. It does no input or output of its own, starts no goroutine, and uses neither
// a clock nor randomness: the only current time is the lower bound of the node's clock that
// comes with a Session. Everything else comes through four small interfaces: Node (read,
// prepare, send), Ledger (head, history, append), DeadLetters (store) and EmergencyStop
// (stopped, stop). LIFECYCLE.md describes the loop; Next has every decision.
//
// Invariants, each with a test:
//
//  1. No two closes of one session can both take effect. If requests expire, every
//     request is preceded by its own won append of a closing entry, and is sent once, in
//     the call that won it. If the session's version is the fence, what is sent follows
//     from the closing entry and that version alone.
//  2. The outcome that holds the session is never recorded as failed while a request of
//     ours may still take effect: not before a read begun after the intent's
//     valid-until instant shows the session open or, if versions fence, before a read shows
//     it past the versions that the intent's requests fit. Until then a request that
//     expires is the only one, and one that doesn't is accompanied only by the one that the
//     recorded plan needs next.
//  3. What is paid out equals what was in the session, to the last unit. No participant is
//     a unit or more away from the exact quota.
//  4. The state of a session is the standing that its last entry carries, never the kind of
//     that entry.
//  5. No intent is recorded and nothing is sent while the EmergencyStop says stopped; and no
//     outcome fails for money paid out that was not put in before that stop was recorded.
//     Reading, and recording what reading finds, goes on.
//  6. Every outcome ends in exactly one closed entry, or one failed entry with a dead
//     letter, for each time it was published.
//
// It trusts the ledger for what was decided, the node for what was paid, and no one for the
// content of an outcome; except that the outcome has to state what a node doesn't show of a
// session. With a TrustFunc it believes nothing of an outcome that isn't trusted, including
// its session. A co-signer (CheckProposal) accepts only the plan that it would make itself.
package settlement
