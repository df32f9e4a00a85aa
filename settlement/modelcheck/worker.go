package main

import "slices"

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
	*w = worker{At: readHead, Msg: w.Msg, Sent: w.Sent, Refused: w.Refused, Answered: w.Answered, Updated: w.Updated}
}

// forget clears the observation.
func (w *worker) forget() {
	w.Seen, w.Paid, w.Bal, w.Ver, w.Alloc, w.Fence, w.Quiet = 0, 0, 0, 0, 0, false, false
	w.Recorded, w.Newest = 0, 0
}

func (w *worker) fail(c *config, code uint8) {
	*w = worker{At: headAgain, Msg: w.Msg, Assumed: w.Assumed, Fresh: w.Fresh, Tail: w.Tail, Code: code}
	if !c.Rules.HeadAgain {
		w.At = storeLetter
	}
}

// intends reports whether its outcome holds the session by an intent.
func (w *worker) intends() bool { return w.Intent.Kind == closing }

// turn is one worker's turn: its steps from one state.
type turn struct {
	c   *config
	s   *state
	w   *worker // as it is before the step
	i   int
	o   uint8 // the outcome of its message
	add adder
}

// step adds a transition, of which f makes the state.
func (t *turn) step(label string, fault bool, f func(n *state, w *worker)) {
	n := *t.s
	f(&n, &n.Workers[t.i])
	t.add(t.c.text("w%d %s", t.i+1, label), fault, n)
}

// wait gives the message back, to be delivered again.
func (t *turn) wait(label string) {
	t.step(label, false, func(n *state, _ *worker) { n.drop(t.i) })
}

func (c *config) workerStep(s *state, i int, add adder) {
	w := s.Workers[i]
	if w.At == idle {
		for k, m := range s.Messages {
			if m.State == 1 {
				n := *s
				n.Workers[i] = worker{At: readHead, Msg: uint8(k + 1)}
				add(c.text("w%d gets message %d (%s)", i+1, k+1, outNames[m.Out]), false, n)
				if s.Dropped && !c.hidden(s) {
					continue // a tombstone forbids the assumption
				}
				for _, tail := range []bool{true, false} { // without or with foreign messages
					n.Workers[i] = worker{At: observe, Msg: uint8(k + 1), Assumed: true, Tail: tail}
					add(c.text("w%d gets message %d (%s), and assumes that the session has no entry", i+1, k+1, outNames[m.Out]), false, n)
				}
			}
		}
		return
	}
	t := &turn{c: c, s: s, w: &s.Workers[i], i: i, o: s.Messages[w.Msg-1].Out, add: add}
	if s.Left.Crash > 0 {
		t.step("is killed, or gives the message back", true, func(n *state, _ *worker) { spend(&n.Left.Crash); n.drop(i) })
	}
	[...]func(*turn){
		readHead: (*turn).readHead, observe: (*turn).observe, decide: (*turn).decide,
		appendClosing: (*turn).appendClosing, resolveClosing: (*turn).resolveClosing, send: (*turn).send, awaitAnswer: (*turn).awaitAnswer,
		headAgain: (*turn).headAgain, storeLetter: (*turn).storeLetter, appendClosed: (*turn).appendEnd, appendFailed: (*turn).appendEnd,
		acknowledge: (*turn).acknowledge,
	}[w.At](t)
}

// ended reports whether the ledger has an entry that ended this message, as the rules
// read it.
func (t *turn) ended(b *book) bool {
	c, k := t.c, t.w.Msg-1
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
		t.step("reads the head: "+foreignSays[foreign], false, func(_ *state, w *worker) {
			if t.o == 0 {
				*w = worker{At: acknowledge, Msg: w.Msg}
			} else {
				w.fail(t.c, outcomeConflict)
			}
		})
		return
	}
	b := t.s.Book
	if foreign == forgedFree || t.c.hidden(t.s) {
		b = book{Later: b.Later}
	}
	st := b.Standing
	if !t.c.Rules.Standing {
		st = b.Last
	}
	t.step(t.c.text("reads the ledger: %s", st), false, func(_ *state, w *worker) { t.takeHead(&b, st, w) })
}

func (t *turn) takeHead(b *book, st entry, w *worker) {
	own := st.Kind == closing && st.Out == t.o
	holds := own && w.Sent != 0 && (st.Tok == w.Sent || !t.c.Rules.OwnRefusal)
	if !holds {
		w.Sent, w.Refused, w.Answered, w.Updated = 0, false, false, 0
	}
	*w = worker{At: observe, Msg: w.Msg, Fresh: true, Tail: true, Sent: w.Sent, Refused: w.Refused, Answered: w.Answered, Updated: w.Updated}
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
	case until <= clockError, t.s.Jumped && !c.Rules.NodeClock:
		return []bool{true, false}
	}
	return []bool{false}
}

// inDoubt: a request may be on its way that only time ends.
func (t *turn) inDoubt() bool { return t.w.intends() && !t.c.Versioned && !t.w.Refused }

func (t *turn) observe() {
	c, s := t.c, t.s
	if t.w.Updated != 0 { // the node's answer says how the session is
		t.see(t.w.Updated, t.w.Intent.Plan, false, true, true, false)
		return
	}
	fences := []bool{true}
	if t.inDoubt() {
		fences = t.readings(t.w.Intent.Until)
	}
	for _, fence := range fences {
		t.see(s.Ver, s.Alloc, s.Closed, fence, !s.isStuck(), false)
		if t.inDoubt() && (!c.Rules.Quiet || !s.isStuck()) {
			t.see(s.Ver, s.Alloc, s.Closed, fence, false, true)
		}
	}
	if c.Versioned && c.Lag && s.LagVer != s.Ver {
		t.see(s.LagVer, s.LagAlloc, false, true, true, true)
	}
	if c.NotFound {
		t.step("reads the session: it seems not to be there", true, func(n *state, w *worker) {
			if w.intends() && c.Rules.NotFoundWaits {
				n.drop(t.i)
			} else {
				w.fail(c, sessionNotFound)
			}
		})
	}
	if c.OtherNode && t.w.intends() {
		t.step("reads the session at another generation of node", true, func(n *state, w *worker) {
			if c.Rules.OtherNode || w.Attempts < c.Attempts {
				n.drop(t.i)
			} else {
				w.fail(c, attemptsExhausted)
			}
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
	t.step(label, fault, func(n *state, w *worker) {
		w.At, w.Seen, w.Bal, w.Fence, w.Quiet, w.Updated = decide, 1, n.Bal, fence, quiet, 0
		if t.c.Versioned {
			w.Ver, w.Alloc = ver, alloc
		}
		if isClosed {
			w.Seen, w.Paid = 2, n.paidOut()
		}
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
	if t.c.held(t.s, t.i) {
		t.wait("sends nothing: the ledger was restored from an older copy")
		return
	}
	resolve := func(w *worker) { w.At = resolveClosing }
	t.append(entry{Kind: closing, Out: t.o, Plan: t.w.Plan, Until: t.w.Until, Tok: t.w.Tok, Base: t.w.Base}, t.won, resolve, resolve)
}

// won: the intent is recorded, and with it the right to send its request once.
func (t *turn) won(w *worker) {
	w.At, w.Sent, w.Refused, w.Answered, w.Updated, w.Assumed, w.Fresh, w.Tail = send, w.Tok, false, false, 0, false, true, true
}

// append adds the steps of an append, and what the worker does after each.
func (t *turn) append(e entry, stored, unanswered, refused func(w *worker)) {
	if !t.matches() {
		t.step(t.c.text("appends %s: refused", e), false, func(_ *state, w *worker) { refused(w) })
		return
	}
	t.step(t.c.text("appends %s", e), false, func(n *state, w *worker) { t.c.append(n, e, t.i); stored(w) })
	t.step(t.c.text("appends %s; the answer is lost", e), true, func(n *state, w *worker) { t.c.append(n, e, t.i); unanswered(w) })
	if t.s.Pending.Kind == noEntry {
		t.step(t.c.text("appends %s: an error, and it may be stored later", e), true, func(n *state, w *worker) { n.Pending = e; unanswered(w) })
	}
}

// matches reports whether the expectation of an append is met.
func (t *turn) matches() bool {
	if t.w.Assumed && !t.c.Rules.FirstExpects {
		return true
	}
	if t.c.Rules.ExpectLast {
		return t.w.Fresh && t.w.Tail
	}
	return t.w.Fresh && t.s.Foreign == 0
}

// resolveClosing reads the head after an append that was not acknowledged. The bytes
// are tried again as long as the last genuine entry is the one before them.
func (t *turn) resolveClosing() {
	t.step("reads the head after the append", false, func(n *state, w *worker) {
		switch {
		case n.Book.Last.Kind == closing && n.Book.Last.Tok == w.Tok:
			if t.c.held(n, t.i) {
				n.drop(t.i)
			} else {
				t.won(w)
			}
		case w.Fresh || !t.c.Rules.SameHead:
			w.At, w.Assumed, w.Fresh, w.Tail = appendClosing, w.Assumed && w.Fresh, true, true
		default:
			w.again()
		}
	})
	t.wait("gives up the append")
}

func (t *turn) send() {
	c, w0 := t.c, t.w
	t.step(t.c.text("SENDS %s", planNames[w0.Plan]), false, func(n *state, w *worker) {
		mayLand := func(r request) bool { return r.State >= running || r.State == inFlight && r.Valid > 0 }
		if !c.Versioned && c.accepted(n, closes, w.Plan, 0, w.Valid) && slices.ContainsFunc(n.Requests[:], mayLand) {
			c.violated("TWO-IN-FLIGHT: a second close is sent while another may take effect")
		}
		free := slices.IndexFunc(n.Requests[:], func(r request) bool { return r.State == 0 })
		if free < 0 {
			c.violated("MODEL: no place for another request")
			return
		}
		n.Requests[free] = request{State: inFlight, Kind: w.Kind, Plan: w.Plan, Ver: w.ReqVer, Valid: w.Valid, Own: uint8(t.i + 1)}
		w.At, w.Answer, w.Valid, w.Until = awaitAnswer, noAnswer, 0, 0
		w.forget()
	})
}

func (t *turn) awaitAnswer() {
	c, w0 := t.c, t.w
	switch {
	case w0.Answer == noAnswer:
		t.step("gets no answer", true, func(n *state, _ *worker) { n.drop(t.i) })
	case w0.Answer == answerLost:
		t.wait("is in doubt")
	case w0.Answer == carriedOut && w0.Kind == operate:
		t.step("goes on after the update", false, func(_ *state, w *worker) { w.Updated = w.ReqVer; w.again() })
	case w0.Answer == carriedOut:
		t.step("takes the answer: closed", false, func(_ *state, w *worker) {
			*w = worker{At: appendClosed, Msg: w.Msg, Plan: w.Plan, Fresh: w.Fresh, Tail: w.Tail, Sent: w.Sent, Answered: true}
		})
	case c.Versioned:
		t.wait("takes the refusal: waits")
	case w0.Answer == transient && c.WorksOn && c.Rules.InDoubt:
		t.wait("takes the error for a doubt")
	default:
		t.step("takes the refusal", false, func(_ *state, w *worker) { w.Refused = true; w.again() })
	}
}

func (t *turn) headAgain() {
	if t.c.Rules.HoldFails && t.c.held(t.s, t.i) {
		t.wait("records no failure: the ledger was restored from an older copy")
		return
	}
	t.step("reads the head again", false, func(_ *state, w *worker) {
		if w.Fresh {
			w.Assumed, w.At = false, storeLetter
		} else {
			w.again()
		}
	})
}

func (t *turn) storeLetter() {
	code := t.w.Code
	t.step("stores the dead letter: "+codeNames[code], false, func(n *state, w *worker) {
		alone := n.PaidTwo == 0 && n.Rival == 0
		if code == closedElsewhere && isPlanOf(n.Paid, t.o) && alone && t.c.Faults.SetBack == 0 {
			t.c.violated("WRONG-LETTER: closed_elsewhere, and the node paid a plan of this outcome")
		}
		n.Letters = with(n.Letters, t.o)
		w.At = appendFailed
	})
}

// appendEnd records how the outcome ended.
func (t *turn) appendEnd() {
	e := entry{Kind: closed, Out: t.o, Plan: t.w.Plan}
	if t.w.At == appendFailed {
		e = entry{Kind: failed, Out: t.o, Base: t.w.Code, Plan: t.w.Msg}
	}
	t.append(e, func(w *worker) { *w = worker{At: acknowledge, Msg: w.Msg} }, (*worker).again, func(w *worker) {
		if w.Fresh || !t.c.Rules.SameHead { // it reads the head again
			w.Assumed, w.Fresh, w.Tail = w.Assumed && w.Fresh, true, true
		} else {
			w.again()
		}
	})
}

func (t *turn) acknowledge() {
	w := t.w
	recorded := has(t.s.EverClosed, t.o) || has(t.s.Ended, w.Msg-1)
	if !recorded && w.Kind != endedAsCopy {
		t.c.violated("LOST: a message is acknowledged, and no entry ends it")
	}
	label := t.c.text("acknowledges message %d", w.Msg)
	t.step(label, false, func(n *state, _ *worker) { n.Messages[w.Msg-1].State = 2; n.drop(t.i) })
	t.step(label+"; it is lost", true, func(n *state, _ *worker) { n.drop(t.i) })
}
