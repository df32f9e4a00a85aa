// Package clearnodetest is a simulated ClearNode 0.5.2 on a real websocket. The tests, the demonstration and the simulation use
// it. Its tests compare it with frames recorded from the real server (testdata).
//
// It reproduces:
//
//  1. The methods, answers and complete error texts. It refuses what the real node refuses: addresses and session ids must be
//     equal byte for byte, a private request older than the message expiry is refused, a close without quorum fails.
//  2. The defects. Nothing locks a session between the checks and the commit of a close, so two closes that overlap on two
//     connections are both committed and pay twice. A request that was read is handled even if its connection ends. The
//     amount of a funder whom the allocations leave out stays in the session's account. The precision of amounts isn't checked.
//  3. The order. The requests of one connection are handled one at a time; ten more are read ahead. Balance updates precede
//     the answer that they belong to and have request id 0.
//  4. Double-entry accounting. Every movement is an entry by account, wallet and asset, and Check reports whether money was
//     created, destroyed, left behind or paid without the quorum's signature.
//
// Some differences are intended. The real node may forget requests that it had read when their connection ended; here all are
// handled, which is the worse case for a client. Channels, transfers, request history and user tags beyond those in ledger
// transactions aren't simulated, and their methods are unknown. Rows with equal times are ordered by id, newest first, where the
// real node's order is undefined.
//
// With Config.Protocol Legacy it is the ClearNode of May 2025 on Postgres. Its tests compare it with its own recording
// (testdata/legacy); the rest follows its source. It signs errors, notifications and the login over "null", uses the server's
// clock as the id of notifications, verifies signatures of what it marshals itself, pays money that it doesn't debit to addresses
// that are spelled differently than in the definition, ignores assets that no row names, and forwards frames between clients
// unread. Two closes that overlap pay twice here too. Channels, history and the JSON and decimal libraries' texts for unreadable
// values differ intentionally.
//
// With Config.Protocol NitronodeV1 it is nitronode 1.4.1 on Postgres with one blockchain. Its tests compare it with its own
// recordings (testdata/v1); the rest follows its source. There is no login, only state updates are signed, and no request is too
// old: only the session's version fences. Nothing locks a session here either, but of two updates of one version the first to
// commit wins; the other is refused for a concurrent modification, or, if it was compared with the winner's result, for wrong
// rows. A list may show an old state of a session with its current allocations. A connection that sends more than 10 frames per
// second, after a burst of 20, is reset: what was read is handled, and the answers are lost. Participants are in lower case, by
// address or as defined; of several errors in an update the first by address and asset is reported, where the real node reports
// any. OpenSession, Deposit and OpenSessionUnexplained put money into sessions: channels, submit_deposit_state and the
// registration of session keys aren't simulated, and their methods are unknown. An amount with an exponent beyond 1000 is refused,
// where the real node would write it out.
//
// It handles any input from clients, of any size, depth and type, without failing. It shares no code with the client in package
// clearnode, so that an error there isn't reproduced here.
package clearnodetest
