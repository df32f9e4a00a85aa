// Chaos runs settled as it is deployed, breaks everything around it, heals it, and
// then holds every outcome to its result: three nats-server processes in a cluster
// with replicated streams, several `settled serve` processes, and the simulated
// node in this process behind a proxy that cuts, stalls, delays and falls silent.
// A seed fixes what is published and which faults strike what, and when; how
// the processes come to run beside one another it can't fix, so a seed that fails
// may have to be run again.
//
// What strikes: kill -9, SIGSTOP beyond the time after which messages are delivered
// again, SIGTERM; leaders that step down; one server parted from the others, or a
// settled from the servers; a full disk; a node that is away, without its database,
// slow, or that loses requests and answers; outcomes published twice, with
// conflicting ones beside them; dead letters replayed. What doesn't: lost or
// altered disks, clocks that are off, machines that lose power.
//
// Invariants, each held by a test:
//
//  1. The same seed draws the same faults and the same outcomes.
//  2. Nothing is believed that settled says: what an outcome is due stands in a
//     table here, what was stored is read from the streams, and what was paid from
//     the node's own books. Each kind of disagreement is found.
//  3. A proxy passes bytes whole and in order, or not at all.
//  4. Only processes that were started here are signalled, and all of them end.
//
// It trusts clearnodetest to be as the real node is, and `ledger verify` for the
// chains and signatures alone.
package main
