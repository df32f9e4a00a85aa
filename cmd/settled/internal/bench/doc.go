// Package bench measures how fast settled settles, compared with less work at the same
// node. Each round measures every arm once, on fresh stores and fresh sessions, and begins
// with another arm:
//
//	raw        only closes, as fast as the connections allow
//	raw_reads  closes, each after the reads that a settlement needs at least
//	bare       the pipeline without its rules: pull, reads, append, close, append, confirmed ack
//	settled    `settled serve`
//	script     one connection, one close after the other
//
// Rates are measured in a closed loop, latencies in an open one, timed from the instant at
// which an outcome was due. The clients of the first three arms and of the script are
// written by hand (wire.go, conn.go), so that they don't get faster or slower with settled.
//
// The node, NATS, settled and the bare pipeline are processes of their own (child.go), which
// tell the time and the memory that they use. All results are read from the ledger's stream
// and from the node, and each payout is compared with what is due (results.go): a wrong or
// missing one ends the run.
package bench
