package simulate

import (
	"errors"
	"iter"
	"runtime/debug"
	"time"
)

// actor is a coroutine: one worker of a process at one message, or somebody
// outside. It runs only while the scheduler lets it, until it waits for something.
type actor struct {
	w     *world
	home  *replica // the process it is part of; nil: none
	name  string
	next  func() (struct{}, bool)
	stop  func()
	yield func(struct{}) bool
	turn  uint64 // of its waits, so that each is ended once
	dead  bool

	seen  sight  // the session as its last look at the node showed it
	heads uint64 // how far the ledger went when it last read a head
}

// abandoned unwinds an actor whose process is gone.
type abandoned struct{}

// errLost is what an operation answers that nobody answered.
var errLost = errors.New("no answer")

// begin starts an actor; it first runs when the scheduler comes to it.
func (w *world) begin(home *replica, name string, body func(*actor)) {
	a := &actor{w: w, home: home, name: name}
	a.next, a.stop = iter.Pull(func(yield func(struct{}) bool) {
		a.yield = yield
		defer a.end()
		body(a)
	})
	w.actors = append(w.actors, a)
	w.after(0, func() { a.wake(0) })
}

// end takes note that the actor is done, or was abandoned. A panic of the code
// under test is a violation.
func (a *actor) end() {
	a.dead = true
	value := recover()
	if _, gone := value.(abandoned); value != nil && !gone {
		a.w.violate(NoPanic, "%s panicked: %v\n%s", a.name, value, debug.Stack())
	}
}

// wake lets an actor go on that waits. A process that is stalled goes on later.
func (a *actor) wake(turn uint64) {
	switch w := a.w; {
	case a.dead || a.turn != turn:
	case a.home != nil && a.home.stalledUntil.After(w.now):
		w.at(a.home.stalledUntil, func() { a.wake(turn) })
	default:
		a.turn++
		w.running = a
		a.next()
		w.running = nil
	}
}

// wait gives way until something calls wake.
func (a *actor) wait(start func(wake func())) {
	turn := a.turn
	start(func() { a.wake(turn) })
	if !a.yield(struct{}{}) {
		panic(abandoned{})
	}
}

func (a *actor) sleep(d time.Duration) {
	a.wait(func(wake func()) { a.w.after(d, wake) })
}

// abandon ends an actor where it stands: nothing of it happens any more.
func (a *actor) abandon() {
	if !a.dead {
		a.dead = true
		a.stop()
	}
}

func (w *world) abandonAll() {
	for _, a := range w.actors {
		a.abandon()
	}
}

// remote is one operation at somebody else's process: apply is carried out there,
// at most once, and an error says that no answer came, whatever happened.
func (a *actor) remote(op string, apply func()) error {
	f := a.w.fate(op)
	a.perish(f)
	a.wait(func(wake func()) {
		if f.arrives {
			a.w.after(f.there, func() { a.arrive(f, apply, wake) })
		}
		if !f.answered {
			a.w.after(f.patience, wake)
		}
	})
	if !f.answered {
		a.note("%s: no answer", op)
		return errLost
	}
	return nil
}

func (a *actor) arrive(f fate, apply, wake func()) {
	apply()
	if f.kills {
		a.w.crash(a.home, "once its request was carried out")
	}
	if f.answered {
		a.w.after(f.back, wake)
	}
}

// perish is what happens to the process itself before an operation.
func (a *actor) perish(f fate) {
	w := a.w
	if a.home == nil {
		return
	}
	if f.stall > 0 {
		a.home.stall(f.stall)
	}
	if f.crash {
		w.after(0, func() { w.crash(a.home, "before its next step") })
		a.wait(func(func()) {})
	}
}
