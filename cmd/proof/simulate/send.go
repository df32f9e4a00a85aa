package simulate

import (
	"context"
	"errors"
	"fmt"
	"strconv"

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

// refuse is why the node doesn't take a request; nil: it does.
func (n *node) refuse(f *flight) error {
	if n.w.dialect == Versioned {
		return n.fits(f)
	}
	if f.expired(n) {
		return errors.New("invalid message timestamp")
	}
	if !f.session.open {
		return errors.New("an open app session not found: record not found")
	}
	return f.session.redistributed(f.rows, n.w.dialect)
}

// redistributed is nil where the rows give out all that is in the session.
func (s *appSession) redistributed(rows []settlement.Allocation, dialect Dialect) error {
	sums := make([]int64, s.assets)
	for _, r := range rows {
		units, asset := unitsOf(r)
		if s.wallet(r.Participant) < 0 || asset < 0 || asset >= s.assets {
			return settlement.Fail(settlement.NotAParticipant, "allocation to non-participant %s", r.Participant)
		}
		sums[asset] += units
	}
	if dialect == Legacy && len(rows) != len(s.participants) {
		return settlement.Fail(settlement.AllocationRejected, "allocations must be provided for every participant exactly once")
	}
	for asset, sum := range sums {
		if sum != s.balance(asset) {
			return settlement.Fail(settlement.AllocationRejected, "asset %s not fully redistributed", assets[asset].name)
		}
	}
	return nil
}

// empty leaves nothing in a versioned session.
func (s *appSession) empty() {
	for i := range s.current {
		clear(s.current[i])
	}
}

var _ settlement.Node = (*node)(nil)
