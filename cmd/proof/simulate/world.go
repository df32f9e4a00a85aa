package simulate

import (
	"bytes"
	"container/heap"
	"fmt"
	"math/rand/v2"
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

// trace is the story of a schedule, a line for each thing that happened.
type trace struct{ bytes.Buffer }

// note adds a line, where the story is kept.
func (w *world) note(who, format string, args ...any) {
	if w.trace == nil {
		return
	}
	fmt.Fprintf(w.trace, "%10s  %-12s ", clock(w.now.Sub(dawn)), who)
	fmt.Fprintf(w.trace, format, args...)
	w.trace.WriteByte('\n')
}

func (a *actor) note(format string, args ...any) { a.w.note(a.name, format, args...) }

// clock shows virtual time as minutes and seconds.
func clock(d time.Duration) string {
	return fmt.Sprintf("%d:%06.3f", int(d.Minutes()), (d % time.Minute).Seconds())
}

// choices is where the decisions of a schedule come from: a seed, or bytes of a
// fuzzer. Bytes that ran out choose 0, which everywhere means that all goes well.
type choices struct {
	rng   *rand.Rand // nil: bytes
	bytes []byte
}

func seeded(seed uint64) *choices {
	return &choices{rng: rand.New(rand.NewPCG(seed, 0x5e771ed))} // #nosec G404 -- a schedule has to be repeatable
}

// below draws from [0, n).
func (c *choices) below(n int64) int64 {
	switch {
	case n <= 1:
		return 0
	case c.rng != nil:
		return c.rng.Int64N(n)
	case len(c.bytes) < 2:
		c.bytes = nil
		return 0
	}
	v := int64(c.bytes[0])<<8 | int64(c.bytes[1])
	c.bytes = c.bytes[2:]
	if n <= 1<<16 {
		return v % n
	}
	return n / (1 << 16) * v
}

func (c *choices) pick(n int) int { return int(c.below(int64(n))) }

// chance is true so many times in a thousand.
func (c *choices) chance(perMille int) bool {
	return perMille > 0 && c.below(1000) >= int64(1000-perMille)
}

// between draws a duration, in steps of a thousandth of the difference.
func (c *choices) between(least, most time.Duration) time.Duration {
	return least + (most-least)/1000*time.Duration(c.below(1001))
}

// fill makes random bits.
func (c *choices) fill(b []byte) {
	for i := range b {
		b[i] = byte(c.below(256)) // #nosec G115 -- below 256
	}
}
