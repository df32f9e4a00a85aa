// Soak settles hundreds of thousands of sessions with one `settled serve`, and checks
// that the process doesn't grow: it compares the resources that the process holds, and
// the cost of a settlement, between the first and the last tenth of the sessions. It
// injects no faults. settled and nats-server are processes of their own; the simulated
// node, the publisher and the verdict are in this one.
//
// A figure that differs by more than a tenth between the tenths fails the run, and so
// does every disagreement that package verdict finds.
//
// It doesn't measure wallets with many sessions, since each pair of players has only
// a few, nor the memory of nats-server, which grows with the sessions.
package main
