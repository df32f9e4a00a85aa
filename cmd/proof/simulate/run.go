package simulate

import (
	"time"

	"settled/ledger"
	"settled/settlement"
)

// Schedule says which one is run.
type Schedule struct {
	Dialect Dialect // empty: the seed says which
	Seed    uint64
	Bytes   []byte // in the place of the seed, if any
	Trace   bool   // keep the story
}

// Result is what became of a schedule.
type Result struct {
	Violation *Violation // nil: all laws held
	Trace     string     // where it was kept
	Steps     int
	Virtual   time.Duration // how long it took, in virtual time
	Outcomes  int           // messages of outcomes
	Closed    int           // sessions that were closed by us
	Failed    int           // failed entries
	Lost      bool          // the ledger lost entries
	Unheld    bool          // and a session that they were of could be paid twice: see held
}

// Run runs one schedule. The same schedule gives the same result, its story
// included.
func Run(s Schedule) Result {
	w := newWorld(s)
	w.draw()
	w.run()
	r := Result{Violation: w.broken, Steps: w.steps, Virtual: w.now.Sub(dawn), Outcomes: len(w.broker.messages)}
	if w.trace != nil {
		r.Trace = w.trace.String()
	}
	r.Lost = !w.stream.lostAt.IsZero()
	for _, s := range w.scene.sessions {
		r.Unheld = r.Unheld || s.unheld
	}
	for _, o := range w.laws.outcomes {
		r.Failed += len(o.ends)
		if o.settled {
			r.Closed++
		}
	}
	return r
}

// Spoken is the dialect of the schedule's node.
func (s Schedule) Spoken() Dialect {
	if s.Dialect != "" {
		return s.Dialect
	}
	return Dialects()[s.Seed%uint64(len(Dialects()))]
}

func newWorld(s Schedule) *world {
	w := &world{choices: seeded(s.Seed), dialect: s.Spoken(), now: dawn}
	if s.Bytes != nil {
		w.choices = &choices{bytes: s.Bytes}
	}
	if s.Trace {
		w.trace = &trace{}
	}
	w.broker.w = w
	w.stream = stream{w: w, ids: map[string]uint64{}}
	w.letters = letters{w: w, ids: map[uint64]letter{}}
	w.brake = brake{w: w, stops: map[settlement.SessionID]bool{}}
	w.node = node{w: w, skew: w.choices.between(-time.Hour, time.Hour)}
	w.laws = laws{w: w, holders: map[settlement.SessionID]*record{}, closed: map[settlement.SessionID]bool{}}
	return w
}

var _ ledger.Stream = (*stream)(nil)
