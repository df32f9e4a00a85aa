// Package clearnode is the client of a ClearNode: it speaks NitroRPC 0.2 and 0.4
// over websockets, as ClearNode 0.5.2 does, and implements settlement.Node.
//
// It keeps a pool of connections up, signed in and verified; reads a session out
// of the node's ledger; builds and signs one close; sends it once. It decides
// nothing: what to pay, when to try again and what to record are settlement's.
// It never sends a close twice, on whatever connection. The legacy node and
// nitronode v1 are not spoken yet, and are refused by name.
//
// Invariants, each held by a test:
//
//  1. A frame is an answer only if its id is that of a request of ours that
//     waits, and its signature, over the exact bytes of "res", is the node's.
//     Anything else neither blocks nor confuses a call. A wrong signature costs
//     the connection, and the call has no answer.
//  2. ErrNotSent is proof: no byte of the request left. All else that is no
//     answer is ErrNoAnswer: the request may have landed, or may still.
//  3. The node's clock is known as a lower bound. A request's timestamp comes
//     from it, set back so far that the request stays acceptable for no longer
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
//
// It trusts the node for what its verified answers say of money, and for nothing
// else: frames of any size, shape and order are expected. The address that
// signs is pinned (Config.NodeAddress), or the first one seen is held for the
// life of the process. Keys, tokens and signed frames are never logged.
//
// What it knows of the protocol was recorded from a running ClearNode 0.5.2, and
// the tests hold it to those recordings (testdata).
package clearnode
