package simulate

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"time"
)

// epoch is the virtual time at which every schedule begins.
var epoch = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

// world is the state of one running schedule.
type world struct {
	choices   *choices
	dialect   Dialect
	faults    faultPlan
	now       time.Time // virtual
	faultsEnd time.Time // no fault occurs from then on
	events    []event   // by time; events of the same instant in the order of their creation
	steps     uint64
	running   *actor // nil while the scheduler itself runs
	actors    []*actor
	trace     *bytes.Buffer // nil: no trace is kept
	violation *Violation

	sessions      []*appSession
	outcomes      []*expectedOutcome
	replicas      []*replica
	broker        broker
	ledger        ledgerStream
	deadLetters   deadLetterStream
	emergencyStop emergencyStop
	node          node
	checker       checker
}

// event is a function to run at a virtual time.
type event struct {
	at  time.Time
	run func()
}

// at schedules run; a time in the past means now.
func (w *world) at(t time.Time, run func()) {
	if t.Before(w.now) {
		t = w.now
	}
	i := sort.Search(len(w.events), func(i int) bool { return w.events[i].at.After(t) })
	w.events = slices.Insert(w.events, i, event{t, run})
}

func (w *world) after(d time.Duration, run func()) { w.at(w.now.Add(d), run) }

// Bounds of a schedule. With a backoff of at most two minutes, eight attempts and a
// fence of 80 s each, whatever ends at all ends well within maxRecovery.
const (
	maxRecovery = 90 * time.Minute // from the end of the faults to the last event
	maxSteps    = 60_000
)

// run runs events until none is left or an invariant is violated.
func (w *world) run() {
	defer w.killAll()
	for len(w.events) > 0 && w.violation == nil {
		e := w.events[0]
		w.events[0].run = nil
		w.events = w.events[1:]
		w.now = e.at
		if w.steps++; w.steps > maxSteps || w.now.After(w.faultsEnd.Add(maxRecovery)) {
			w.violate(Liveness, "still running %s after the faults ended: %s", w.now.Sub(w.faultsEnd).Round(time.Second), w.broker.unansweredText())
			return
		}
		e.run()
	}
	if w.violation == nil {
		w.checkEnd()
	}
}

// faultOccurs draws whether a fault occurs, with a probability in thousandths.
func (w *world) faultOccurs(perMille int) bool {
	return w.now.Before(w.faultsEnd) && w.choices.chance(perMille)
}

// Violation is an invariant that a schedule violated.
type Violation struct {
	Invariant Invariant
	Text      string
	At        time.Duration // since the schedule began
}

func (v *Violation) Error() string {
	return fmt.Sprintf("%s: %s (at +%s)", v.Invariant, v.Text, v.At)
}

// violate reports the first violation and ends the schedule.
func (w *world) violate(i Invariant, format string, args ...any) {
	if w.violation != nil {
		return
	}
	w.violation = &Violation{i, fmt.Sprintf(format, args...), w.now.Sub(epoch)}
	w.tracef("CHECK", "VIOLATION: %s: %s", i, w.violation.Text)
}

// tracef adds a line to the trace, if one is kept.
func (w *world) tracef(who, format string, args ...any) {
	if w.trace == nil {
		return
	}
	fmt.Fprintf(w.trace, "%10s  %-12s ", elapsed(w.now), who)
	fmt.Fprintf(w.trace, format, args...)
	w.trace.WriteByte('\n')
}

// elapsed formats a virtual time as minutes and seconds since the epoch.
func elapsed(t time.Time) string {
	d := t.Sub(epoch)
	return fmt.Sprintf("%d:%06.3f", int(d.Minutes()), (d % time.Minute).Seconds())
}

// choices is the source of every decision of a schedule: a seeded generator, or the
// bytes of a fuzzer. Exhausted bytes choose 0, which always means the choice without
// a fault.
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

// chance is true with a probability in thousandths.
func (c *choices) chance(perMille int) bool {
	return perMille > 0 && c.below(1000) >= int64(1000-perMille)
}

// between draws a duration, in steps of a thousandth of the range.
func (c *choices) between(least, most time.Duration) time.Duration {
	return least + (most-least)/1000*time.Duration(c.below(1001))
}

func (c *choices) randomBytes(b []byte) {
	for i := range b {
		b[i] = byte(c.below(256)) // #nosec G115 -- below 256
	}
}
