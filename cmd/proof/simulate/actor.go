package simulate

import (
	"errors"
	"iter"
	"runtime/debug"
	"time"
)

// actor is a coroutine: one worker of a process, settling one message. It runs only
// when the scheduler resumes it, until it waits for something.
type actor struct {
	w       *world
	process *replica
	message *message
	name    string
	resume  func() (struct{}, bool)
	stop    func()
	yield   func(struct{}) bool
	waits   uint64 // numbers its waits, so that each ends once
	done    bool

	lastRead  snapshot // the session as last read from the node
	ledgerEnd uint64   // the ledger's last sequence when it last read a head
}

// killed unwinds an actor whose process has ended.
type killed struct{}

// errNoAnswer is the error of an operation that got no answer.
var errNoAnswer = errors.New("no answer")

// spawn starts an actor; it first runs when the scheduler resumes it. A panic of the
// code under test is a violation.
func (w *world) spawn(r *replica, m *message, name string, body func(*actor)) {
	a := &actor{w: w, process: r, message: m, name: name}
	a.resume, a.stop = iter.Pull(func(yield func(struct{}) bool) {
		a.yield = yield
		defer func() {
			a.done = true
			value := recover()
			if _, ok := value.(killed); value != nil && !ok {
				w.violate(NoPanic, "%s panicked: %v\n%s", name, value, debug.Stack())
			}
		}()
		body(a)
	})
	w.actors = append(w.actors, a)
	r.workers = append(r.workers, a)
	w.after(0, func() { a.wake(0) })
}

// wake resumes an actor from one of its waits. Where its process is stalled, that
// happens when the stall ends.
func (a *actor) wake(wait uint64) {
	switch w := a.w; {
	case a.done || a.waits != wait:
	case a.process.stalledUntil.After(w.now):
		w.at(a.process.stalledUntil, func() { a.wake(wait) })
	default:
		a.waits++
		w.running = a
		a.resume()
		w.running = nil
	}
}

// wait suspends the actor until something calls wake.
func (a *actor) wait(begin func(wake func())) {
	wait := a.waits
	begin(func() { a.wake(wait) })
	if !a.yield(struct{}{}) {
		panic(killed{})
	}
}

func (a *actor) sleep(d time.Duration) {
	a.wait(func(wake func()) { a.w.after(d, wake) })
}

// kill ends an actor where it waits; it never runs again.
func (a *actor) kill() {
	if !a.done {
		a.done = true
		a.stop()
	}
}

func (w *world) killAll() {
	for _, a := range w.actors {
		a.kill()
	}
}

// call performs one remote operation. apply runs at the other side at most once; an
// error says only that no answer came, not that apply did not run.
func (a *actor) call(op string, apply func()) error {
	w, p := a.w, a.w.planCall(op)
	a.applyProcessFaults(p)
	a.wait(func(wake func()) {
		if p.arrives {
			w.after(p.requestDelay, func() {
				apply()
				if p.crashAfter {
					w.crash(a.process, "once its request was executed")
				}
				if p.answered {
					w.after(p.answerDelay, wake)
				}
			})
		}
		if !p.answered {
			w.after(p.timeout, wake)
		}
	})
	if !p.answered {
		a.tracef("%s: no answer", op)
		return errNoAnswer
	}
	return nil
}

// applyProcessFaults stalls or crashes the calling process before an operation.
func (a *actor) applyProcessFaults(p callPlan) {
	if p.stall > 0 {
		a.process.stall(p.stall)
	}
	if p.crashBefore {
		a.w.after(0, func() { a.w.crash(a.process, "before its next step") })
		a.wait(func(func()) {})
	}
}

func (a *actor) tracef(format string, args ...any) { a.w.tracef(a.name, format, args...) }
