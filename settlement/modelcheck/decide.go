package main

// decide is settlement.Next: what one observation leads to.
func (t *turn) decide() {
	fences := []bool{t.w.Fence}
	if !t.c.Rules.FenceFirst && !t.c.Versioned && t.w.intends() && !t.w.Fence {
		fences = t.readings(t.w.Intent.Until) // the clock is looked at now
	}
	for _, fence := range fences {
		switch expired := t.expired(fence); {
		case t.w.Seen == 2:
			t.decideClosed(expired)
		case t.c.Versioned:
			t.decideVersioned()
		default:
			t.decideOpen(expired)
		}
	}
}

// expired: no request of this outcome can take effect any more.
func (t *turn) expired(fence bool) bool {
	switch {
	case !t.w.intends():
		return true
	case t.c.Versioned:
		return !t.onPath() && !t.behind()
	}
	return t.w.Refused || fence
}

// onPath: a versioned session is where requests of the intent can take effect.
func (t *turn) onPath() bool {
	w, base := t.w, t.w.Intent.Base
	return w.intends() && w.Seen == 1 && (w.Ver == base || w.Ver == base+1 && w.Alloc == w.Intent.Plan)
}

// behind: it is shown as it was before the intent.
func (t *turn) behind() bool {
	return t.c.Rules.BehindBase && t.w.intends() && t.w.Seen == 1 && t.w.Ver < t.w.Intent.Base
}

// troubled: after a doubt, what was seen slowly is not believed.
func (t *turn) troubled() bool {
	return t.inDoubt() && !t.w.Quiet && t.c.Rules.Quiet
}

func (t *turn) failAs(label string, code uint8) {
	t.step(label, false, func(_ *state, w *worker) { w.fail(t.c, code) })
}

func (t *turn) decideClosed(expired bool) {
	plan := t.paidAs()
	switch {
	case plan != 0 && t.w.Assumed: // it is most likely recorded
		t.step("finds it closed as planned, and reads the head", false, func(_ *state, w *worker) { w.again() })
		return
	case plan != 0:
		t.step("finds it closed as planned", false, func(_ *state, w *worker) {
			*w = worker{At: appendClosed, Msg: w.Msg, Plan: plan, Fresh: w.Fresh, Tail: w.Tail}
		})
		return
	}
	code := uint8(closedElsewhere)
	if t.s.PaidTwo != 0 || t.s.Paid != 0 && t.s.Rival != 0 {
		code = overpaid
	}
	switch {
	case !expired && (t.c.Rules.FailFenced || t.c.Versioned):
		t.wait("finds it closed otherwise, and its own request may take effect: waits")
	case code == closedElsewhere && t.troubled():
		t.wait("finds it closed otherwise, and looks again")
	default:
		t.failAs("finds it closed otherwise", code)
	}
}

// paidAs is the plan of this outcome that the payouts are taken for; 0 for none.
func (t *turn) paidAs() uint8 {
	c, w := t.c, t.w
	looksLike := func(plan uint8) bool {
		return w.Paid == plan || c.Withdrawn && w.Bal == 1 && isPlanOf(w.Paid, t.o) && isPlanOf(plan, t.o)
	}
	if c.Unseen { // the intent before this one could no longer take effect when it was recorded
		if w.intends() && !w.Refused {
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
	if p := planOf(t.o, w.Bal); !w.intends() && w.Paid == p {
		return p
	}
	return 0
}

func (t *turn) decideOpen(expired bool) {
	switch spent := t.w.Attempts >= t.c.Attempts; {
	case !expired && (t.c.Rules.FailFenced || !spent):
		t.wait("finds it open, before valid_until: waits")
	case expired && t.troubled():
		t.wait("finds it open, and looks again")
	case spent:
		t.failAs("finds it open, attempts spent", attemptsExhausted)
	case t.w.intends() && !t.c.Rules.IntentPerSend:
		t.drive("signs the standing intent's plan again")
	default:
		t.prepare()
	}
}

func (t *turn) decideVersioned() {
	c, w := t.c, t.w
	if w.Ver+1 > maxVersion {
		return // not explored
	}
	if t.onPath() || w.intends() && !c.Rules.BasePinned {
		t.drive("signs the next request of the recorded plan") // it needs no entry of its own
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
		t.prepare()
	}
}

// drive signs a request by the intent that holds the session.
func (t *turn) drive(label string) {
	t.step(label, false, func(_ *state, w *worker) {
		t.sign(w, w.Intent.Plan)
		w.At, w.Sent = send, w.Intent.Tok
		w.forget()
	})
}

// prepare plans from this observation, and signs.
func (t *turn) prepare() {
	p := planOf(t.o, t.w.Bal)
	t.step("plans and signs "+planNames[p], false, func(n *state, w *worker) {
		t.sign(w, p)
		w.Tok, w.Base, w.At = t.token(n), w.Ver, appendClosing
		w.forget()
	})
}

func (t *turn) sign(w *worker, p uint8) {
	w.Plan, w.Kind, w.Valid, w.Until = p, closes, validTicks, validTicks+marginTicks
	if t.s.Jumped && !t.c.Rules.SignedTime {
		w.Valid += marginTicks + 1
	}
	if t.c.Versioned {
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
