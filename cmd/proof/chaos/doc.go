// Chaos runs settled as it is deployed, injects faults into everything around it, ends
// the faults, and then checks every outcome's result: three nats-server processes in a
// cluster with replicated streams, several `settled serve` processes, and the simulated
// node in this process behind a proxy that cuts, stalls, delays and drops traffic. A
// seed determines what is published, and which faults are injected where and when. It
// can't determine how the processes are scheduled, so a seed that fails may pass when
// it is repeated.
//
// The faults: kill -9, SIGSTOP for longer than the redelivery time, SIGTERM; leaders
// that step down; a server cut off from the others, or a settled from the servers; a
// full disk; a node that is down, without its database, slow, or that loses requests
// and answers; outcomes published twice and together with conflicting ones; dead
// letters replayed. Not covered: lost or altered disks, wrong clocks, power failures.
//
// Invariants, each with a test:
//
//  1. The same seed draws the same faults and the same outcomes.
//  2. A proxy passes bytes whole and in order, or not at all.
//  3. Only processes that were started here are signalled, and all of them end.
//
// It trusts clearnodetest to behave like the real node, and `ledger verify` only for
// chains and signatures. Package verdict judges everything else.
package main
