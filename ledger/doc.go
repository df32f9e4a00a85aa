// Package ledger stores what was decided and done, entry by entry, in one append-only
// JetStream stream. The stream is the ledger: storing an entry and publishing a result are
// one write. It implements settlement.Ledger. ENTRIES.md describes the stored format.
//
// The package appends, reads and verifies entries. It decides nothing about outcomes,
// retries only its own appends, and does not log: it returns errors. Between calls it keeps
// only long session histories, which it checks against the stream; the head of a session is
// read from the leader each time.
//
// Invariants, each with a test:
//
//  1. An entry is appended only if the session's last message is the one that the append
//     expects: every append of a session is a compare-and-set over the filter
//     settlement.*.<session>, and one function builds both that filter and the subject.
//     In a cluster, the servers accept two conflicting writes that use different filters
//     for the same session.
//  2. After an append that returned an error the entry counts neither as stored nor as not
//     stored until the leader has returned the session's head. The same bytes, with the
//     same random attempt id, are sent again only while that head is unchanged.
//  3. Every read that a decision depends on goes to the stream's leader, never to a replica
//     by direct get, which returns stale entries after an acknowledged write.
//  4. An entry holds the SHA-256 of the bytes of its session's previous entry. Stored bytes
//     are hashed, never a document that was encoded again.
//  5. Nothing is stored that would be read back differently.
//  6. When the stream is found to have lost entries, no closing entry is appended until
//     every request that a lost entry may have recorded has expired, and no closing entry
//     that was appended meanwhile gives the right to send. A stream that replaced a deleted
//     one has lost all entries. It is recognised by its creation time, which is compared
//     after each closing entry and before its request is sent, and by outcomes that are
//     older than a stream that is younger than a fence period.
//  7. A message on the ledger's subjects that is not an entry of this ledger, by its bytes
//     or by its session's hash chain, is ignored: it is never the head, never ends a chain
//     and never blocks a session. The next append expects it as the last message. If it
//     can't be distinguished from an entry whose predecessors are missing, or from one that
//     a newer version wrote, nothing is decided about the session.
//
// The wait concerns only requests that are fenced by their expiry. Requests that are fenced
// by the session's version (nitronode v1) never expire, and need no wait: of all plans made
// from one version, recorded or lost, the node executes one. A plan that is made later
// starts from the result of that one, and the close that pays out happens once.
//
// The package trusts the NATS servers to keep what they acknowledged and to evaluate
// expectations correctly. Anyone who can write to settlement.> by other means, or restore
// the stream from a backup, can break the ledger. Verify always detects the first, and the
// second if an anchor that is kept elsewhere covers the lost tail.
package ledger
