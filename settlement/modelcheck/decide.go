package main

// decide is settlement.Next: what one observation leads to.
func (t *turn) decide() {
	c, w := t.c, t.s.Workers[t.i]
	fences := []bool{w.Fence}
	if !c.Rules.FenceFirst && !c.Versioned && w.Intent.Kind == closing && !w.Fence {
		fences = t.readings(w.Intent.Until) // the clock is looked at now
	}
	for _, fence := range fences {
		switch expired := t.expired(fence); {
		case w.Seen == 2:
			t.decideClosed(expired)
		case c.Versioned:
			t.decideVersioned()
		default:
			t.decideOpen(expired)
		}
	}
}

// expired: no request of this outcome can land any more.
func (t *turn) expired(fence bool) bool {
	w := &t.s.Workers[t.i]
	switch {
	case w.Intent.Kind != closing:
		return true
	case t.c.Versioned:
		return !t.onPath() && !t.behind()
	}
	return w.Refused || fence
}

// onPath: a versioned session is where requests of the intent can be carried out.
func (t *turn) onPath() bool {
	w := &t.s.Workers[t.i]
	base := w.Intent.Base
	return w.Intent.Kind == closing && w.Seen == 1 && (w.Ver == base || w.Ver == base+1 && w.Alloc == w.Intent.Plan)
}

// behind: it is shown as it was before the intent.
func (t *turn) behind() bool {
	w := &t.s.Workers[t.i]
	return t.c.Rules.BehindBase && w.Intent.Kind == closing && w.Seen == 1 && w.Ver < w.Intent.Base
}

// troubled: after a doubt, what was seen slowly is not believed.
func (t *turn) troubled() bool {
	w := &t.s.Workers[t.i]
	doubted := w.Intent.Kind == closing && !t.c.Versioned && !w.Refused
	return doubted && !w.Quiet && t.c.Rules.Quiet
}

func (t *turn) failAs(label string, code uint8) {
	t.step(label, false, func(_ *state, w *worker) string { w.fail(t.c, code); return "" })
}

func (t *turn) decideClosed(expired bool) {
	w := t.s.Workers[t.i]
	if plan := t.paidAs(); plan != 0 {
		t.step("finds it closed as planned", false, func(_ *state, w *worker) string {
			*w = worker{At: appendClosed, Msg: w.Msg, Plan: plan, Fresh: w.Fresh, Tail: w.Tail}
			return ""
		})
		return
	}
	code := uint8(closedElsewhere)
	if t.s.PaidTwo != 0 || t.s.Paid != 0 && t.s.Rival != 0 {
		code = overpaid
	}
	switch {
	case !expired && (t.c.Rules.FailFenced || t.c.Versioned):
		t.wait("finds it closed otherwise, and its own request may land: waits")
	case code == closedElsewhere && w.Intent.Kind == closing && t.troubled():
		t.wait("finds it closed otherwise, and looks again")
	default:
		t.failAs("finds it closed otherwise", code)
	}
}

// paidAs is the plan of this outcome that the payouts are taken for; 0 for none.
func (t *turn) paidAs() uint8 {
	c, w := t.c, t.s.Workers[t.i]
	looksLike := func(plan uint8) bool {
		return w.Paid == plan || c.Withdrawn && w.Bal == 1 && isPlanOf(w.Paid, t.o) && isPlanOf(plan, t.o)
	}
	if c.Unseen { // the intent before this one could land no more when it was recorded
		if w.Intent.Kind == closing && !w.Refused {
			return w.Intent.Plan
		}
		return 0
	}
	candidates := []uint8{planOf(t.o, 0), planOf(t.o, 1)}
	if c.Rules.NewestFirst && w.Newest == candidates[1] {
		candidates[0], candidates[1] = candidates[1], candidates[0]
	}
	for _, p := range candidates {
		if has(w.Recorded, p) && looksLike(p) {
			return p
		}
	}
	if p := planOf(t.o, w.Bal); w.Intent.Kind != closing && w.Paid == p {
		return p
	}
	return 0
}

func (t *turn) decideOpen(expired bool) {
	c, w := t.c, t.s.Workers[t.i]
	intent := w.Intent.Kind == closing
	switch {
	case !expired && c.Rules.FailFenced:
		t.wait("finds it open, before valid_until: waits")
		return
	case !expired && w.Attempts >= c.Attempts:
		t.failAs("finds it open, attempts spent", attemptsExhausted)
		return
	case !expired:
		t.wait("finds it open, before valid_until: waits")
		return
	case intent && t.troubled():
		t.wait("finds it open, and looks again")
		return
	case w.Attempts >= c.Attempts:
		t.failAs("finds it open, attempts spent", attemptsExhausted)
		return
	}
	if p := w.Intent.Plan; intent && !c.Rules.IntentPerSend {
		t.step("signs the standing intent's plan again", false, func(_ *state, w *worker) string {
			t.sign(w, p)
			w.At = send
			w.Sent = w.Intent.Tok
			w.forget()
			return ""
		})
		return
	}
	t.prepare(planOf(t.o, w.Bal))
}

func (t *turn) decideVersioned() {
	c, w := t.c, t.s.Workers[t.i]
	if w.Ver+1 > c.MaxVer {
		return // not explored
	}
	if t.onPath() || w.Intent.Kind == closing && !c.Rules.BasePinned {
		t.drive()
	}
	switch {
	case t.behind():
		t.wait("finds an older version than the intent's: waits")
	case t.onPath() && !c.Rules.FailFenced && w.Attempts >= c.Attempts:
		t.failAs("finds it open, attempts spent", attemptsExhausted)
	case t.onPath():
	case w.Attempts >= c.Attempts:
		t.failAs("finds it open and off the path, attempts spent", attemptsExhausted)
	default:
		t.prepare(planOf(t.o, w.Bal))
	}
}

// drive sends the next request of the recorded plan. It needs no entry of its own.
func (t *turn) drive() {
	t.step("signs the next request of the recorded plan", false, func(_ *state, w *worker) string {
		t.sign(w, w.Intent.Plan)
		w.At, w.Sent = send, w.Intent.Tok
		w.forget()
		return ""
	})
}

// prepare plans from this observation, and signs.
func (t *turn) prepare(p uint8) {
	t.step("plans and signs "+planNames[p], false, func(n *state, w *worker) string {
		t.sign(w, p)
		w.Tok = t.token(n)
		w.Base = w.Ver
		w.At = appendClosing
		w.forget()
		return ""
	})
}

func (t *turn) sign(w *worker, p uint8) {
	c := t.c
	w.Plan, w.Kind = p, closes
	w.Valid, w.Until = c.Valid, c.Valid+c.Margin
	if t.s.Jumped && !c.Rules.SignedTime {
		w.Valid += c.Margin + 1
	}
	if c.Versioned {
		w.Valid, w.Until, w.ReqVer = 1, 0, w.Ver+1
		if w.Alloc != p {
			w.Kind = operate
		}
	}
}

// token is one that no visible entry has.
func (t *turn) token(s *state) uint8 {
	var used [64]bool
	used[0] = true
	for _, e := range []*entry{&s.Book.Last, &s.Book.Standing, &s.Backup.Last, &s.Backup.Standing, &s.Pending} {
		used[e.Tok] = true
	}
	for i := range s.Workers {
		used[s.Workers[i].Tok], used[s.Workers[i].Sent], used[s.Workers[i].Intent.Tok] = true, true, true
	}
	for k := uint8(1); ; k++ {
		if !used[k] {
			return k
		}
	}
}
