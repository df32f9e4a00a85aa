package simulate

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"settled/settlement"
)

// Send implements settlement.Node. A request that left is carried out whatever
// becomes of the one who sent it.
func (n *node) Send(_ context.Context, r settlement.Request) (settlement.Answer, error) {
	a := n.w.running
	at, err := strconv.Atoi(string(r.Frame))
	if err != nil || at >= len(n.flights) {
		return settlement.Answer{}, fmt.Errorf("no such request: %q", r.Frame)
	}
	f := n.flights[at]
	fate := n.w.fate("send")
	a.perish(fate)
	if err := a.signedIn(); err != nil || n.away() && n.w.choices.pick(2) == 0 {
		a.note("%s: not sent", f)
		return settlement.Answer{}, &settlement.Refused{Err: errors.New("not sent: no connection")}
	}
	n.w.laws.held(a.home, f)
	n.w.laws.sending(f)
	return n.fly(a, f, fate)
}

// reply is what the node says to a request, if it gets there.
type reply struct {
	given   bool
	err     error
	version uint64
}

// fly has the request on its way, and waits for what comes back.
func (n *node) fly(a *actor, f *flight, fate fate) (settlement.Answer, error) {
	w := n.w
	var said reply
	a.note("SENDS %s", f)
	a.wait(func(wake func()) {
		answer := func(r reply) {
			w.note("NODE", "answers request %d: %v", f.number+1, r.err)
			if fate.kills {
				w.crash(a.home, "once its request was answered")
			}
			if fate.answered && !said.given {
				w.after(fate.back, func() { said = r; wake() })
			}
		}
		f.sent++
		w.after(fate.there, func() { n.arrive(f, fate, answer) })
		w.after(fate.patience, wake)
	})
	if !said.given {
		return settlement.Answer{}, errLost
	}
	if said.err != nil && w.faulty(w.weather.brooded) {
		a.home.stall(w.choices.between(messageExpiry, messageExpiry+3*fenceMargin))
		a.sleep(0)
	}
	return settlement.Answer{Version: said.version, Evidence: evidence}, said.err
}

// evidence is what the node signed.
var evidence = settlement.NodeAnswer{URL: "ws://node", Protocol: "sim", Address: "0x00", RequestID: 1, Response: "[]", Signature: "0x00"}

// arrive takes a request off the node's queue: what is refused here changed
// nothing, and the rest is worked on.
func (n *node) arrive(f *flight, fate fate, answer func(reply)) {
	w := n.w
	if !fate.arrives || n.away() {
		w.note("NODE", "request %d never arrives", f.number+1)
		f.sent--
		return
	}
	refusal := n.refuse(f)
	if refusal == nil && w.faulty(w.weather.refused) {
		refusal = n.passing()
	}
	if refusal != nil {
		f.sent--
		answer(reply{given: true, err: &settlement.Refused{Err: refusal}})
		return
	}
	w.note("NODE", "works on request %d", f.number+1)
	n.laboured(f)
	f.running = true
	f.session.running++
	base := f.session.version
	if w.weather.incidents && w.choices.pick(4) == 3 {
		w.after(w.choices.between(0, w.weather.work), func() { n.rival(f.session) })
	}
	w.after(w.choices.between(0, w.weather.work), func() { n.finish(f, base, answer) })
}

// laboured holds the node to one close of ours at a time.
func (n *node) laboured(f *flight) {
	if n.w.dialect != Versioned && f.session.running > 0 && !f.session.unheld {
		n.w.violate(OneInFlight, "%s is worked on beside another close of its session", f)
	}
}

// passing is a refusal for a reason that passes.
func (n *node) passing() error {
	if n.w.dialect == Versioned && n.w.choices.pick(2) == 0 {
		return &settlement.Waiting{Reason: settlement.EscrowPending, Err: errors.New("somebody's escrow is pending")}
	}
	return errors.New("the node refuses for now")
}

// finish commits, once the database moves.
func (n *node) finish(f *flight, base uint64, answer func(reply)) {
	w := n.w
	if n.mired() {
		w.at(n.miredUntil, func() { n.finish(f, base, answer) })
		return
	}
	f.running = false
	f.sent--
	f.session.running--
	if n.w.dialect == Versioned && f.session.version != base {
		answer(reply{given: true, err: &settlement.Refused{Err: errors.New("failed to update app session: concurrent modification detected")}})
		return
	}
	n.commit(f)
	r := reply{given: true, version: f.session.version}
	if w.faulty(w.weather.doubtful) {
		r.err = errors.New("failed to close application session")
	}
	answer(r)
}

// commit carries a request out. The 0.x node asks nothing any more: of two closes
// that it works on at once both pay.
func (n *node) commit(f *flight) {
	n.w.laws.landing(f)
	if !f.closes {
		n.operate(f.session, f.rows)
		n.w.note("NODE", "carries out request %d: %s", f.number+1, f.session.state())
		return
	}
	f.session.pay(n.w, f.rows, f)
	if n.w.dialect == Versioned {
		f.session.empty()
	}
	n.w.note("NODE", "carries out request %d: %s", f.number+1, f.session.state())
	n.w.laws.paid(f.session)
}

var _ settlement.Node = (*node)(nil)

// Prepare implements settlement.Node: it fixes everything in the request, between
// two moments in which the process may come to a stop.
func (n *node) Prepare(_ context.Context, o settlement.Outcome, plan settlement.Plan, s settlement.Session) (settlement.Request, error) {
	a := n.w.running
	if err := a.remote("sign", func() {}); err != nil || n.w.faulty(n.w.weather.unsigned) {
		return settlement.Request{}, &settlement.Waiting{Reason: settlement.CosignersUnavailable, Err: err}
	}
	if err := a.signedIn(); err != nil {
		return settlement.Request{}, err
	}
	n.w.laws.planned(a, o, plan)
	if a.seen.session.noQuorum {
		return settlement.Request{}, fmt.Errorf("prepare: %w", settlement.Fail(settlement.QuorumNotReached, "our keys don't reach the quorum"))
	}
	f := n.file(a, o, plan, s)
	a.note("prepares %s", f)
	return f.request(), nil
}

// file makes the request and remembers it.
func (n *node) file(a *actor, o settlement.Outcome, plan settlement.Plan, s settlement.Session) *flight {
	f := &flight{number: len(n.flights), outcome: o.Ref, session: a.seen.session, rows: plan.Allocations, base: plan.BaseVersion, closes: true}
	if n.w.dialect == Versioned {
		f.version, f.closes = s.Version+1, sameRows(s.Current, plan.Allocations)
	} else {
		f.stamp = a.bound().Add(requestValidity - messageExpiry).Truncate(time.Millisecond)
		f.until = f.stamp.Add(messageExpiry + fenceMargin)
	}
	n.flights = append(n.flights, f)
	return f
}

// flight is one signed request of ours.
type flight struct {
	number  int
	outcome settlement.OutcomeRef
	session *appSession
	rows    []settlement.Allocation
	closes  bool
	stamp   time.Time // 0.x: on the node's clock
	until   time.Time // 0.x: when the fence of it falls
	base    uint64    // v1: the version that the plan was made from
	version uint64    // v1: to which it moves the session

	sent       int // copies on their way or at work
	running    bool
	recorded   bool // its closing entry was in the ledger
	recordedAt time.Time
}

func (f *flight) digest() string { return fmt.Sprintf("%064x", f.number+1) }

func (f *flight) request() settlement.Request {
	r := settlement.Request{
		Ref:        settlement.RequestRef{ID: uint64(f.number + 1), Digest: f.digest()}, // #nosec G115 -- counts from 0
		ValidUntil: f.until, Closes: f.closes, Frame: fmt.Append(nil, f.number),
	}
	if !f.stamp.IsZero() {
		r.Ref.Timestamp = uint64(f.stamp.UnixMilli()) // #nosec G115 -- after 1970
	}
	return r
}

func (f *flight) String() string {
	what := "close"
	if !f.closes {
		what = "operate"
	}
	if f.version > 0 {
		what += fmt.Sprintf(" at version %d (base %d)", f.version, f.base)
	}
	return fmt.Sprintf("request %d: %s of %s by %s, %s", f.number+1, what, f.session, f.outcome.ID, rowText(f.rows))
}

func rowText(rows []settlement.Allocation) string {
	parts := make([]string, len(rows))
	for i, r := range rows {
		parts[i] = r.Amount.String()
		if len(rows) > 4 {
			parts[i] += " " + string(r.Asset)
		}
	}
	return "paying " + strings.Join(parts, ", ")
}

// mayLand: it is at work, or on its way and the node would take it now.
func (f *flight) mayLand(n *node) bool {
	switch {
	case f.sent == 0:
		return false
	case n.w.dialect == Versioned:
		return n.fits(f) == nil
	case f.running:
		return true
	default:
		return f.session.open && !f.expired(n)
	}
}

func (f *flight) expired(n *node) bool { return n.now().Sub(f.stamp) > messageExpiry }

// sameRows compares two splits by account and asset; rows of 0 count for nothing.
func sameRows(a, b []settlement.Allocation) bool {
	return covers(a, b) && covers(b, a)
}

func covers(a, b []settlement.Allocation) bool {
	for _, r := range a {
		if !r.Amount.IsZero() && !has(b, r) {
			return false
		}
	}
	return true
}

func has(rows []settlement.Allocation, want settlement.Allocation) bool {
	for _, r := range rows {
		if r.Asset == want.Asset && strings.EqualFold(r.Participant, want.Participant) {
			return r.Amount.Equal(want.Amount)
		}
	}
	return false
}
