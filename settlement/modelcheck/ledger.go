package main

import "fmt"

// append stores an entry, by worker self or, late, by nobody (-1), and checks what
// has to be true of every entry that is stored.
func (c *config) append(s *state, e entry, self int) (bad string) {
	switch e.Kind {
	case failed:
		bad = c.checkFailed(s, e)
	case closed:
		bad = c.checkClosed(s, e)
	}
	b := &s.Book
	holder := b.Standing.Kind == noEntry || b.Standing.Kind == failed || b.Standing.Out == e.Out
	switch e.Kind {
	case closing:
		b.Recorded = with(b.Recorded, e.Plan)
		s.EverRecorded = with(s.EverRecorded, e.Plan)
		b.Newest[e.Out] = e.Plan
		if b.Attempts[e.Out] < c.Attempts {
			b.Attempts[e.Out]++
		}
	case closed:
		b.Closed = with(b.Closed, e.Out)
		s.EverClosed = with(s.EverClosed, e.Out)
	case failed:
		b.Failed = with(b.Failed, e.Out)
		b.Attempts[e.Out] = 0
		s.Replayed = without(s.Replayed, e.Out)
		b.Ahead = without(b.Ahead, e.Out)
		if s.Jumped && !c.Rules.ServerTime {
			b.Ahead = with(b.Ahead, e.Out)
		}
		for k, m := range s.Messages {
			if m.State != 0 && m.Out == e.Out {
				b.Later = without(b.Later, uint8(k))
				s.Ended = with(s.Ended, uint8(k))
			}
		}
	}
	b.Last = e
	if e.Kind != failed || holder {
		b.Standing = e
	}
	s.written(self, true)
	return bad
}

// written notes a message on the session's filter: whoever read the filter before
// expects another one as its last, and an append that was on its way is refused.
func (s *state) written(self int, genuine bool) {
	s.Pending = entry{}
	for i := range s.Workers {
		w := &s.Workers[i]
		w.Tail = i == self
		if genuine {
			w.Fresh = i == self
		}
	}
	if genuine {
		s.Foreign = 0
	}
}

func (c *config) checkFailed(s *state, e entry) (bad string) {
	what := fmt.Sprintf("failed(%s, %s) is stored", outNames[e.Out], codeNames[e.Base])
	if live := c.mayLand(s, e.Out); live != "" {
		bad = fmt.Sprintf("FAILED-IN-DOUBT: %s while a request of it is %s", what, live)
	}
	paid := isPlanOf(s.Paid, e.Out) || isPlanOf(s.PaidTwo, e.Out)
	if paid && e.Base != overpaid && s.Rival == 0 {
		bad = fmt.Sprintf("FAILED-THOUGH-PAID: %s, and the node paid its plan", what)
	}
	st := s.Book.Standing
	switch {
	case has(s.Book.Closed, e.Out):
		bad = fmt.Sprintf("TWO-ENDS: %s after closed", what)
	case has(s.Book.Failed, e.Out) && !has(s.Book.Later, e.Plan-1):
		bad = fmt.Sprintf("TWO-ENDS: %s, and message %d had failed", what, e.Plan)
	case e.Base == outcomeConflict && (st.Kind == noEntry || st.Kind == failed || st.Out == e.Out):
		bad = fmt.Sprintf("CONFLICT-WITH-NOBODY: %s, and no other outcome holds the session", what)
	}
	return bad
}

func (c *config) checkClosed(s *state, e entry) (bad string) {
	paid := s.Paid // a rival that closed at the same time is an overpayment, not a wrong entry
	if paid == 0 {
		paid = s.Rival
	}
	if !s.Closed || s.PaidTwo != 0 || paid != e.Plan {
		bad = fmt.Sprintf("CLOSED-DISAGREES: closed(%s) is stored; the node: closed %v, paid %s and %s, and to a rival %s",
			planNames[e.Plan], s.Closed, planNames[s.Paid], planNames[s.PaidTwo], planNames[s.Rival])
	}
	if s.Book.Closed != 0 {
		bad = "TWO-ENDS: a second closed entry of the session"
	}
	return bad
}

// mayLand says where a request of an outcome is that can still be carried out; ""
// where there is none.
func (c *config) mayLand(s *state, o uint8) string {
	for _, r := range s.Requests {
		switch {
		case r.State == 0 || outcomeOf(r.Plan) != o:
		case r.State != inFlight:
			return "at work at the node"
		case c.accepted(s, r.Kind, r.Plan, r.Ver, r.Valid):
			return "on its way"
		}
	}
	for i := range c.Workers {
		w := &s.Workers[i]
		if w.At == send && outcomeOf(w.Plan) == o && c.accepted(s, w.Kind, w.Plan, w.ReqVer, w.Valid) {
			return fmt.Sprintf("signed, in the hands of worker %d", i+1)
		}
	}
	return ""
}

// nats is what happens to the ledger's stream without settled.
func (c *config) nats(s *state, add adder) {
	if s.Pending.Kind != noEntry {
		n := *s
		e := n.Pending
		bad := c.append(&n, e, -1)
		add(c.text("NATS stores the append whose writer got an error: %s", e), true, n, bad)
		n = *s
		n.Pending = entry{}
		add("NATS drops the append whose writer got an error", true, n, "")
	}
	for _, content := range c.Foreign {
		n := *s
		n.written(-1, false)
		n.Foreign = content
		add("ADVERSARY writes a foreign message: "+foreignSays[content], true, n, "")
	}
	if s.Left.SetBack == 0 {
		return
	}
	if !s.HasBackup {
		n := *s
		n.Backup, n.HasBackup = n.Book, true
		add("BACKUP: the ledger is copied", true, n, "")
		return
	}
	c.setBack(s, add)
}

// setBack loses the entries after the copy. With every worker stopped it is what a
// restored volume does; while they run it is what a server does that comes back
// without its last writes.
func (c *config) setBack(s *state, add adder) {
	n := *s
	spend(&n.Left.SetBack)
	n.Book, n.Backup, n.HasBackup = n.Backup, book{}, false
	n.written(-1, true)
	if c.Rules.Hold && !c.Versioned {
		n.Hold = c.Valid + c.Margin
	}
	n.Aware = 0
	for i, w := range s.Workers {
		if w.Fresh && w.At != idle {
			n.Aware = with(n.Aware, uint8(i)) // it read the last entry, and that is gone
		}
	}
	add("SET BACK: the ledger loses what came after the copy", true, n, "")
	for i := range c.Workers {
		n.drop(i)
	}
	if !c.Rules.AfterRestore {
		n.Hold = 0
	}
	n.Aware = 0xff // a started process is told
	add("SET BACK: the same while settled is stopped", true, n, "")
}

// held reports whether a worker may send nothing now.
func (c *config) held(s *state, i int) bool {
	switch {
	case s.Hold == 0 || c.Versioned:
		return false
	case s.Jumped && !c.Rules.SteadyClock:
		return false // measured by the wall clock, the hold is over
	}
	return c.Rules.AllHold || has(s.Aware, uint8(i))
}

func (e entry) String() string {
	switch e.Kind {
	case closing:
		return fmt.Sprintf("closing(%s, until +%d, base version %d)", planNames[e.Plan], e.Until, e.Base)
	case closed:
		return "closed(" + planNames[e.Plan] + ")"
	case failed:
		return fmt.Sprintf("failed(%s, %s)", outNames[e.Out], codeNames[e.Base])
	}
	return "nothing"
}
