package simulate

import (
	"container/heap"
	"fmt"
	"time"
)

// dawn is when every schedule begins.
var dawn = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

// world is one schedule on its way: virtual time, what is going to happen, and
// everybody in it.
type world struct {
	choices *choices
	dialect Dialect
	weather weather
	now     time.Time
	calmAt  time.Time // from then on nothing goes wrong any more
	events  events
	serial  uint64 // of events, so that those of one instant keep their order
	steps   int
	running *actor // nil: the scheduler itself
	actors  []*actor
	trace   *trace
	broken  *Violation

	scene    scene
	replicas []*replica
	broker   broker
	stream   stream
	letters  letters
	brake    brake
	node     node
	laws     laws
}

// event is something that is going to happen.
type event struct {
	at     time.Time
	serial uint64
	run    func()
}

type events []event

func (e events) Len() int      { return len(e) }
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }

func (e events) Less(i, j int) bool {
	if !e[i].at.Equal(e[j].at) {
		return e[i].at.Before(e[j].at)
	}
	return e[i].serial < e[j].serial
}

func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	(*e)[len(*e)-1].run = nil
	*e = (*e)[:len(*e)-1]
	return last
}

// at has something happen at an instant; one that is past means now.
func (w *world) at(t time.Time, run func()) {
	if t.Before(w.now) {
		t = w.now
	}
	w.serial++
	heap.Push(&w.events, event{t, w.serial, run})
}

func (w *world) after(d time.Duration, run func()) { w.at(w.now.Add(d), run) }

// Bounds of a schedule. Liveness is held to the first: with a backoff of two
// minutes at most, eight attempts and a fence of 80 s each, whatever ends at all
// ends well within it.
const (
	mostCalm  = 90 * time.Minute // from the end of the faults to the end of everything
	mostSteps = 60_000
)

// run lets everything happen until nothing is left to happen.
func (w *world) run() {
	defer w.abandonAll()
	for len(w.events) > 0 && w.broken == nil {
		e := heap.Pop(&w.events).(event)
		w.now = e.at
		if w.steps++; w.steps > mostSteps || w.now.After(w.calmAt.Add(mostCalm)) {
			w.violate(Liveness, "%s after the faults ended this is still going on: %s", w.now.Sub(w.calmAt).Round(time.Second), w.broker.unanswered())
			return
		}
		e.run()
	}
	if w.broken == nil {
		w.atTheEnd()
	}
}

// faulty says whether something may go wrong, so many times in a thousand.
func (w *world) faulty(perMille int) bool {
	return w.now.Before(w.calmAt) && w.choices.chance(perMille)
}

// Law names what must hold.
type Law string

// Violation is a law that a schedule broke.
type Violation struct {
	Law  Law
	Text string
	At   time.Duration // since the schedule began
}

func (v *Violation) Error() string {
	return fmt.Sprintf("%s: %s (at +%s)", v.Law, v.Text, v.At)
}

// violate reports the first violation; it ends the schedule.
func (w *world) violate(law Law, format string, args ...any) {
	if w.broken != nil {
		return
	}
	w.broken = &Violation{law, fmt.Sprintf(format, args...), w.now.Sub(dawn)}
	w.note("LAW", "broken: %s: %s", law, w.broken.Text)
}
