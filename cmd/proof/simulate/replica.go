package simulate

import (
	"context"
	"fmt"
	"time"

	"settled/consumer"
	"settled/ledger"
	"settled/settlement"
)

// What the replicas are set to: the product's defaults.
const (
	messageExpiry   = 60 * time.Second
	requestValidity = 20 * time.Second
	fenceMargin     = 20 * time.Second
	requestTimeout  = 10 * time.Second
	ackWait         = 30 * time.Second
)

// replica is one process: settled serve.
type replica struct {
	w            *world
	name         string
	up           bool
	life         int // how often it was started
	stalledUntil time.Time
	hands        []*actor
	policies     *policySet
	ledger       *ledger.Ledger
	settler      settlement.Settler
	clockError   time.Duration // of what it believes the node's clock to be
	signedOut    time.Time     // until then
	drift        time.Duration // of its own clock

	// What becomes of it where the ledger loses entries.
	tail         ledger.TailEntry // that it remembers across its lives, where it kept one
	kept         bool
	furthest     uint64    // the furthest entry that it knows, in this life
	afterRestore bool      // it is started with --after-restore
	heldUntil    time.Time // by that
	heldFrom     time.Time // when entries were lost that it knew, or was told of
}

// start is a process coming up: it remembers nothing.
func (r *replica) start() {
	w, c := r.w, r.w.choices
	if w.stream.danger != "" { // ledger.Open refuses
		w.after(settingsAge, r.start)
		return
	}
	r.up, r.life, r.hands, r.furthest = true, r.life+1, nil, 0
	if r.afterRestore {
		r.heldUntil, r.afterRestore = w.now.Add(fence), false
	}
	if r.misses() {
		r.heldFrom = w.now
	}
	r.policies = w.scene.policies[0]
	if w.weather.policies {
		r.policies = w.scene.policies[c.pick(len(w.scene.policies))]
	}
	r.clockError = c.between(-w.weather.clockLag, w.weather.clockAhead)
	r.drift = c.between(-time.Second, time.Second)
	r.ledger = ledger.New(&w.stream, ledger.Config{
		Fence:      fence,
		Tail:       r,
		NowFunc:    func() time.Time { return w.now.Add(r.drift) },
		SteadyFunc: func() time.Time { return w.now },
		WaitFunc: func(_ context.Context, d time.Duration) error {
			w.running.sleep(d)
			return nil
		},
		RandomFunc: c.fill,
	})
	r.settler = settlement.Settler{
		Node: &w.node, Ledger: oneStep{r.ledger, w}, DeadLetters: &w.letters, EmergencyStop: gate{&w.brake, r},
		Policies: r.policies.parsed, MaxAttempts: w.weather.attempts, FenceMargin: fenceMargin,
		HoldFunc: gate{&w.brake, r}.complete,
	}
	if w.weather.trust {
		r.settler.TrustFunc, r.settler.ReplayFunc = w.broker.trusted, w.broker.approved
	}
	w.note(r.name, "starts, with policies %s", r.policies.name)
	if w.weather.setBacks+w.weather.settings > 0 {
		w.after(0, func() { r.verify(r.life) })
	}
}

// oneStep is a ledger whose History is one step: it may read with goroutines of its
// own, which the scheduler must not see. What stands below a head never changes, so
// nothing is lost by it.
type oneStep struct {
	*ledger.Ledger
	w *world
}

func (l oneStep) History(ctx context.Context, head settlement.Head) ([]settlement.Entry, error) {
	if err := l.w.running.remote("history", func() {}); err != nil {
		return nil, err
	}
	l.w.stream.still = true
	defer func() { l.w.stream.still = false }()
	return l.Ledger.History(ctx, head)
}

// crash ends a process. What it sent is on its way all the same.
func (w *world) crash(r *replica, when string) {
	if r == nil || !r.up {
		return
	}
	w.note(r.name, "CRASHES %s", when)
	r.up, r.stalledUntil = false, time.Time{}
	for _, a := range r.hands {
		a.abandon()
	}
	w.after(w.choices.between(100*time.Millisecond, 2*time.Minute), r.start)
}

// stall stops a process for a while, as a SIGSTOP does.
func (r *replica) stall(d time.Duration) {
	if until := r.w.now.Add(d); until.After(r.stalledUntil) {
		r.w.note(r.name, "STALLS for %s", d.Round(time.Millisecond))
		r.stalledUntil = until
	}
}

// setClock sets the wall clock of a process's host, as an operator or a time server does.
func (r *replica) setClock() {
	by := r.w.choices.between(-time.Hour, time.Hour)
	r.w.note(r.name, "its CLOCK is set by %s", by)
	r.drift += by
}

// alive: a process that is up and runs tells the broker that it works.
func (r *replica) alive() bool { return r.up && !r.stalledUntil.After(r.w.now) }

// take settles one delivery of a message and answers it.
func (r *replica) take(d delivery) {
	name := fmt.Sprintf("%s/%d.%d", r.name, d.message.number, d.message.delivered)
	r.w.begin(r, name, func(a *actor) {
		a.note("takes message %d: %s", d.message.sequence, d.message.deal)
		s, err := r.settler.Settle(context.Background(), d.message.outcome)
		v := consumer.Decide(s, err, d.message.delivered, consumer.Backoff{
			Initial: 500 * time.Millisecond, Max: 2 * time.Minute, RandFunc: r.w.choices.below,
		})
		a.note("settle says %s: %s", verdict(s, err), v.Disposition)
		_ = a.remote(string(v.Disposition), func() { r.w.broker.answered(d, v) }) // lost: it is delivered again
	})
	r.hands = append(r.hands, r.w.actors[len(r.w.actors)-1])
}

func verdict(s settlement.Settlement, err error) string {
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("entry %d %s", s.Entry.Sequence, s.Entry.State)
}
