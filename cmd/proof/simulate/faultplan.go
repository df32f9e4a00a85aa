package simulate

import "time"

// weather is what goes wrong in a schedule, and how often. Each schedule draws
// some of it, for where everything fails always nothing interesting happens.
type weather struct {
	lasts time.Duration // faults end then

	// So many in a thousand operations.
	lost, unanswered, late, slow int
	stall, crash                 int
	pause                        int // stalls between a read and what is decided from it

	// So many in a thousand of what they are named for.
	beatsLost, unacked  int // deliveries
	refused, doubtful   int // requests at the node
	signedOut, unsigned int // sign-ins forgotten; co-signers away
	misled, dropped     int // reads: "not found" that isn't true; connections
	wedged, brooded     int // appends just after a foreign message; processes that stall on a refusal

	// How many there are.
	outages, mires, ledgerOutages, restarts   int
	rivals, deposits, withdrawals, operations int // of others, at the node
	replays                                   int
	foreign, clockJumps                       int // messages in the ledger by an adversary; wall clocks set
	setBacks, settings                        int // the ledger is set back; its settings are changed
	outcomesSetBack                           int // an older copy takes the place of OUTCOMES
	copies                                    int // messages of outcomes by an adversary, where outcomes are signed

	attempts   int           // an outcome may have; fewer than the default, so that schedules come to their end
	strangers  bool          // others reach the quorum without us
	incidents  bool          // others close while the node works on a close of ours
	trust      bool          // outcomes are signed
	policies   bool          // replicas differ in their policies
	clockAhead time.Duration // how far a process may believe the node's clock to be ahead of what it is
	clockLag   time.Duration
	work       time.Duration // how long the node works on a request
}

func (w *world) drawWeather() {
	c := w.choices
	level := func(low, high int) int {
		return []int{0, 0, 0, low, high}[c.pick(5)]
	}
	w.weather = weather{
		lasts: c.between(time.Minute, 12*time.Minute),
		lost:  level(20, 150), unanswered: level(20, 150), late: level(30, 200), slow: level(50, 400),
		stall: level(20, 100), crash: level(10, 60), pause: level(20, 200),
		beatsLost: level(100, 600), unacked: level(50, 300),
		refused: level(100, 700), doubtful: level(100, 500),
		signedOut: level(20, 150), unsigned: level(50, 300),
		misled: level(50, 300), dropped: level(50, 400),
		outages: level(1, 4), mires: level(1, 3), ledgerOutages: level(1, 3), restarts: level(1, 4),
		rivals: level(1, 2), deposits: level(1, 3), withdrawals: level(1, 2), operations: level(1, 4),
		replays:  level(1, 4),
		policies: c.pick(2) == 1,
	}
	w.weather.attempts = []int{4, 1, 2, 3}[c.pick(4)]
	w.weather.incidents = w.dialect == Nitro && c.pick(5) == 4
	is := &w.weather
	is.foreign, is.wedged, is.brooded, is.clockJumps = level(2, 8), level(50, 300), level(10, 50), level(1, 3)
	is.outcomesSetBack = level(1, 2)
	switch c.pick(8) {
	case 6:
		is.setBacks = 1 + c.pick(2)
	case 7:
		is.settings = 1 + c.pick(2)
	}
	if is.trust = c.pick(4) == 3; is.trust {
		is.copies = 1 + c.pick(4)
	}
	w.focus()
	w.weather.clockAhead = time.Duration(level(500, 4000)) * time.Millisecond
	w.weather.clockLag = time.Duration(level(2, 90)) * time.Second
	w.weather.work = []time.Duration{20 * time.Millisecond, time.Second, mostWork}[c.pick(3)]
	w.calmAt = dawn.Add(w.weather.lasts)
}

// focus makes some schedules dense in what would else be rare.
func (w *world) focus() {
	c, is := w.choices, &w.weather
	switch where := c.pick(5); {
	case is.incidents: // also while the node works on ours for longer than the margin
		is.doubtful, is.mires = 500, 3
	case where == 4: // doubts, stalls and few attempts: what the fence is for
		is.stall, is.pause, is.late, is.unanswered, is.lost, is.crash = 30, 300, 300, 100, 0, 0
		is.attempts, is.beatsLost = 1+c.pick(2), 0
	case where == 2: // refusals, after which a process stalls until another has sent a request of its own
		is.refused, is.brooded, is.late, is.attempts = 300, 700, 300, 4
		is.stall, is.crash, is.beatsLost, is.lost = 0, 0, 0, 0
	case where == 3: // plans that change, and rivals who close by an old one
		is.late, is.unanswered, is.stall, is.lost = 300, 100, 20, 0
		is.attempts, is.rivals, is.policies, is.strangers = 3, 1+c.pick(3), true, true
	}
}

// fate is what becomes of one remote operation.
type fate struct {
	arrives  bool
	answered bool
	there    time.Duration // until it is carried out
	back     time.Duration // until the answer is there, from then on
	patience time.Duration // after which nobody waits for an answer any more
	crash    bool          // the process ends before it
	kills    bool          // the process ends when it is carried out
	stall    time.Duration // the process stands still first
}

// fate draws what becomes of an operation.
func (w *world) fate(op string) fate {
	c, is := w.choices, &w.weather
	f := fate{arrives: true, answered: true, patience: 2 * time.Second}
	f.there, f.back = c.between(time.Millisecond, 30*time.Millisecond), c.between(time.Millisecond, 30*time.Millisecond)
	switch {
	case !w.now.Before(w.calmAt):
		return f
	case c.chance(is.crash):
		f.crash, f.kills = c.pick(2) == 0, true
	case c.chance(is.stall), op == "decide" && c.chance(is.pause):
		f.stall = c.between(time.Second, []time.Duration{2 * time.Minute, 5 * time.Minute}[c.pick(2)])
	case c.chance(is.lost):
		f.arrives, f.answered = false, false
	case c.chance(is.unanswered):
		f.answered = false
	case (op == "publish" || op == "send") && c.chance(is.late):
		f.answered, f.there = false, c.between(2*time.Second, []time.Duration{20 * time.Second, 2 * time.Minute}[c.pick(2)])
	case c.chance(is.slow):
		f.there, f.back = c.between(0, 8*time.Second), c.between(0, 8*time.Second)
	}
	if op == "look" || op == "send" {
		f.patience = requestTimeout
	}
	f.answered = f.answered && f.there+f.back <= f.patience
	if !f.answered && c.pick(2) == 1 {
		f.patience = c.between(time.Millisecond, f.patience) // the connection is cut
	}
	return f
}

// spells draws when so many spells of something begin and how long they last.
func (w *world) spells(n int, longest time.Duration, during func(until time.Time)) {
	for range n {
		length := w.choices.between(longest/20, longest)
		w.at(dawn.Add(w.choices.between(0, w.weather.lasts/2)), func() {
			end := w.now.Add(length)
			if end.After(w.calmAt) {
				end = w.calmAt
			}
			during(end)
		})
	}
}

// moments has something happen so many times before calm comes.
func (w *world) moments(n int, what func()) {
	for range n {
		w.at(dawn.Add(w.choices.between(0, w.weather.lasts)), what)
	}
}

// drawTroubles says when the rest of the world moves.
func (w *world) drawTroubles() {
	is := w.weather
	w.spells(is.outages, 2*time.Minute, func(until time.Time) {
		w.note("NODE", "is AWAY until %s", clock(until.Sub(dawn)))
		w.node.awayUntil = later(w.node.awayUntil, until)
	})
	w.spells(is.mires, 5*time.Minute, func(until time.Time) {
		w.note("NODE", "its database is in a MIRE until %s", clock(until.Sub(dawn)))
		w.node.miredUntil = later(w.node.miredUntil, until)
	})
	w.spells(is.ledgerOutages, time.Minute, func(until time.Time) {
		w.note("LEDGER", "is AWAY until %s", clock(until.Sub(dawn)))
		w.stream.awayUntil = later(w.stream.awayUntil, until)
	})
	w.moments(is.restarts, func() { w.crash(w.replicas[w.choices.pick(len(w.replicas))], "by kill -9") })
	w.moments(is.replays, w.letters.replay)
	w.moments(is.foreign, func() { w.stream.intrude(w.anySession().id) })
	w.moments(is.clockJumps, func() { w.replicas[w.choices.pick(len(w.replicas))].setClock() })
	w.moments(is.outcomesSetBack, w.broker.setBack)
	w.moments(is.setBacks, w.stream.setBack)
	w.moments(is.settings, w.stream.changeSettings)
	w.moments(is.copies, w.broker.copied)
	w.moments(is.rivals, func() { w.node.rival(w.anySession()) })
	w.moments(is.deposits, func() { w.node.deposited(w.anySession()) })
	w.moments(is.withdrawals, func() { w.node.withdrawn(w.anySession()) })
	w.moments(is.operations, func() { w.node.operated(w.anySession()) })
}

// later: spells may overlap.
func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
