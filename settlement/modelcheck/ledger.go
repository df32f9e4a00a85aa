package main

import "fmt"

// append stores an entry, by worker self or, late, by nobody (-1), and checks what
// has to be true of every entry that is stored.
func (c *config) append(s *state, e entry, self int) {
	b := &s.Book
	holder := b.Standing.Kind == noEntry || b.Standing.Kind == failed || b.Standing.Out == e.Out
	switch e.Kind {
	case closing:
		if c.Trust && has(b.Failed, e.Out) && !has(s.Replayed, e.Out) {
			c.violated("COPY-SETTLED: an intent is recorded for an outcome that failed, and no replay of it is")
		}
		b.Recorded = with(b.Recorded, e.Plan)
		s.EverRecorded = with(s.EverRecorded, e.Plan)
		b.Newest[e.Out] = e.Plan
		if b.Attempts[e.Out] < c.Attempts {
			b.Attempts[e.Out]++
		}
	case closed:
		c.checkClosed(s, e)
		b.Closed = with(b.Closed, e.Out)
		s.EverClosed = with(s.EverClosed, e.Out)
	case failed:
		c.checkFailed(s, e)
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
	s.Dropped = s.Dropped && !c.hidden(s)
	b.Last = e
	if e.Kind != failed || holder {
		b.Standing = e
	}
	s.written(self, true)
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

func (c *config) checkFailed(s *state, e entry) {
	st, live := s.Book.Standing, c.mayLand(s, e.Out)
	paid := isPlanOf(s.Paid, e.Out) || isPlanOf(s.PaidTwo, e.Out)
	switch {
	case has(s.Book.Closed, e.Out):
		c.violated("TWO-ENDS: %s is stored after closed", e)
	case has(s.Book.Failed, e.Out) && !has(s.Book.Later, e.Plan-1):
		c.violated("TWO-ENDS: %s is stored, and message %d had failed", e, e.Plan)
	case e.Base == outcomeConflict && (st.Kind == noEntry || st.Kind == failed || st.Out == e.Out):
		c.violated("CONFLICT-WITH-NOBODY: %s is stored, and no other outcome holds the session", e)
	case paid && e.Base != overpaid && s.Rival == 0:
		c.violated("FAILED-THOUGH-PAID: %s is stored, and the node paid its plan", e)
	case live != "":
		c.violated("FAILED-IN-DOUBT: %s is stored while a request of it is %s", e, live)
	}
}

func (c *config) checkClosed(s *state, e entry) {
	paid := s.Paid // a rival that closed at the same time is an overpayment, not a wrong entry
	if paid == 0 {
		paid = s.Rival
	}
	switch {
	case s.Book.Closed != 0:
		c.violated("TWO-ENDS: a second closed entry of the session")
	case !s.Closed || s.PaidTwo != 0 || paid != e.Plan:
		c.violated("CLOSED-DISAGREES: %s is stored; the node: closed %v, paid %s and %s, and to a rival %s",
			e, s.Closed, planNames[s.Paid], planNames[s.PaidTwo], planNames[s.Rival])
	}
}

// mayLand says where a request of an outcome is that can still take effect; ""
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
	for i, w := range s.Workers {
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
		c.append(&n, s.Pending, -1)
		add(c.text("NATS stores the append whose writer got an error: %s", s.Pending), true, n)
		n = *s
		n.Pending = entry{}
		add("NATS drops the append whose writer got an error", true, n)
	}
	for _, content := range c.Foreign {
		n := *s
		n.written(-1, false)
		n.Foreign = content
		add("ADVERSARY writes a foreign message: "+foreignSays[content], true, n)
	}
	if s.Left.NewEpoch > 0 {
		c.newEpoch(s, add)
	}
	if s.Left.SetBack == 0 {
		return
	}
	if !s.HasBackup {
		n := *s
		n.Backup, n.HasBackup = n.Book, true
		add("BACKUP: the ledger is copied", true, n)
		return
	}
	c.setBack(s, add)
}

// newEpoch begins a new stream, to which the entries of sessions that are not closed are
// copied, and drops the old one. An append names the stream of the head that it was decided
// from: none that was decided from the old stream is stored any more.
func (c *config) newEpoch(s *state, add adder) {
	n := *s
	spend(&n.Left.NewEpoch)
	n.Dropped = n.Book.Closed != 0 || !c.Rules.CarryOver && !n.Book.empty()
	assumed := [workers]bool{n.Workers[0].Assumed, n.Workers[1].Assumed}
	n.written(-1, true)
	for i := range n.Workers {
		n.Workers[i].Assumed = assumed[i] && !c.Rules.NamesStream
	}
	add("EPOCH: a new stream begins, and the old one is dropped", true, n)
}

// hidden reports whether a reader of the ledger finds no entry although there are some: they
// were dropped, and no tombstone says that the session was closed.
func (c *config) hidden(s *state) bool {
	return s.Dropped && (s.Book.Closed == 0 || !c.Rules.Tombstone)
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
		n.Hold = validTicks + marginTicks
	}
	n.Aware = 0
	for i, w := range s.Workers {
		if w.Fresh && !w.Assumed && w.At != idle {
			n.Aware = with(n.Aware, uint8(i)) // it read the last entry, and that is gone
		}
	}
	add("RESTORED: the ledger loses what came after the copy", true, n)
	for i := range n.Workers {
		n.drop(i)
	}
	if !c.Rules.AfterRestore {
		n.Hold = 0
	}
	n.Aware = 0xff // a started process is told
	add("RESTORED: the same while settled is stopped", true, n)
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
