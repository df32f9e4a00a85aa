// Package simulate runs settled's settlement, ledger and acknowledgement code through
// schedules of faults in virtual time. A seed determines a schedule: the same seed gives
// the same schedule, step by step, on any machine.
//
// The code under test is settlement.Settler, ledger.Ledger over its Stream interface,
// cloudevent.Read and consumer.Decide. Simulated are the streams, the durable
// consumer's deliveries, dead letters, the emergency stop, and the node with its client:
// NitroRPC 0.x (requests expire), the legacy node (hides balance, deposits and payouts)
// and nitronode v1 (the session's version is the fence). The simulated node behaves as
// was measured of real ones: two closes that are executed at once both pay, a request
// whose connection was cut is executed nevertheless, and a timestamp is checked when the
// request is taken off its queue. clearnode, JetStream and real processes have tests of
// their own.
//
// Everything runs in coroutines, one at a time. A remote operation returns to the
// scheduler, which draws from the seed how it goes: it is slow, is lost before or after
// it took effect, or is executed when nobody waits any more; or the process crashes,
// or stalls for minutes. Faults end at a drawn instant, and from then on everything has
// to come to its end.
//
// Other faults: an attacker writes messages onto the ledger's subjects and, where
// outcomes are signed, publishes copies of them; other parties act on sessions at the
// node; clocks are set; OUTCOMES is rolled back and reuses its sequences; the ledger is
// rolled back, or gets a setting that loses entries. Of a session that lost entries only
// this is demanded: nothing is paid twice, sent without an intent or sent during a hold,
// and no message is answered without a result. If a replica that could not know of the
// loss sends within a fence period, or the node still executes a request whose intent was lost,
// such a session may be paid twice; Result.Unprotected marks these schedules.
//
// Not simulated: an acknowledgement that is in flight while OUTCOMES is rolled back and
// that the server takes for one of the message that has the sequence then; `settled
// reconcile` finds that message.
//
// The package trusts the code under test with nothing: it computes a second time what
// the node may be paid, what an entry may contain and what an outcome is due. Its own
// tests show that a seed always gives the same trace and that a violation of each
// invariant is reported. Decisions depend on the schedule's choices only: not on a
// clock, the order of a map, or the Go scheduler.
package simulate
