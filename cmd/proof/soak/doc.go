// Soak settles hundreds of thousands of sessions with one `settled serve`, and looks
// whether the process grows: what it holds, and what a settlement costs, are compared
// between the first and the last tenth of the sessions. Nothing fails here but the
// outcomes that have to. settled and nats-server are processes of their own; the
// simulated node, the publisher and the verdict are in this one.
//
// Invariants, each held by a test:
//
//  1. Nothing is believed that settled says: what every outcome is due stands in a
//     table here, what was stored is read from the streams, and what was paid from
//     the node's own books. Each kind of disagreement is found.
//  2. A figure that differs by more than a tenth between the tenths fails the run.
//
// Not looked at: how settled deals with wallets that have many sessions, for each
// pair of players here has a few; and the memory of nats-server, which grows with
// the sessions.
package main
