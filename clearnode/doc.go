// Package clearnode is the client of a ClearNode, and implements settlement.Node. It
// speaks to three generations of node over websockets: NitroRPC 0.2 and 0.4 as
// ClearNode 0.5.2 does (files nitro*.go), the legacy protocol of May 2025
// (legacy*.go), and nitronode v1 (v1*.go). What differs between them is behind one
// seam (dialect.go); which one a node is, one question finds out (identify.go).
//
// It keeps a pool of connections up, signed in and verified; reads a session out
// out of what the node shows; builds one request, gathers the signatures that reach
// the session's quorum, of our keys and of co-signers; sends it once. It decides
// nothing: what to pay, when to try again and what to record are settlement's.
// It never sends a request twice, on whatever connection.
//
// Invariants, each held by a test:
//
//  1. A frame is an answer only if its id is that of a request of ours that
//     waits, and its signature, over the exact bytes of "res", is the node's.
//     Anything else neither blocks nor confuses a call. A wrong signature costs
//     the connection, and the call has no answer. (Of a legacy node that holds for
//     results; its errors are signed over nothing. A nitronode signs no answer.)
//  2. ErrNotSent is proof: no byte of the request left. All else that is no
//     answer is ErrNoAnswer: the request may have landed, or may still.
//  3. On NitroRPC the node's clock is known as a lower bound, of each connection by itself.
//     Requests expire by the lowest of them (clocks.go). A request's timestamp comes from
//     it, set back so far that the request stays acceptable for no longer
//     than Config.RequestValidity.
//  4. No close is prepared before the node showed that it refuses a request older
//     than Config.MessageExpiry, and accepts one as old as a close will be. None is
//     sent but on a connection on which it showed that, nor while any line showed
//     otherwise.
//  5. An error of the node is read by its whole text, in one table (errors.go).
//     What isn't in it is in doubt after a close, and "wait" after a read.
//  6. "Not found" and "nothing in it" are answered only after a second look, a
//     second later. That a session can never be read is answered only where its
//     definition says so.
//  7. Every call ends within its context and Config.RequestTimeout for each
//     frame; every goroutine ends before Run returns.
//  8. A request is signed by the fewest of our keys that reach the session's
//     quorum, and by no key whose signature the node wouldn't count. Another
//     party's is used only if it is over the very bytes that are sent, and of who
//     was asked. We sign for another party only the bytes that we would write.
//  9. Signing in anew takes no connection out of service, of this process or of
//     another replica. No key of ours can be claimed by another wallet once we have
//     signed in (nitroreserve.go).
//
// It trusts the node for what its verified answers say of money, and for nothing
// else: frames of any size, shape and order are expected. The address that
// signs is pinned (Config.NodeAddress), or the first one seen is held for the
// life of the process. Keys, tokens and signed frames are never logged.
//
// What it knows of the protocols was recorded from running nodes of each generation,
// and the tests hold it to those recordings (testdata). What no recording shows was
// read in their sources, and is marked so.
package clearnode
