// Package clearnodetest is a simulated ClearNode 0.5.2 on a real websocket: the node of the tests, of the demonstration
// and of the simulation. It is held to frames recorded from the real server (testdata).
//
// What it keeps:
//
//  1. The same methods, answers and error texts, whole strings. What the real node refuses is refused here: addresses and
//     session ids compare byte for byte, a private request older than the message expiry is dead, a close without quorum
//     fails.
//  2. The same carelessness. Nothing locks a session between a close's checks and its commit, so two closes that meet on two
//     connections are both carried out and pay twice. A connection that drops doesn't stop what was read from it. A funder
//     whom the allocations leave out loses what is theirs to the session's account. Amounts aren't checked for precision.
//  3. The same order. One connection is served one request at a time; behind it wait ten more, then the sender. Balance
//     updates come before the answer that they belong to, with request id 0.
//  4. Double entry. Every movement is a row per account, wallet and asset, and Check says whether money was created,
//     destroyed, left behind or paid without the quorum's signature.
//
// Where it differs, it is by design. The real node may forget requests that it had read when their connection dropped; here
// every one of them goes on, which is the worse case for a client. Channels, transfers, request history and user tags beyond
// their place in ledger transactions aren't simulated, and their methods are unknown. Rows with equal times come newest id
// first, where the real node leaves their order open.
//
// It trusts nobody who connects: frames of any size, depth and type are answered, never fatal. It knows nothing of the
// client in package clearnode, so that a mistake there can't be mirrored here.
package clearnodetest
