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
// With Config.Protocol Legacy it is the ClearNode of May 2025 instead, on Postgres, held to its own recording
// (testdata/legacy) and, where that is silent, to its source. It signs errors, notifications and the login over "null", gives
// notifications the server's clock for an id, reads signatures over what it marshals itself, pays addresses that are spelled
// otherwise than the definition's out of nothing, never looks at assets that no row names, and passes frames from one client
// to others unread. Two closes that meet pay twice here too. Channels, history and what the JSON and decimal libraries say of
// unreadable values differ by design.
//
// With Config.Protocol NitronodeV1 it is nitronode 1.4.1 instead, on Postgres with one blockchain, held to its own recordings
// (testdata/v1) and, where they are silent, to its source. Nobody logs in, nothing is signed but state updates, and no request
// is ever too old: the session's version alone fences. Nothing locks a session here either, but of two updates of one version
// the first to commit wins; the other hears of a concurrent modification, or, where it was compared with what the winner left,
// of wrong rows. A list may show a session as it was and its allocations as they are. Whoever sends more than 10 frames a
// second, after a burst of 20, is reset: what was read goes on, and the answers are lost. Participants come in lower case, by
// address or as defined; of several things that are wrong with an update the first by address and asset is named, where the
// real node names any. Money is put into sessions by OpenSession, Deposit and OpenSessionUnexplained: channels,
// submit_deposit_state and the registration of session keys aren't simulated, and their methods are unknown. An amount with an
// exponent beyond 1000 is refused, where the real node would write it out.
//
// It trusts nobody who connects: frames of any size, depth and type are answered, never fatal. It knows nothing of the
// client in package clearnode, so that a mistake there can't be mirrored here.
package clearnodetest
