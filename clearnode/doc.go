// Package clearnode is the client of a ClearNode, and implements settlement.Node. It speaks
// to three generations of node over websockets: NitroRPC 0.2 and 0.4 as ClearNode 0.5.2 does
// (internal/nitrorpc), the legacy protocol of May 2025 (internal/legacy), and nitronode v1
// (internal/nitronode). dialect.go has the interface that each implements, and the code that
// detects the generation. What they share is in internal/protocol.
//
// The client keeps a pool of connections up, signed in and probed. It reads sessions, builds
// one request, collects the signatures that reach the session's quorum, from our keys and
// from co-signers, and sends the request. It decides nothing: what to pay, when to try again
// and what to record are decided in settlement. The client sends a request once for each
// call and never repeats it by itself. On nitronode, settlement may call it again with an
// equal request.
//
// Invariants, each checked by a test:
//
//  1. A frame is an answer only if (a) its id is that of a pending request and (b) its
//     signature over the exact bytes of "res" is the node's. Other frames do not affect a
//     call. A wrong signature ends the connection, and the call has no answer.
//     (Of a legacy node this is true for results; its errors carry no valid signature. A
//     nitronode signs no answer.)
//  2. ErrNotSent means that nothing of the request was sent. Any other failure to answer is
//     ErrNoAnswer: the request may have taken effect, or may still.
//  3. On NitroRPC and legacy the client keeps, for each connection, a lower bound of the
//     node's clock. Expiry is computed from the lowest bound (clock.go). A close is stamped
//     with the lowest of these bounds among the connections that are up, minus
//     (Config.MessageExpiry - Config.RequestValidity). The node therefore accepts it for at
//     most Config.RequestValidity.
//  4. On NitroRPC and legacy no close is prepared before the node showed that it refuses a
//     request older than Config.MessageExpiry, and accepts a request with the age that a
//     close will have. A close is sent only on a connection that passed this probe, and only
//     while no connection has failed it.
//  5. The client looks up the whole text of an error in a table, one for each generation
//     (errors.go in its package). After a close, an unknown text leaves the request in
//     doubt. After a read, the caller waits.
//  6. The client returns "not found" or "balance zero" only after two reads, one second
//     apart. It returns a permanent read error only if the session's definition is invalid.
//  7. Every call ends when its context ends, and waits at most Config.RequestTimeout for each
//     answer. Every goroutine ends before Run returns.
//  8. A request is signed by the fewest of our keys that reach the session's quorum, and by
//     no key whose signature the node would not count. Another party's signature is used
//     only if it covers the very bytes that are sent, and is of the account that was asked.
//     We sign another party's request only if its bytes equal those that we would build.
//  9. Signing in again does not end or sign out any other connection, of this process or of
//     another replica. No other wallet can claim a key of ours once we have signed in
//     (internal/nitrorpc/auth.go).
//
// The client trusts the node's answers about money and nothing else. It verifies their
// signatures, except on nitronode, which signs none. It handles malformed, oversized and
// unexpected frames. The address that signs is pinned (Config.NodeAddress), or the first one
// seen is enforced for the life of the process. Keys, tokens and signed frames are never
// logged.
//
// What the client knows of the protocols was recorded from running nodes of each generation,
// and the tests compare it with those recordings (testdata). What no recording shows was read
// in the nodes' source code. Such facts are marked "source", recorded ones "recorded", and
// experiments "measured".
package clearnode
