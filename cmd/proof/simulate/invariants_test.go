package simulate

import (
	"testing"
	"time"

	"settled/consumer"
	"settled/ledger"
	"settled/settlement"
)

// settledWorld is one in which one outcome closed its session, and nothing went
// wrong: request 1, entries 1 (closing) and 2 (closed).
func settledWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(Schedule{Dialect: Nitro, Bytes: []byte{}, Trace: true})
	w.draw()
	w.run()
	if w.broken != nil || len(w.node.flights) != 1 || len(w.stream.messages) != 2 {
		t.Fatalf("%v\n%s", w.broken, w.trace)
	}
	return w
}

// entry is one of its entries.
func entry(t *testing.T, w *world, sequence int) settlement.Entry {
	t.Helper()
	m := w.stream.messages[sequence-1]
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
	e.DeadLetter = w.letters.store(1)
	return e
}

// A violation of each law is reported, as what it is.
func TestPlantedViolations(t *testing.T) {
	for law, plants := range map[Law][]func(*testing.T, *world){
		OneInFlight: {func(_ *testing.T, w *world) {
			f, second := w.node.flights[0], *w.node.flights[0]
			f.sent, f.session.open, f.stamp = 1, true, w.node.now()
			second.stamp = f.stamp
			w.laws.sending(&second)
		}, func(_ *testing.T, w *world) {
			w.node.flights[0].session.running = 1
			w.node.laboured(w.node.flights[0])
		}},
		PaidOnce: {func(_ *testing.T, w *world) { w.node.commit(w.node.flights[0]) }},
		WriteAhead: {func(_ *testing.T, w *world) {
			w.node.flights[0].recorded = false
			w.laws.sending(w.node.flights[0])
		}, func(_ *testing.T, w *world) {
			f := *w.node.flights[0]
			f.rows = nil
			w.laws.landing(&f)
		}, func(t *testing.T, w *world) {
			e := entry(t, w, 1)
			e.Request = &settlement.RequestRef{Digest: "nobody's"}
			*w.laws.of(e.Outcome), w.laws.closed = record{ref: e.Outcome}, map[settlement.SessionID]bool{}
			w.laws.closingStored(w.laws.of(e.Outcome), e)
		}},
		Held: {func(_ *testing.T, w *world) {
			w.stream.danger, w.stream.dangerFrom = "max_age", w.now.Add(-time.Minute)
			w.laws.held(w.replicas[0], w.node.flights[0])
		}, func(_ *testing.T, w *world) {
			f := w.node.flights[0]
			w.stream.lostAt, f.recordedAt, w.replicas[0].heldFrom = w.now, w.now, w.now
			w.laws.held(w.replicas[0], f)
		}},
		Signed: {func(t *testing.T, w *world) {
			w.weather.trust, w.laws.holders, w.broker.all[0].forged = true, map[settlement.SessionID]*record{}, true
			w.laws.closingStored(w.laws.outcomes[0], entry(t, w, 1))
		}, func(t *testing.T, w *world) {
			r := &record{ref: w.laws.outcomes[0].ref, failed: []failing{{message: &message{}, entry: 2}}}
			w.weather.trust = true
			w.laws.closedStored(r, entry(t, w, 2))
		}},
		AllPaid: {func(_ *testing.T, w *world) {
			s := w.scene.sessions[0]
			s.deposits = append(s.deposits, move{units: 1})
			w.laws.paid(s)
		}},
		AsDue: {func(t *testing.T, w *world) {
			a := &actor{w: w, home: w.replicas[0], seen: w.scene.sessions[0].sight()}
			w.laws.planned(a, w.broker.messages[0].outcome, settlement.Plan{Allocations: entry(t, w, 1).Allocation[:1]})
		}},
		Agreement: {func(t *testing.T, w *world) {
			e := entry(t, w, 2)
			e.Allocation = e.Allocation[1:]
			w.laws.closed = map[settlement.SessionID]bool{}
			w.laws.closedStored(w.laws.of(e.Outcome), e)
		}, func(_ *testing.T, w *world) {
			w.laws.outcomes[0].closed = false
			w.laws.reconciled(w.scene.sessions[0])
		}},
		NotInDoubt: {func(_ *testing.T, w *world) {
			w.laws.holders = map[settlement.SessionID]*record{}
			w.laws.landing(w.node.flights[0])
		}, func(t *testing.T, w *world) {
			w.laws.outcomes[0].closed, w.scene.sessions[0].closes = false, nil
			w.node.flights[0].sent, w.node.flights[0].running = 1, true
			w.laws.failedStored(w.laws.outcomes[0], failedEntry(t, w))
		}, func(t *testing.T, w *world) {
			w.laws.outcomes[0].closed = false
			w.laws.failedStored(w.laws.outcomes[0], failedEntry(t, w))
		}},
		OneEnd: {func(t *testing.T, w *world) {
			w.laws.failedStored(w.laws.outcomes[0], failedEntry(t, w))
		}, func(t *testing.T, w *world) {
			w.laws.closedStored(w.laws.outcomes[0], entry(t, w, 2))
		}},
		Justified: {func(t *testing.T, w *world) {
			w.laws.outcomes[0].closed, w.scene.sessions[0].closes = false, nil
			w.laws.failedStored(w.laws.outcomes[0], failedEntry(t, w))
		}},
		LetterFirst: {func(t *testing.T, w *world) {
			e := failedEntry(t, w)
			e.DeadLetter++
			w.laws.failedStored(w.laws.outcomes[0], e)
		}, func(_ *testing.T, w *world) {
			w.laws.outcomes[0].failed = []failing{{message: w.broker.all[0], entry: 2}}
			w.laws.letter(&actor{w: w, heads: 2}, w.broker.messages[0].outcome)
		}},
		Recorded: {func(_ *testing.T, w *world) {
			w.laws.outcomes[0].settled = false
			w.laws.answered(w.broker.messages[0], consumer.Verdict{Disposition: consumer.Acked})
		}},
		Bounded: {func(t *testing.T, w *world) {
			w.laws.outcomes[0].attempts = w.weather.attempts
			w.laws.closingStored(w.laws.outcomes[0], entry(t, w, 1))
		}},
		Chained: {func(_ *testing.T, w *world) {
			w.stream.messages[1].Payload = append(w.stream.messages[1].Payload, ' ')
			w.stream.messages[1], w.stream.messages[0] = w.stream.messages[0], w.stream.messages[1]
			w.laws.verified(w.scene.sessions[0])
		}, func(_ *testing.T, w *world) {
			w.laws.stored(ledger.Message{Subject: "settlement.closed.unknown", Sequence: 3, Payload: []byte("{}")})
		}},
		Liveness: {func(_ *testing.T, w *world) {
			w.broker.messages[0].done = false
			w.atTheEnd()
		}, func(_ *testing.T, w *world) {
			w.at(w.calmAt.Add(2*mostCalm), func() {})
			w.run()
		}},
		NoPanic: {func(_ *testing.T, w *world) {
			w.begin(nil, "planted", func(*actor) { panic("planted") })
			w.run()
		}},
	} {
		for i, plant := range plants {
			w := settledWorld(t)
			plant(t, w)
			if w.broken == nil || w.broken.Law != law {
				t.Errorf("%s, plant %d: reported is %v", law, i+1, w.broken)
			}
		}
	}
}

// What an actor gave up on is carried out all the same, and changes nothing of the
// actor; one that is abandoned does nothing more.
func TestAbandonedActor(t *testing.T) {
	w := newWorld(Schedule{Dialect: Nitro, Bytes: []byte{}})
	w.calmAt, w.scene.policies = dawn, policySets
	r := &replica{w: w, name: "r", up: true}
	applied, went := false, false
	w.begin(r, "r/1", func(a *actor) {
		_ = a.remote("get", func() { applied = true })
		went = true
	})
	r.hands = w.actors
	w.after(0, func() { w.at(w.now, func() { w.crash(r, "now") }) })
	w.run()
	if !applied || went {
		t.Errorf("applied %t, went on %t: want what was sent carried out, and nothing after it", applied, went)
	}
}

// A process that is stalled goes on when it is let.
func TestStalledActor(t *testing.T) {
	w := newWorld(Schedule{Dialect: Nitro, Bytes: []byte{}})
	w.calmAt = dawn
	r := &replica{w: w, name: "r", up: true}
	var at time.Time
	w.begin(r, "r/1", func(a *actor) {
		r.stall(time.Minute)
		_ = a.remote("get", func() {})
		at = w.now
	})
	w.run()
	if w.broken != nil || at.Before(dawn.Add(time.Minute)) {
		t.Errorf("it went on at %s: %v", at, w.broken)
	}
}
