package main

// drop ends a delivery without an acknowledgement: the process died, or gave the
// message back. Nobody waits for its request any more.
func (s *state) drop(i int) {
	s.Workers[i] = worker{}
	for k := range s.Requests {
		if s.Requests[k].Own == uint8(i+1) {
			s.Requests[k].Own = 0
		}
	}
}

// again begins the loop again, and keeps what the call learned from its own sends.
func (w *worker) again() {
	*w = worker{At: readHead, Msg: w.Msg, Sent: w.Sent, Refused: w.Refused, Answered: w.Answered}
}

// forget clears the observation.
func (w *worker) forget() {
	w.Seen, w.Paid, w.Bal, w.Ver, w.Alloc, w.Fence, w.Quiet = 0, 0, 0, 0, 0, false, false
	w.Recorded, w.Newest = 0, 0
}

func (w *worker) fail(c *config, code uint8) {
	*w = worker{At: headAgain, Msg: w.Msg, Fresh: w.Fresh, Tail: w.Tail, Code: code}
	if !c.Rules.HeadAgain {
		w.At = storeLetter
	}
}

// turn is one worker's turn: its steps from one state.
type turn struct {
	c   *config
	s   *state
	i   int
	o   uint8 // the outcome of its message
	add adder
}

// step adds a transition, of which f makes the state.
func (t *turn) step(label string, fault bool, f func(n *state, w *worker) (bad string)) {
	n := *t.s
	bad := f(&n, &n.Workers[t.i])
	t.add(t.c.text("w%d %s", t.i+1, label), fault, n, bad)
}

// wait gives the message back, to be delivered again.
func (t *turn) wait(label string) {
	t.step(label, false, func(n *state, _ *worker) string { n.drop(t.i); return "" })
}

func (c *config) workerStep(s *state, i int, add adder) {
	w := s.Workers[i]
	if w.At == idle {
		for k, m := range s.Messages {
			if m.State == 1 {
				n := *s
				n.Workers[i] = worker{At: readHead, Msg: uint8(k + 1)}
				add(c.text("w%d gets message %d (%s)", i+1, k+1, outNames[m.Out]), false, n, "")
			}
		}
		return
	}
	t := &turn{c: c, s: s, i: i, o: s.Messages[w.Msg-1].Out, add: add}
	if s.Left.Crash > 0 {
		t.step("is killed, or gives the message back", true, func(n *state, _ *worker) string {
			spend(&n.Left.Crash)
			n.drop(i)
			return ""
		})
	}
	switch w.At {
	case readHead:
		t.readHead()
	case observe:
		t.observe()
	case decide:
		t.decide()
	case appendClosing:
		t.appendClosing()
	case resolveClosing:
		t.resolveClosing()
	case send:
		t.send()
	case awaitAnswer:
		t.awaitAnswer()
	case headAgain:
		t.headAgain()
	case storeLetter:
		t.storeLetter()
	case appendClosed, appendFailed:
		t.appendEnd()
	case acknowledge:
		t.acknowledge()
	}
}

// ended reports whether the ledger has an entry that ended this message, as the rules
// read it.
func (t *turn) ended(b *book) bool {
	c, k := t.c, t.s.Workers[t.i].Msg-1
	later := has(b.Later, k) && !has(b.Ahead, t.o)
	if !c.Rules.StoredLater {
		later = has(b.Later, k) && !t.s.Messages[k].Below
	}
	if c.Rules.History {
		return has(b.Closed, t.o) || has(b.Failed, t.o) && !later
	}
	last := b.Last.Out == t.o && (b.Last.Kind == closed || b.Last.Kind == failed && !later)
	standing := b.Standing.Out == t.o && b.Standing.Kind == closed
	return last || standing
}

// isCopy: signed outcomes are settled again only after a recorded replay.
func (t *turn) isCopy(b *book) bool {
	return t.c.Trust && t.c.Rules.Replays && has(b.Failed, t.o) && !has(t.s.Replayed, t.o)
}

const endedAsCopy = 9 // worker.Kind at acknowledge

func (t *turn) readHead() {
	foreign := t.s.Foreign
	if t.c.Rules.Genuine {
		foreign = 0
	}
	switch foreign {
	case garbage:
		t.wait("reads the head: it is no entry")
		return
	case forgedClosed:
		t.step("reads the head: "+foreignSays[foreign], false, func(_ *state, w *worker) string {
			if t.o == 0 {
				*w = worker{At: acknowledge, Msg: w.Msg}
			} else {
				w.fail(t.c, outcomeConflict)
			}
			return ""
		})
		return
	}
	b := t.s.Book
	if foreign == forgedFree {
		b = book{Later: b.Later}
	}
	st := b.Standing
	if !t.c.Rules.Standing {
		st = b.Last
	}
	t.step(t.c.text("reads the ledger: %s", st), false, func(_ *state, w *worker) string {
		t.takeHead(&b, st, w)
		return ""
	})
}

func (t *turn) takeHead(b *book, st entry, w *worker) {
	own := st.Kind == closing && st.Out == t.o
	holds := own && w.Sent != 0 && (st.Tok == w.Sent || !t.c.Rules.OwnRefusal)
	if !holds {
		w.Sent, w.Refused, w.Answered = 0, false, false
	}
	*w = worker{At: observe, Msg: w.Msg, Fresh: true, Tail: true, Sent: w.Sent, Refused: w.Refused, Answered: w.Answered}
	for p := planOf(t.o, 0); p <= planOf(t.o, 1); p++ {
		if has(b.Recorded, p) {
			w.Recorded = with(w.Recorded, p)
		}
	}
	w.Newest, w.Attempts = b.Newest[t.o], b.Attempts[t.o]
	switch {
	case t.ended(b):
		*w = worker{At: acknowledge, Msg: w.Msg}
	case holds && w.Answered:
		*w = worker{At: appendClosed, Msg: w.Msg, Fresh: true, Tail: true, Sent: w.Sent, Answered: true, Plan: st.Plan}
	case own:
		w.Intent = st
	case t.isCopy(b):
		*w = worker{At: acknowledge, Msg: w.Msg, Kind: endedAsCopy}
	case st.Kind == noEntry, st.Kind == failed && (st.Out == t.o || t.c.Rules.FailedFrees):
	default:
		w.fail(t.c, outcomeConflict)
	}
}

// readings is what the clock may be taken to say of an instant: that it has passed.
func (t *turn) readings(until uint8) []bool {
	switch c := t.c; {
	case until == 0:
		return []bool{true}
	case until <= c.ClockOff, t.s.Jumped && !c.Rules.NodeClock:
		return []bool{true, false}
	}
	return []bool{false}
}

func (t *turn) observe() {
	c, s, w0 := t.c, t.s, t.s.Workers[t.i]
	fences := []bool{true}
	if w0.Intent.Kind == closing && !c.Versioned && !w0.Refused {
		fences = t.readings(w0.Intent.Until)
	}
	for _, fence := range fences {
		t.see(s.Ver, s.Alloc, s.Closed, fence, !s.isStuck(), false)
		if w0.Intent.Kind == closing && !c.Versioned && !w0.Refused && (!c.Rules.Quiet || !s.isStuck()) {
			t.see(s.Ver, s.Alloc, s.Closed, fence, false, true)
		}
	}
	if c.Versioned && c.Lag && s.LagVer != s.Ver {
		t.see(s.LagVer, s.LagAlloc, false, true, true, true)
	}
	if c.NotFound {
		t.step("reads the session: it seems not to be there", true, func(n *state, w *worker) string {
			if w.Intent.Kind == closing && c.Rules.NotFoundWaits {
				n.drop(t.i)
			} else {
				w.fail(c, sessionNotFound)
			}
			return ""
		})
	}
	if c.OtherNode && w0.Intent.Kind == closing {
		t.step("reads the session at another generation of node", true, func(n *state, w *worker) string {
			switch {
			case c.Rules.OtherNode:
				n.drop(t.i)
			case w.Attempts >= c.Attempts:
				w.fail(c, attemptsExhausted)
			default:
				n.drop(t.i)
			}
			return ""
		})
	}
}

// see adds one observation of the session.
func (t *turn) see(ver, alloc uint8, isClosed, fence, quiet, fault bool) {
	label := "sees the session open"
	if isClosed {
		label = "sees the session closed"
	}
	if t.c.Versioned {
		label += t.c.text(" at version %d with %s", ver, planNames[alloc])
	}
	if !fence {
		label += ", before valid_until"
	}
	if !quiet {
		label += ", slowly"
	}
	t.step(label, fault, func(n *state, w *worker) string {
		w.At, w.Seen, w.Bal, w.Fence, w.Quiet = decide, 1, n.Bal, fence, quiet
		if t.c.Versioned {
			w.Ver, w.Alloc = ver, alloc
		}
		if isClosed {
			w.Seen, w.Paid = 2, n.paidOut()
		}
		return ""
	})
}

// paidOut is the plan that the payouts of the session show; a stranger's where two
// plans were paid.
func (s *state) paidOut() uint8 {
	switch {
	case s.PaidTwo != 0, s.Paid != 0 && s.Rival != 0:
		return stranger
	case s.Paid != 0:
		return s.Paid
	}
	return s.Rival
}

func (t *turn) appendClosing() {
	c, s, w0 := t.c, t.s, t.s.Workers[t.i]
	if c.held(s, t.i) {
		t.wait("sends nothing: the ledger was set back")
		return
	}
	e := entry{Kind: closing, Out: t.o, Plan: w0.Plan, Until: w0.Until, Tok: w0.Tok, Base: w0.Base}
	if !t.matches() {
		t.step(t.c.text("appends %s: refused", e), false, func(_ *state, w *worker) string { w.At = resolveClosing; return "" })
		return
	}
	stored := func(n *state) string {
		bad := c.append(n, e, t.i)
		if c.Trust && has(s.Book.Failed, t.o) && !has(s.Replayed, t.o) {
			bad = "COPY-SETTLED: an intent is recorded for an outcome that failed, and no replay of it is"
		}
		return bad
	}
	t.step(t.c.text("appends %s", e), false, func(n *state, w *worker) string { b := stored(n); t.won(w); return b })
	t.step(t.c.text("appends %s; the answer is lost", e), true, func(n *state, w *worker) string {
		b := stored(n)
		w.At = resolveClosing
		return b
	})
	t.mayLandLater(e, func(w *worker) { w.At = resolveClosing })
}

// won: the intent is recorded, and with it the right to send its request once.
func (t *turn) won(w *worker) {
	w.At, w.Sent, w.Refused, w.Answered, w.Fresh, w.Tail = send, w.Tok, false, false, true, true
}

func (t *turn) mayLandLater(e entry, then func(w *worker)) {
	if t.s.Pending.Kind == noEntry {
		t.step(t.c.text("appends %s: an error, and it may be stored later", e), true, func(n *state, w *worker) string {
			n.Pending = e
			then(w)
			return ""
		})
	}
}

// matches reports whether the expectation of an append is met.
func (t *turn) matches() bool {
	w := t.s.Workers[t.i]
	if t.c.Rules.ExpectLast {
		return w.Fresh && w.Tail
	}
	return w.Fresh && t.s.Foreign == 0
}

// resolveClosing reads the head after an append that was not acknowledged. The bytes
// are tried again as long as the last genuine entry is the one before them.
func (t *turn) resolveClosing() {
	t.step("reads the head after the append", false, func(n *state, w *worker) string {
		switch {
		case n.Book.Last.Kind == closing && n.Book.Last.Tok == w.Tok:
			if t.c.held(n, t.i) {
				n.drop(t.i)
			} else {
				t.won(w)
			}
		case w.Fresh || !t.c.Rules.SameHead:
			w.At, w.Fresh, w.Tail = appendClosing, true, true
		default:
			w.again()
		}
		return ""
	})
	t.wait("gives up the append")
}

func (t *turn) send() {
	c, w0 := t.c, t.s.Workers[t.i]
	t.step(t.c.text("SENDS %s", planNames[w0.Plan]), false, func(n *state, w *worker) (bad string) {
		if !c.Versioned && c.accepted(n, closes, w.Plan, 0, w.Valid) {
			for _, r := range n.Requests {
				if r.State >= running || r.State == inFlight && r.Valid > 0 {
					bad = "TWO-IN-FLIGHT: a second close is sent while another may land"
				}
			}
		}
		free := -1
		for k, r := range n.Requests {
			if r.State == 0 {
				free = k
			}
		}
		if free < 0 {
			return "MODEL: no place for another request"
		}
		n.Requests[free] = request{State: inFlight, Kind: w.Kind, Plan: w.Plan, Ver: w.ReqVer, Valid: w.Valid, Own: uint8(t.i + 1)}
		w.At, w.Answer, w.Valid, w.Until = awaitAnswer, noAnswer, 0, 0
		w.forget()
		return bad
	})
}

func (t *turn) awaitAnswer() {
	c, w0 := t.c, t.s.Workers[t.i]
	switch {
	case w0.Answer == noAnswer:
		t.step("gets no answer", true, func(n *state, _ *worker) string { n.drop(t.i); return "" })
	case w0.Answer == answerLost:
		t.wait("is in doubt")
	case w0.Answer == carriedOut && w0.Kind == operate:
		t.step("goes on after the update", false, func(_ *state, w *worker) string { w.again(); return "" })
	case w0.Answer == carriedOut:
		t.step("takes the answer: closed", false, func(_ *state, w *worker) string {
			*w = worker{At: appendClosed, Msg: w.Msg, Plan: w.Plan, Fresh: w.Fresh, Tail: w.Tail, Sent: w.Sent, Answered: true}
			return ""
		})
	case c.Versioned:
		t.wait("takes the refusal: waits")
	case w0.Answer == transient && c.WorksOn && c.Rules.InDoubt:
		t.wait("takes the error for a doubt")
	default:
		t.step("takes the refusal", false, func(_ *state, w *worker) string {
			w.Refused = true
			w.again()
			return ""
		})
	}
}

func (t *turn) headAgain() {
	if t.c.Rules.HoldFails && t.c.held(t.s, t.i) {
		t.wait("records no failure: the ledger was set back")
		return
	}
	t.step("reads the head again", false, func(_ *state, w *worker) string {
		if w.Fresh {
			w.At = storeLetter
		} else {
			w.again()
		}
		return ""
	})
}

func (t *turn) storeLetter() {
	code := t.s.Workers[t.i].Code
	t.step("stores the dead letter: "+codeNames[code], false, func(n *state, w *worker) (bad string) {
		alone := n.PaidTwo == 0 && n.Rival == 0
		if code == closedElsewhere && isPlanOf(n.Paid, t.o) && alone && t.c.Faults.SetBack == 0 {
			bad = "WRONG-LETTER: closed_elsewhere, and the node paid a plan of this outcome"
		}
		n.Letters = with(n.Letters, t.o)
		w.At = appendFailed
		return bad
	})
}

// appendEnd records how the outcome ended.
func (t *turn) appendEnd() {
	c, w0 := t.c, t.s.Workers[t.i]
	e := entry{Kind: closed, Out: t.o, Plan: w0.Plan}
	if w0.At == appendFailed {
		e = entry{Kind: failed, Out: t.o, Base: w0.Code, Plan: w0.Msg}
	}
	if !t.matches() {
		t.step(t.c.text("appends %s: refused, and reads the head", e), false, func(_ *state, w *worker) string {
			if w.Fresh || !c.Rules.SameHead {
				w.Fresh, w.Tail = true, true
			} else {
				w.again()
			}
			return ""
		})
		return
	}
	t.step(t.c.text("appends %s", e), false, func(n *state, w *worker) string {
		bad := c.append(n, e, t.i)
		*w = worker{At: acknowledge, Msg: w.Msg}
		return bad
	})
	t.step(t.c.text("appends %s; the answer is lost", e), true, func(n *state, w *worker) string {
		bad := c.append(n, e, t.i)
		w.again()
		return bad
	})
	t.mayLandLater(e, (*worker).again)
}

func (t *turn) acknowledge() {
	w := t.s.Workers[t.i]
	bad := ""
	recorded := has(t.s.EverClosed, t.o) || has(t.s.Ended, w.Msg-1)
	if !recorded && w.Kind != endedAsCopy {
		bad = "LOST: a message is acknowledged, and no entry ends it"
	}
	label := t.c.text("acknowledges message %d", w.Msg)
	done := func(n *state, _ *worker) string { n.Messages[w.Msg-1].State = 2; n.drop(t.i); return bad }
	t.step(label, false, done)
	t.step(label+"; it is lost", true, func(n *state, _ *worker) string { n.drop(t.i); return bad })
}
