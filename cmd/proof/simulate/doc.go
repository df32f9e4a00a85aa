// Package simulate runs the real settlement, ledger and acknowledgement code
// through schedules of faults in virtual time. One seed is one schedule; the same
// seed gives the same schedule, to the last step, on any machine.
//
// Real are settlement.Settler, ledger.Ledger over its Stream seam, and
// consumer.ReadEnvelope and consumer.Decide. Modelled are the streams, the
// durable consumer's deliveries, the dead letters, and the node with its client:
// NitroRPC 0.x (requests expire), the legacy node (which hides what it holds) and
// nitronode v1 (versions fence). The model of the node obeys what was measured of
// the real ones: two closes that run at once both pay, a request whose connection
// was dropped is carried out all the same, a timestamp is looked at when the
// request is taken off its queue. clearnode, JetStream and the processes
// themselves are not here; other tests run those.
//
// Everything that runs is a coroutine, and one runs at a time. A remote operation
// gives way to the scheduler, which draws from the seed what becomes of it: slow,
// lost before it took effect or after, carried out when nobody waits any more; or
// the process crashes, or stalls for minutes. Faults end at a drawn instant, and
// from then on everything has to come to its end.
//
// Invariants of the runner, each held by a test:
//
//  1. The same seed gives the same trace.
//  2. A violation of each law is reported.
//  3. Nothing is drawn but from the schedule's own choices: not from a clock, a
//     map's order or the runtime's scheduler. (The ledger may read a head's
//     history with goroutines of its own; that takes no virtual time, and what
//     stands below a head never changes.)
//
// An adversary writes messages onto the ledger's subjects, at any moment and just
// before an append is compared; wall clocks of replicas are set. An older copy takes
// the place of OUTCOMES, which then uses its sequences again. In some schedules outcomes
// are signed, and an adversary publishes copies of them and other data under their ids.
// Not here: an acknowledgement that was on its way while OUTCOMES was set back, and that
// the server takes for one of the message that has the sequence now; `settled reconcile`
// finds that message.
//
// The ledger is set back too: while settled runs, while it is stopped, or with every
// process started --after-restore; and a setting of its stream that endangers money is
// made and taken back. Of sessions that lost entries only this is demanded then: nothing
// is paid twice, or sent without an intent, or while sending is held, and a result was
// stored before its message was answered. A schedule counts apart (Result.Unheld) where
// a replica that could not know of the loss sends within a fence, or the node is stuck
// with a request whose intent was lost: then such a session may be paid twice.
//
// It trusts the code under test with nothing: what the node pays, what an entry
// may say and what an outcome is due are worked out here a second time.
package simulate
