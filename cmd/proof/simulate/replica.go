package simulate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"settled/consumer"
	"settled/ledger"
	"settled/settlement"
)

// The configuration of the replicas: settled's defaults.
const (
	messageExpiry   = 60 * time.Second
	requestValidity = 20 * time.Second
	fenceMargin     = 20 * time.Second
	requestTimeout  = 10 * time.Second
	ackWait         = 30 * time.Second
	maxCheckAge     = 5 * time.Second // of the last check of the ledger's stream
)

// replica is one process of settled serve.
type replica struct {
	w              *world
	name           string
	up             bool
	life           int // how often it was started
	stalledUntil   time.Time
	workers        []*actor
	policies       *policySet
	ledger         *ledger.Ledger
	settler        settlement.Settler
	nodeClockError time.Duration // of its estimate of the node's clock
	clockOffset    time.Duration // of its own clock
	signedOutUntil time.Time

	// What it knows of lost ledger entries.
	tail           ledger.TailEntry // survives a restart
	hasTail        bool
	lastKnown      uint64    // the last sequence that it knows in this life
	afterRestore   bool      // it is started next with --after-restore
	holdUntil      time.Time // of that
	knowsLossSince time.Time // when entries that it knew were lost, or it was told of a loss
}

var _ ledger.Tail = (*replica)(nil)

// start starts the process, which remembers only its tail.
func (r *replica) start() {
	w, c := r.w, r.w.choices
	if w.ledger.unsafeSetting != "" { // ledger.Open refuses it
		w.after(maxCheckAge, r.start)
		return
	}
	r.up, r.life, r.workers, r.lastKnown = true, r.life+1, nil, 0
	if r.afterRestore {
		r.holdUntil, r.afterRestore = w.now.Add(fence), false
	}
	if r.missesTail() {
		r.knowsLossSince = w.now
	}
	r.policies = policySets[0]
	if w.faults.mixedPolicies {
		r.policies = policySets[c.pick(len(policySets))]
	}
	r.nodeClockError = c.between(-w.faults.clockBehind, w.faults.clockAhead)
	r.clockOffset = c.between(-time.Second, time.Second)
	r.ledger = ledger.New(&w.ledger, ledger.Config{
		Fence:         fence,
		Tail:          r,
		NowFunc:       func() time.Time { return w.now.Add(r.clockOffset) },
		MonotonicFunc: func() time.Time { return w.now },
		WaitFunc: func(_ context.Context, d time.Duration) error {
			w.running.sleep(d)
			return nil
		},
		RandomFunc: c.randomBytes,
	})
	gate := sendGate{&w.emergencyStop, r}
	r.settler = settlement.Settler{
		Node: &w.node, Ledger: r.ledger, DeadLetters: &w.deadLetters, EmergencyStop: gate,
		Policies: r.policies.parsed, MaxAttempts: w.faults.attempts, FenceMargin: fenceMargin,
		HoldFunc: gate.ledgerComplete,
	}
	if w.faults.signedOutcomes {
		r.settler.TrustFunc, r.settler.ReplayFunc = w.broker.checkTrust, w.broker.checkReplay
	}
	w.tracef(r.name, "starts, with policies %s", r.policies.name)
	if w.faults.ledgerRollbacks+w.faults.settingChanges > 0 {
		w.after(0, func() { r.checkLedger(r.life) })
	}
}

// crash ends a process. Requests that it sent still arrive.
func (w *world) crash(r *replica, when string) {
	if !r.up {
		return
	}
	w.tracef(r.name, "CRASHES %s", when)
	r.up, r.stalledUntil = false, time.Time{}
	for _, a := range r.workers {
		a.kill()
	}
	w.after(w.choices.between(100*time.Millisecond, 2*time.Minute), r.start)
}

// stall stops a process for a while, as SIGSTOP does.
func (r *replica) stall(d time.Duration) {
	if until := r.w.now.Add(d); until.After(r.stalledUntil) {
		r.w.tracef(r.name, "STALLS for %s", d.Round(time.Millisecond))
		r.stalledUntil = until
	}
}

// setClock moves the wall clock of a process.
func (r *replica) setClock() {
	by := r.w.choices.between(-time.Hour, time.Hour)
	r.w.tracef(r.name, "its CLOCK is set by %s", by)
	r.clockOffset += by
}

// responsive reports whether a process is up and not stalled.
func (r *replica) responsive() bool { return r.up && !r.stalledUntil.After(r.w.now) }

// worksOn reports whether a worker still settles the message. Otherwise its answer was
// lost.
func (r *replica) worksOn(m *message) bool {
	return slices.ContainsFunc(r.workers, func(a *actor) bool { return !a.done && a.message == m })
}

// settle settles one delivery of a message and answers it.
func (r *replica) settle(d delivery) {
	m := d.message
	r.w.spawn(r, m, fmt.Sprintf("%s/%d.%d", r.name, m.number, m.delivered), func(a *actor) {
		a.tracef("takes message %d: %s", m.sequence, m.outcome)
		o := m.parsed
		o.FirstDelivery = m.delivered == 1 || r.w.choices.below(4) == 0 // a wrong hint must be harmless
		s, err := r.settler.Settle(context.Background(), o)
		v := consumer.Decide(s, err, m.delivered, consumer.Backoff{
			Initial: 500 * time.Millisecond, Max: 2 * time.Minute, RandFunc: r.w.choices.below,
		})
		if err != nil {
			a.tracef("Settle returns %v: %s", err, v.Disposition)
		} else {
			a.tracef("Settle returns entry %d %s: %s", s.Entry.Sequence, s.Entry.State, v.Disposition)
		}
		_ = a.call(string(v.Disposition), func() { r.w.broker.answer(d, v) }) // lost: it is delivered again
	})
}

// knowsAfter reports whether the process runs and knows an entry after a sequence.
func (r *replica) knowsAfter(sequence uint64) bool { return r.up && r.lastKnown > sequence }

// missesTail reports whether the last entry that the process remembers is gone.
func (r *replica) missesTail() bool {
	at, s := r.tail.Sequence, &r.w.ledger
	if at == 0 {
		return false
	}
	return at > s.end() || at <= s.expired || digest(s.messages[at-1].Payload) != r.tail.Digest
}

// Recall implements ledger.Tail.
func (r *replica) Recall(string, time.Time) (ledger.TailEntry, bool) { return r.tail, r.hasTail }

// Keep implements ledger.Tail.
func (r *replica) Keep(_ string, _ time.Time, e ledger.TailEntry, again bool) {
	if again || e.Sequence > r.tail.Sequence {
		r.tail, r.hasTail = e, true
	}
}

// checkLedger checks the ledger's stream regularly, as settled serve does.
func (r *replica) checkLedger(life int) {
	if r.life != life || !r.up || r.w.now.After(r.w.faultsEnd.Add(2*fence)) {
		return
	}
	if r.responsive() {
		r.w.ledger.immediate = true
		_ = r.ledger.Check(context.Background())
		r.w.ledger.immediate = false
	}
	r.w.after(maxCheckAge, func() { r.checkLedger(life) })
}

// sendGate decides whether a replica may send: it asks for the emergency stop, the hold
// after a restore and the stream's settings.
type sendGate struct {
	*emergencyStop
	r *replica
}

var _ settlement.EmergencyStop = sendGate{}

func (g sendGate) restoreHold() error {
	if left := g.r.holdUntil.Sub(g.r.w.now); left > 0 {
		return &settlement.Waiting{Reason: settlement.LedgerHeld, Delay: left, Err: errors.New("started after a restore")}
	}
	return nil
}

// ledgerComplete is settlement.Settler's HoldFunc.
func (g sendGate) ledgerComplete(ctx context.Context) error {
	if err := g.restoreHold(); err != nil {
		return err
	}
	return g.r.ledger.Complete(ctx, maxCheckAge)
}

// Stopped implements settlement.EmergencyStop.
func (g sendGate) Stopped(ctx context.Context) error {
	if err := g.restoreHold(); err != nil {
		return err
	}
	err := g.r.ledger.Verified(ctx, maxCheckAge)
	var unsafe *ledger.SettingsError
	switch {
	case errors.As(err, &unsafe):
		return &settlement.Waiting{Reason: settlement.LedgerHeld, Delay: maxCheckAge, Err: err}
	case err != nil:
		return &settlement.Waiting{Reason: settlement.LedgerUnavailable, Err: err}
	}
	return g.emergencyStop.Stopped(ctx)
}
