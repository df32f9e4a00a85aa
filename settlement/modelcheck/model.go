package main

import (
	"fmt"
	"slices"
	"strings"
)

// config is one case: the world, what its environment may do, and the rules.
type config struct {
	Versioned bool  // the node fences by version (nitronode); false: by time
	Duplicate bool  // A is published twice
	OutcomeB  bool  // another outcome of the same session
	Attempts  uint8 // max_attempts

	Faults    faults
	NotFound  bool    // reads of the node may look like "not found"
	Foreign   []uint8 // what an adversary writes at any time, as foreign messages
	Lag       bool    // reads of a versioned node may be one version behind
	OtherNode bool    // reads may go to another generation of node
	WorksOn   bool    // the node may answer an error and go on with the request
	Unseen    bool    // the node does not show what a session paid out; nobody else can close it
	Withdrawn bool    // after the balance moved, the payouts of a later plan look like those of an earlier
	Trust     bool    // outcomes are signed, so that copies are told apart from replays
	Money     bool    // only the invariants about money and lost messages count

	Rules  rules
	Labels bool
	bad    string // the invariant that the step being made violates
}

// Durations in ticks, and other bounds.
const (
	validTicks  = 1 // for which the node accepts a request
	workTicks   = 1 // that it takes for a request at most, unless it is stuck
	marginTicks = 2 // of fence margin, beyond validTicks
	clockError  = 1 // by which the bound of the node's clock may be too high
	maxVersion  = 7 // versions beyond this are not explored
)

// violated says that the step being made violates an invariant.
func (c *config) violated(format string, args ...any) { c.bad = fmt.Sprintf(format, args...) }

// text is the label of a transition, where labels are wanted: they cost most of the time.
func (c *config) text(format string, args ...any) string {
	if !c.Labels {
		return ""
	}
	return fmt.Sprintf(format, args...)
}

type transition struct {
	Label string
	Fault bool // something that a fault-free world would not do
	To    state
	Bad   string // the invariant that it violates
}

func (c *config) initial() state {
	var s state
	s.Messages[0].State = 1
	if c.Duplicate {
		s.Messages[1].State = 1
	}
	if c.OutcomeB {
		s.Messages[2] = message{State: 1, Out: 1}
	}
	s.Alloc, s.LagAlloc = asFunded, asFunded
	s.Left = c.Faults
	return s
}

// done reports whether every message ended.
func (s *state) done() bool {
	return !slices.ContainsFunc(s.Messages[:], func(m message) bool { return m.State == 1 })
}

// adder collects the transitions of a state.
type adder func(label string, fault bool, to state)

func (c *config) successors(s *state, visit func(transition)) {
	add := func(label string, fault bool, to state) {
		c.normalize(&to)
		if c.Money && !c.aboutMoney(c.bad) {
			c.bad = ""
		}
		visit(transition{label, fault, to, c.bad})
		c.bad = ""
	}
	c.tick(s, add)
	c.environment(s, add)
	c.nats(s, add)
	c.nodeSteps(s, add)
	for i := range s.Workers {
		c.workerStep(s, i, add)
	}
}

// aboutMoney reports whether a violation pays wrongly, fails what may still be paid or
// loses a message, rather than only giving a wrong reason for an end. Nothing holds a
// versioned node's outcomes after the ledger was restored from an older copy.
func (c *config) aboutMoney(bad string) bool {
	name, _, _ := strings.Cut(bad, ":")
	switch name {
	case "FAILED-IN-DOUBT", "PAID-AFTER-FAILED":
		return !c.Versioned
	case "FAILED-THOUGH-PAID", "CONFLICT-WITH-NOBODY", "WRONG-LETTER":
		return false
	}
	return true
}

// tick lets time pass. A request that runs has to be done when its time is over.
func (c *config) tick(s *state, add adder) {
	n := *s
	for i := range n.Requests {
		r := &n.Requests[i]
		switch r.State {
		case running:
			if r.Left == 0 {
				return
			}
			r.Left--
		case inFlight:
			decrement(&r.Valid)
		}
	}
	if !c.Versioned {
		for _, e := range []*entry{&n.Book.Last, &n.Book.Standing, &n.Backup.Last, &n.Backup.Standing, &n.Pending} {
			decrement(&e.Until)
		}
		for i := range n.Workers {
			decrement(&n.Workers[i].Intent.Until)
			decrement(&n.Workers[i].Until)
			decrement(&n.Workers[i].Valid)
		}
	}
	decrement(&n.Hold)
	if n != *s {
		add("time passes", false, n)
	}
}

// environment is what other parties, operators and machines do.
func (c *config) environment(s *state, add adder) {
	if s.Left.Rival > 0 && !s.Closed {
		c.rivalCloses(s, add)
	}
	if s.Left.Deposit > 0 && !s.Closed {
		n := *s
		spend(&n.Left.Deposit)
		n.Bal = 1
		n.moveTo(asFunded)
		add("PARTICIPANT moves the balance", true, n)
	}
	if c.Versioned && s.Left.Operate > 0 && !s.Closed {
		n := *s
		spend(&n.Left.Operate)
		n.moveTo(stranger)
		add("RIVAL updates the session's state", true, n)
	}
	if s.Left.Jump > 0 {
		n := *s
		spend(&n.Left.Jump)
		n.Jumped = !n.Jumped
		add("CLOCK of settled's hosts jumps", true, n)
	}
	c.publications(s, add)
}

// moveTo gives a versioned session a new version with these allocations.
func (s *state) moveTo(allocations uint8) {
	s.LagVer, s.LagAlloc = s.Ver, s.Alloc
	s.Ver, s.Alloc = s.Ver+1, allocations
}

func (c *config) rivalCloses(s *state, add adder) {
	if s.atWork() && s.Left.Stuck == 0 && c.Faults.Stuck == 0 {
		return // cannot be prevented; the cases with stuck requests try that it is noticed
	}
	pays := []uint8{stranger, planOf(0, s.Bal)}
	if c.Versioned {
		pays = []uint8{s.Alloc}
		if s.Alloc == asFunded {
			pays[0] = stranger
		}
	}
	for _, p := range pays {
		n := *s
		spend(&n.Left.Rival)
		n.Closed, n.Rival = true, p
		n.moveTo(n.Alloc)
		add("RIVAL closes, paying "+planNames[p], true, n)
	}
}

// publications are messages that come to OUTCOMES later: replays, copies, and what a
// publisher publishes again after OUTCOMES was restored from an older copy.
func (c *config) publications(s *state, add adder) {
	free := 3
	for ; s.Messages[free].State != 0; free++ {
		if free == maxMessages-1 {
			return
		}
	}
	publish := func(n *state, o uint8) {
		n.Messages[free] = message{State: 1, Out: o, Below: c.Faults.Renumber > n.Left.Renumber}
		n.Book.Later = with(n.Book.Later, uint8(free))
		n.Backup.Later = with(n.Backup.Later, uint8(free))
	}
	for o := range uint8(2) {
		if s.Left.Replay > 0 && has(s.Letters, o) {
			n := *s
			spend(&n.Left.Replay)
			n.Letters = without(n.Letters, o)
			n.Replayed = with(n.Replayed, o)
			publish(&n, o)
			add(c.text("OPERATOR replays %s as message %d", outNames[o], free+1), true, n)
		}
		if s.Left.Copy > 0 {
			n := *s
			spend(&n.Left.Copy)
			publish(&n, o)
			add(c.text("ADVERSARY publishes a copy of %s as message %d", outNames[o], free+1), true, n)
		}
	}
	for k, m := range s.Messages {
		if s.Left.Renumber > 0 && m.State == 1 {
			n := *s
			spend(&n.Left.Renumber)
			n.Messages[k].State = 2
			publish(&n, m.Out)
			add(c.text("OUTCOMES is restored from an older copy and loses message %d; it is published again as message %d, with a lower sequence", k+1, free+1), true, n)
		}
	}
}
