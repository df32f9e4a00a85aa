package simulate

import "time"

// faultPlan says which faults occur in a schedule, and how often. Each schedule draws
// some of them: where everything fails all the time, nothing gets far.
type faultPlan struct {
	duration time.Duration // no fault occurs after it

	// Probabilities in thousandths, of remote operations.
	lost, unanswered, late, slow int
	stall, crash                 int
	pause                        int // stall between a read and the decision made from it

	// Probabilities in thousandths, of what they name.
	progressLost, ackLost       int // deliveries
	refused, ambiguous          int // requests at the node
	signedOut, cosignersAway    int // sign-ins and signatures
	falseNotFound, disconnected int // reads at the node
	foreignBeforeAppend         int // appends
	stallOnRefusal              int // refusals that a process reads

	// Numbers of events.
	nodeOutages, nodeStalls, ledgerOutages, restarts       int
	rivalCloses, rivalDeposits, rivalWithdraws, rivalMoves int // by other parties, at the node
	replays                                                int // of dead letters, by an operator
	foreignEntries, forgedOutcomes                         int // messages of an attacker
	clockJumps                                             int
	ledgerRollbacks, settingChanges, outcomeRollbacks      int

	attempts         int           // max_attempts; below the default so that schedules end sooner
	openQuorum       bool          // other parties reach the quorum without us
	concurrentRivals bool          // other parties close while the node executes a close of ours
	signedOutcomes   bool          // outcomes must be signed
	mixedPolicies    bool          // replicas have different policies
	clockAhead       time.Duration // by which a process may misjudge the node's clock
	clockBehind      time.Duration
	nodeWork         time.Duration // the longest time the node executes a request, unless its database stalls
}

func (w *world) drawFaults() {
	c := w.choices
	level := func(low, high int) int {
		return []int{0, 0, 0, low, high}[c.pick(5)]
	}
	p := faultPlan{
		duration: c.between(time.Minute, 12*time.Minute),
		lost:     level(20, 150), unanswered: level(20, 150), late: level(30, 200), slow: level(50, 400),
		stall: level(20, 100), crash: level(10, 60), pause: level(20, 200),
		progressLost: level(100, 600), ackLost: level(50, 300),
		refused: level(100, 700), ambiguous: level(100, 500),
		signedOut: level(20, 150), cosignersAway: level(50, 300),
		falseNotFound: level(50, 300), disconnected: level(50, 400),
		nodeOutages: level(1, 4), nodeStalls: level(1, 3), ledgerOutages: level(1, 3), restarts: level(1, 4),
		rivalCloses: level(1, 2), rivalDeposits: level(1, 3), rivalWithdraws: level(1, 2), rivalMoves: level(1, 4),
		replays:             level(1, 4),
		mixedPolicies:       c.pick(2) == 1,
		attempts:            []int{4, 1, 2, 3}[c.pick(4)],
		concurrentRivals:    w.dialect == Nitro && c.pick(5) == 4,
		foreignEntries:      level(2, 8),
		foreignBeforeAppend: level(50, 300), stallOnRefusal: level(10, 50),
		clockJumps: level(1, 3), outcomeRollbacks: level(1, 2),
	}
	switch c.pick(8) {
	case 6:
		p.ledgerRollbacks = 1 + c.pick(2)
	case 7:
		p.settingChanges = 1 + c.pick(2)
	}
	if p.signedOutcomes = c.pick(4) == 3; p.signedOutcomes {
		p.forgedOutcomes = 1 + c.pick(4)
	}
	p.concentrate(c)
	p.clockAhead = time.Duration(level(500, 4000)) * time.Millisecond
	p.clockBehind = time.Duration(level(2, 90)) * time.Second
	p.nodeWork = []time.Duration{20 * time.Millisecond, time.Second, maxNodeWork}[c.pick(3)]
	w.faults = p
	w.faultsEnd = epoch.Add(p.duration)
}

// concentrate makes combinations frequent in some schedules that are rare otherwise.
func (p *faultPlan) concentrate(c *choices) {
	switch kind := c.pick(5); {
	case p.concurrentRivals: // also while the node executes a close of ours for longer than the fence margin
		p.ambiguous, p.nodeStalls = 500, 3
	case kind == 4: // requests in doubt, stalls and few attempts, for which the fence exists
		p.stall, p.pause, p.late, p.unanswered, p.lost, p.crash = 30, 300, 300, 100, 0, 0
		p.attempts, p.progressLost = 1+c.pick(2), 0
	case kind == 2: // refusals, after which a process stalls until another has sent a request of its own
		p.refused, p.stallOnRefusal, p.late, p.attempts = 300, 700, 300, 4
		p.stall, p.crash, p.progressLost, p.lost = 0, 0, 0, 0
	case kind == 3: // plans that change, and rivals that close by an old one
		p.late, p.unanswered, p.stall, p.lost = 300, 100, 20, 0
		p.attempts, p.rivalCloses, p.mixedPolicies, p.openQuorum = 3, 1+c.pick(3), true, true
	}
}

// scheduleFaults schedules the outages and events of the fault plan.
func (w *world) scheduleFaults() {
	p := w.faults
	w.outages(p.nodeOutages, 2*time.Minute, &w.node.unavailableUntil, "NODE", "is UNAVAILABLE")
	w.outages(p.nodeStalls, 5*time.Minute, &w.node.stalledUntil, "NODE", "its database STALLS")
	w.outages(p.ledgerOutages, time.Minute, &w.ledger.unavailableUntil, "LEDGER", "is UNAVAILABLE")
	w.atRandomTimes(p.restarts, func() { w.crash(w.anyReplica(), "by kill -9") })
	w.atRandomTimes(p.replays, w.deadLetters.replay)
	w.atRandomTimes(p.foreignEntries, func() { w.ledger.writeForeign(w.anySession().id) })
	w.atRandomTimes(p.clockJumps, func() { w.anyReplica().setClock() })
	w.atRandomTimes(p.outcomeRollbacks, w.broker.rollBack)
	w.atRandomTimes(p.ledgerRollbacks, w.ledger.rollBack)
	w.atRandomTimes(p.settingChanges, w.ledger.changeSettings)
	w.atRandomTimes(p.forgedOutcomes, w.broker.publishForged)
	w.atRandomTimes(p.rivalCloses, func() { w.node.rivalClose(w.anySession()) })
	w.atRandomTimes(p.rivalDeposits, func() { w.node.rivalDeposit(w.anySession()) })
	w.atRandomTimes(p.rivalWithdraws, func() { w.node.rivalWithdraw(w.anySession()) })
	w.atRandomTimes(p.rivalMoves, func() { w.node.rivalOperate(w.anySession()) })
}

// outages draws when n outages begin and how long they last. until is the end of the
// current one; outages may overlap.
func (w *world) outages(n int, longest time.Duration, until *time.Time, who, what string) {
	for range n {
		length := w.choices.between(longest/20, longest)
		w.at(epoch.Add(w.choices.between(0, w.faults.duration/2)), func() {
			end := w.now.Add(length)
			if end.After(w.faultsEnd) {
				end = w.faultsEnd
			}
			w.tracef(who, "%s until %s", what, elapsed(end))
			if end.After(*until) {
				*until = end
			}
		})
	}
}

// atRandomTimes runs do n times before the faults end.
func (w *world) atRandomTimes(n int, do func()) {
	for range n {
		w.at(epoch.Add(w.choices.between(0, w.faults.duration)), do)
	}
}

func (w *world) anySession() *appSession { return w.sessions[w.choices.pick(len(w.sessions))] }
func (w *world) anyReplica() *replica    { return w.replicas[w.choices.pick(len(w.replicas))] }

// callPlan says how one remote operation goes.
type callPlan struct {
	arrives      bool
	answered     bool
	requestDelay time.Duration
	answerDelay  time.Duration
	timeout      time.Duration // after which the caller stops waiting
	crashBefore  bool          // the calling process crashes before it
	crashAfter   bool          // the calling process crashes when the request was executed
	stall        time.Duration // of the calling process, before it
}

func (w *world) planCall(op string) callPlan {
	c, p := w.choices, &w.faults
	call := callPlan{arrives: true, answered: true, timeout: 2 * time.Second}
	call.requestDelay, call.answerDelay = c.between(time.Millisecond, 30*time.Millisecond), c.between(time.Millisecond, 30*time.Millisecond)
	switch {
	case !w.now.Before(w.faultsEnd):
		return call
	case c.chance(p.crash):
		call.crashBefore, call.crashAfter = c.pick(2) == 0, true
	case c.chance(p.stall), op == "decide" && c.chance(p.pause):
		call.stall = c.between(time.Second, []time.Duration{2 * time.Minute, 5 * time.Minute}[c.pick(2)])
	case c.chance(p.lost):
		call.arrives, call.answered = false, false
	case c.chance(p.unanswered):
		call.answered = false
	case (op == "publish" || op == "send") && c.chance(p.late):
		call.answered, call.requestDelay = false, c.between(2*time.Second, []time.Duration{20 * time.Second, 2 * time.Minute}[c.pick(2)])
	case c.chance(p.slow):
		call.requestDelay, call.answerDelay = c.between(0, 8*time.Second), c.between(0, 8*time.Second)
	}
	if op == "read" || op == "send" {
		call.timeout = requestTimeout
	}
	call.answered = call.answered && call.requestDelay+call.answerDelay <= call.timeout
	if !call.answered && c.pick(2) == 1 {
		call.timeout = c.between(time.Millisecond, call.timeout) // the connection is cut
	}
	return call
}
