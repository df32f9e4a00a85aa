// Package ledger keeps what was decided and done, entry by entry, in one
// JetStream stream that nobody edits. The stream is the ledger: an entry and the
// publication of a result are one write. It implements settlement.Ledger.
//
// It writes, reads back and audits entries. It decides nothing about outcomes,
// retries nothing but its own append, and does not log: it returns errors. Of
// sessions it keeps nothing between calls but long histories, by the hash chain that
// their heads name: the head itself is read from the leader each time.
//
// Invariants, each held by a test:
//
//  1. An entry is appended only where the session's last entry is the head that it
//     follows: every append of a session is a compare-and-set over the one
//     filter settlement.*.<session>, and one function builds both that filter and
//     the subject published to. Servers in a cluster let two writers through that
//     use different filters for the same session.
//  2. An append that answered an error counts neither as stored nor as not stored
//     before the leader has shown the session's head. The same bytes, with the
//     same random attempt id, are sent again only while that head is unchanged.
//  3. Every read that anything is decided from goes to the stream's leader, never
//     to a replica by direct get, which answers with stale entries after an
//     acknowledged write.
//  4. An entry holds the SHA-256 of the bytes of its session's previous entry.
//     What is hashed are stored bytes, never a document made again from values.
//  5. Nothing is stored that would not be read back the same.
//  6. Where the stream is seen to have lost entries, no closing entry is appended
//     until every request that a lost entry may speak of has expired, and none
//     that was appended meanwhile gives the right to send. A stream that took the
//     place of a deleted one has lost all of them: it is told by when the servers
//     made it, compared after each closing entry and before its request is sent,
//     and by outcomes that are older than a stream not yet a fence old.
//  7. A message on the ledger's subjects that is not an entry of this ledger, by its
//     bytes or by its session's hash chain, is ignored: it is never the head, never
//     ends a chain and never holds a session. The next append expects it as the last
//     message. Where it can't be told from an entry whose predecessors are missing, or
//     from one that a newer version wrote, nothing is decided of the session.
//
// The wait is for requests that only their time fences. Those that the session's
// version fences (nitronode v1) never expire, so that no wait helps, and none is
// needed: of all plans made from one version, remembered or not, the node carries
// out one, a plan made later starts from what that one did, and the close that
// pays out happens once.
//
// It trusts the NATS servers to keep what they acknowledged and to compare before
// they set. Who can write to settlement.> by any other way, or restore the stream
// from a backup, can break the ledger; Verify shows the first always, and the
// second where the tail that was lost is known by an anchor kept elsewhere.
package ledger
