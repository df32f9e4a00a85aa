package simulate

import (
	"bytes"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"settled/settlement"
)

// Schedule identifies a schedule.
type Schedule struct {
	Dialect Dialect // empty: chosen by the seed
	Seed    uint64
	Bytes   []byte // replaces the seed if not nil
	Trace   bool   // keep a trace
}

// NodeDialect returns the dialect of the schedule's node.
func (s Schedule) NodeDialect() Dialect {
	if s.Dialect != "" {
		return s.Dialect
	}
	return Dialects()[s.Seed%uint64(len(Dialects()))]
}

// Result is the result of a schedule.
type Result struct {
	Violation *Violation // nil: all invariants held
	Trace     string
	Tally
}

// Run runs one schedule. The same schedule always gives the same result and trace.
func Run(s Schedule) Result {
	w := newWorld(s)
	w.draw()
	w.run()
	r := Result{Violation: w.violation, Tally: Tally{Schedules: 1, Steps: w.steps, Virtual: w.now.Sub(epoch), Messages: uint64(len(w.broker.messages))}}
	if w.trace != nil {
		r.Trace = w.trace.String()
	}
	if !w.ledger.lostAt.IsZero() {
		r.Lost = 1
	}
	if slices.ContainsFunc(w.sessions, func(s *appSession) bool { return s.unprotected }) {
		r.Unprotected = 1
	}
	for _, o := range w.checker.outcomes {
		r.Failed += uint64(len(o.allFailures))
		if o.everClosed {
			r.Closed++
		}
	}
	return r
}

func newWorld(s Schedule) *world {
	w := &world{choices: seeded(s.Seed), dialect: s.NodeDialect(), now: epoch}
	if s.Bytes != nil {
		w.choices = &choices{bytes: s.Bytes}
	}
	if s.Trace {
		w.trace = &bytes.Buffer{}
	}
	w.broker.w = w
	w.ledger = ledgerStream{w: w, ids: map[string]uint64{}}
	w.deadLetters = deadLetterStream{w: w, ids: map[uint64]deadLetter{}}
	w.emergencyStop = emergencyStop{w: w, sessions: map[settlement.SessionID]bool{}}
	w.node = node{w: w, clockOffset: w.choices.between(-time.Hour, time.Hour)}
	w.checker = checker{w: w, holders: map[settlement.SessionID]*outcomeRecord{}, closed: map[settlement.SessionID]bool{}}
	return w
}

// draw draws the sessions, replicas, outcomes and faults, and schedules their first
// events.
func (w *world) draw() {
	c := w.choices
	w.drawFaults()
	for range 1 + c.pick(4)/3 {
		w.sessions = append(w.sessions, w.drawSession(len(w.sessions)))
	}
	for i := range 1 + c.pick(3) {
		r := &replica{w: w, name: fmt.Sprintf("r%d", i+1)}
		w.replicas = append(w.replicas, r)
		r.start()
	}
	for _, s := range w.sessions {
		w.drawOutcomes(s)
	}
	within := []time.Duration{10 * time.Millisecond, time.Second, time.Minute}
	for _, o := range w.outcomes {
		for range []int{1, 1, 1, 2, 3}[c.pick(5)] { // some publishers retry
			w.at(epoch.Add(c.between(0, within[c.pick(len(within))])), func() { w.broker.publish(o) })
		}
	}
	w.scheduleFaults()
}

// Campaign is a range of seeds.
type Campaign struct {
	First, Seeds uint64
	Dialect      Dialect     // empty: each seed's own
	ProgressFunc func(Tally) // called every two seconds or so; may be nil
}

// Tally sums up the results of schedules.
type Tally struct {
	Schedules   uint64        `json:"schedules"`
	Steps       uint64        `json:"steps"`
	Messages    uint64        `json:"messages"`            // of outcomes
	Closed      uint64        `json:"sessions_closed"`     // by us
	Failed      uint64        `json:"outcomes_failed"`     // failed entries
	Lost        uint64        `json:"ledger_lost_entries"` // schedules
	Unprotected uint64        `json:"unheld"`              // of these, with a session that could have been paid twice; see checker.checkHeld
	Virtual     time.Duration `json:"-"`                   // virtual time that passed
	Elapsed     time.Duration `json:"-"`
}

func (t *Tally) add(one Tally) {
	t.Schedules += one.Schedules
	t.Steps += one.Steps
	t.Messages += one.Messages
	t.Closed += one.Closed
	t.Failed += one.Failed
	t.Lost += one.Lost
	t.Unprotected += one.Unprotected
	t.Virtual += one.Virtual
}

// Run runs the schedules on all processors and stops at the first violation. It
// returns the violating schedule with the lowest seed, or nil.
func (c Campaign) Run() (Tally, *Schedule) {
	var (
		mu       sync.Mutex
		tally    Tally
		violated *Schedule
		stopped  atomic.Bool
		group    errgroup.Group
	)
	began := time.Now()
	reported := began
	group.SetLimit(runtime.GOMAXPROCS(0))
	for seed := c.First; seed < c.First+c.Seeds && !stopped.Load(); seed++ {
		group.Go(func() error {
			s := Schedule{Seed: seed, Dialect: c.Dialect}
			r := Run(s)
			mu.Lock()
			defer mu.Unlock()
			tally.add(r.Tally)
			if r.Violation != nil {
				stopped.Store(true)
				if violated == nil || seed < violated.Seed {
					violated = &s
				}
			}
			if c.ProgressFunc != nil && time.Since(reported) > 2*time.Second {
				reported = time.Now()
				tally.Elapsed = time.Since(began)
				c.ProgressFunc(tally)
			}
			return nil
		})
	}
	_ = group.Wait() // no function returns an error
	tally.Elapsed = time.Since(began)
	return tally, violated
}
