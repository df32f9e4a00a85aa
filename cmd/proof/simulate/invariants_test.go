package simulate

import (
	"testing"
	"time"

	"settled/consumer"
	"settled/ledger"
	"settled/settlement"
)

// settledWorld is a world in which one outcome closed its session without a fault:
// request 1, entries 1 (closing) and 2 (closed).
func settledWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(Schedule{Dialect: Nitro, Bytes: []byte{}, Trace: true})
	w.draw()
	w.run()
	if w.violation != nil || len(w.node.requests) != 1 || len(w.ledger.messages) != 2 {
		t.Fatalf("%v\n%s", w.violation, w.trace)
	}
	return w
}

func entry(t *testing.T, w *world, sequence int) settlement.Entry {
	t.Helper()
	m := w.ledger.messages[sequence-1]
	e, err := ledger.ParseEntry(m.Subject, m.Payload, m.Sequence)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// failedEntry is a failed entry of the outcome that closed the session.
func failedEntry(t *testing.T, w *world) settlement.Entry {
	e := entry(t, w, 2)
	e.State, e.Sequence = settlement.EntryFailed, 3
	e.Error = settlement.Fail(settlement.InvalidOutcome, "planted")
	e.DeadLetter = w.deadLetters.add(w.broker.published[0])
	return e
}

func TestViolationsAreReported(t *testing.T) {
	for invariant, plants := range map[Invariant][]func(*testing.T, *world){
		OneInFlight: {func(_ *testing.T, w *world) {
			r, second := w.node.requests[0], *w.node.requests[0]
			r.copies, r.session.open, r.timestamp = 1, true, w.node.now()
			second.timestamp = r.timestamp
			w.checker.checkSending(&second)
		}, func(_ *testing.T, w *world) {
			w.node.requests[0].session.executing = 1
			w.checker.checkExecuting(w.node.requests[0])
		}},
		PaidOnce: {func(_ *testing.T, w *world) { w.node.commit(w.node.requests[0]) }},
		WriteAhead: {func(_ *testing.T, w *world) {
			w.node.requests[0].recorded = false
			w.checker.checkSending(w.node.requests[0])
		}, func(_ *testing.T, w *world) {
			r := *w.node.requests[0]
			r.allocation = nil
			w.checker.checkCommit(&r)
		}, func(t *testing.T, w *world) {
			e := entry(t, w, 1)
			e.Request = &settlement.RequestRef{Digest: "unknown"}
			*w.checker.recordOf(e.Outcome), w.checker.closed = outcomeRecord{ref: e.Outcome}, map[settlement.SessionID]bool{}
			w.checker.checkClosing(w.checker.recordOf(e.Outcome), e)
		}},
		Stopped: {func(_ *testing.T, w *world) {
			w.emergencyStop.active = true
			w.checker.checkSending(w.node.requests[0])
		}},
		Held: {func(_ *testing.T, w *world) {
			w.ledger.unsafeSetting, w.ledger.unsafeSince = "max_age", w.now.Add(-time.Minute)
			w.checker.checkHeld(w.replicas[0], w.node.requests[0])
		}, func(_ *testing.T, w *world) {
			r := w.node.requests[0]
			w.ledger.lostAt, r.recordedAt, w.replicas[0].knowsLossSince = w.now, w.now, w.now
			w.checker.checkHeld(w.replicas[0], r)
		}},
		Signed: {func(t *testing.T, w *world) {
			w.faults.signedOutcomes, w.checker.holders, w.broker.published[0].forged = true, map[settlement.SessionID]*outcomeRecord{}, true
			w.checker.checkClosing(w.checker.outcomes[0], entry(t, w, 1))
		}, func(t *testing.T, w *world) {
			r := &outcomeRecord{ref: w.checker.outcomes[0].ref, failures: []failure{{message: &message{}, entry: 2}}}
			w.faults.signedOutcomes = true
			w.checker.checkClosed(r, entry(t, w, 2))
		}},
		AllPaid: {func(_ *testing.T, w *world) {
			s := w.sessions[0]
			s.deposits = append(s.deposits, transfer{units: 1})
			w.checker.checkPayout(s)
		}},
		AsDue: {func(t *testing.T, w *world) {
			a := &actor{w: w, process: w.replicas[0], lastRead: w.sessions[0].snapshot()}
			w.checker.checkPlan(a, w.broker.messages[0].parsed, settlement.Plan{Allocations: entry(t, w, 1).Allocation[:1]})
		}},
		Agreement: {func(t *testing.T, w *world) {
			e := entry(t, w, 2)
			e.Allocation = e.Allocation[1:]
			w.checker.closed = map[settlement.SessionID]bool{}
			w.checker.checkClosed(w.checker.recordOf(e.Outcome), e)
		}, func(_ *testing.T, w *world) {
			w.checker.outcomes[0].closed = false
			w.checker.checkPaidIsRecorded(w.sessions[0])
		}},
		NotInDoubt: {func(_ *testing.T, w *world) {
			w.checker.holders = map[settlement.SessionID]*outcomeRecord{}
			w.checker.checkCommit(w.node.requests[0])
		}, func(t *testing.T, w *world) {
			w.checker.outcomes[0].closed, w.sessions[0].closes = false, nil
			w.node.requests[0].copies, w.node.requests[0].executing = 1, true
			w.checker.checkFailed(w.checker.outcomes[0], failedEntry(t, w))
		}, func(t *testing.T, w *world) {
			w.checker.outcomes[0].closed = false
			w.checker.checkFailed(w.checker.outcomes[0], failedEntry(t, w))
		}},
		OneEnd: {func(t *testing.T, w *world) {
			w.checker.checkFailed(w.checker.outcomes[0], failedEntry(t, w))
		}, func(t *testing.T, w *world) {
			w.checker.checkClosed(w.checker.outcomes[0], entry(t, w, 2))
		}},
		Justified: {func(t *testing.T, w *world) {
			w.checker.outcomes[0].closed, w.sessions[0].closes = false, nil
			w.checker.checkFailed(w.checker.outcomes[0], failedEntry(t, w))
		}},
		DeadLetterFirst: {func(t *testing.T, w *world) {
			e := failedEntry(t, w)
			e.DeadLetter++
			w.checker.checkFailed(w.checker.outcomes[0], e)
		}, func(_ *testing.T, w *world) {
			w.checker.outcomes[0].failures = []failure{{message: w.broker.published[0], entry: 2}}
			w.checker.checkDeadLetter(&actor{w: w, ledgerEnd: 2}, w.broker.messages[0].parsed)
		}},
		Recorded: {func(_ *testing.T, w *world) {
			w.checker.outcomes[0].everClosed = false
			w.checker.checkAnswer(w.broker.messages[0], consumer.Verdict{Disposition: consumer.Acked})
		}},
		Bounded: {func(t *testing.T, w *world) {
			w.checker.outcomes[0].attempts = w.faults.attempts
			w.checker.checkClosing(w.checker.outcomes[0], entry(t, w, 1))
		}},
		Chained: {func(_ *testing.T, w *world) {
			w.ledger.messages[1].Payload = append(w.ledger.messages[1].Payload, ' ')
			w.ledger.messages[1], w.ledger.messages[0] = w.ledger.messages[0], w.ledger.messages[1]
			w.checker.checkAudit(w.sessions[0])
		}, func(_ *testing.T, w *world) {
			w.checker.checkEntry(ledger.Message{Subject: "settlement.closed.unknown", Sequence: 3, Payload: []byte("{}")})
		}},
		Liveness: {func(_ *testing.T, w *world) {
			w.broker.messages[0].answered = false
			w.checkEnd()
		}, func(_ *testing.T, w *world) {
			w.at(w.faultsEnd.Add(2*maxRecovery), func() {})
			w.run()
		}},
		NoPanic: {func(_ *testing.T, w *world) {
			w.spawn(w.replicas[0], nil, "planted", func(*actor) { panic("planted") })
			w.run()
		}},
	} {
		for i, plant := range plants {
			w := settledWorld(t)
			plant(t, w)
			if w.violation == nil || w.violation.Invariant != invariant {
				t.Errorf("%s, plant %d: reported is %v", invariant, i+1, w.violation)
			}
		}
	}
}

// What a process sent is executed although the process crashes, and the process
// does nothing more.
func TestCrashedProcess(t *testing.T) {
	w := newWorld(Schedule{Dialect: Nitro, Bytes: []byte{}})
	w.faultsEnd = epoch
	r := &replica{w: w, name: "r", up: true}
	applied, returned := false, false
	w.spawn(r, nil, "r/1", func(a *actor) {
		_ = a.call("get", func() { applied = true })
		returned = true
	})
	w.after(0, func() { w.at(w.now, func() { w.crash(r, "now") }) })
	w.run()
	if !applied || returned {
		t.Errorf("applied %t, returned %t: want the call applied, and no return from it", applied, returned)
	}
}

func TestStalledProcess(t *testing.T) {
	w := newWorld(Schedule{Dialect: Nitro, Bytes: []byte{}})
	w.faultsEnd = epoch
	r := &replica{w: w, name: "r", up: true}
	var at time.Time
	w.spawn(r, nil, "r/1", func(a *actor) {
		r.stall(time.Minute)
		_ = a.call("get", func() {})
		at = w.now
	})
	w.run()
	if w.violation != nil || at.Before(epoch.Add(time.Minute)) {
		t.Errorf("resumed at %s, before the stall ended: %v", at, w.violation)
	}
}
