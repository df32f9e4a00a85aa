package simulate

import (
	"fmt"
	"strings"
	"time"

	"settled/settlement"
)

// scene is who is in a schedule and what was published: its sessions, outcomes and
// replicas.
type scene struct {
	sessions []*appSession
	deals    []*deal
	policies []*policySet
}

func addressOf(n int) settlement.Address {
	a, err := settlement.ParseAddress(fmt.Sprintf("0xabcdef%034x", n))
	if err != nil {
		panic(err) // 40 hex digits
	}
	return a
}

var (
	players      = []settlement.Address{addressOf(1), addressOf(2), addressOf(3)}
	judgeAddress = addressOf(9)
	stranger     = addressOf(13)
	spelled      = map[settlement.Address]string{}
)

func init() {
	for _, a := range append([]settlement.Address{judgeAddress, stranger}, players...) {
		spelled[a] = a.String() // with its checksum, which is slow to make
	}
}

// assets are what sessions hold, in units of so many decimals.
var assets = []struct {
	name     settlement.Asset
	decimals int32
}{{"usdc", 6}, {"weth", 18}}

// draw makes a scene and has it begin.
func (w *world) draw() {
	c := w.choices
	w.drawWeather()
	w.scene.policies = policySets
	for range 1 + c.pick(4)/3 {
		w.scene.sessions = append(w.scene.sessions, w.drawSession(len(w.scene.sessions)))
	}
	for range 1 + c.pick(3) {
		r := &replica{w: w, name: "r" + utoa(uint64(len(w.replicas)+1))}
		w.replicas = append(w.replicas, r)
		r.start()
	}
	for _, s := range w.scene.sessions {
		w.drawDeals(s)
	}
	for _, d := range w.scene.deals {
		w.schedule(d)
	}
	w.drawTroubles()
}

// schedule says when an outcome is published: once, or again and again by an
// upstream that isn't sure.
func (w *world) schedule(d *deal) {
	soon := []time.Duration{10 * time.Millisecond, time.Second, time.Minute}
	for range []int{1, 1, 1, 2, 3}[w.choices.pick(5)] {
		w.at(dawn.Add(w.choices.between(0, soon[w.choices.pick(len(soon))])), func() { w.broker.publish(d) })
	}
}

// drawTroubles says when the rest of the world moves.
func (w *world) drawTroubles() {
	is := w.weather
	w.spells(is.outages, 2*time.Minute, func(until time.Time) {
		w.note("NODE", "is AWAY until %s", clock(until.Sub(dawn)))
		w.node.awayUntil = later(w.node.awayUntil, until)
	})
	w.spells(is.mires, 5*time.Minute, func(until time.Time) {
		w.note("NODE", "its database is in a MIRE until %s", clock(until.Sub(dawn)))
		w.node.miredUntil = later(w.node.miredUntil, until)
	})
	w.spells(is.ledgerOutages, time.Minute, func(until time.Time) {
		w.note("LEDGER", "is AWAY until %s", clock(until.Sub(dawn)))
		w.stream.awayUntil = later(w.stream.awayUntil, until)
	})
	w.moments(is.restarts, func() { w.crash(w.replicas[w.choices.pick(len(w.replicas))], "by kill -9") })
	w.moments(is.replays, w.letters.replay)
	w.moments(is.foreign, func() { w.stream.intrude(w.anySession().id) })
	w.moments(is.clockJumps, func() { w.replicas[w.choices.pick(len(w.replicas))].setClock() })
	w.moments(is.outcomesSetBack, w.broker.setBack)
	w.moments(is.setBacks, w.stream.setBack)
	w.moments(is.settings, w.stream.changeSettings)
	w.moments(is.copies, w.broker.copied)
	w.moments(is.rivals, func() { w.node.rival(w.anySession()) })
	w.moments(is.deposits, func() { w.node.deposited(w.anySession()) })
	w.moments(is.withdrawals, func() { w.node.withdrawn(w.anySession()) })
	w.moments(is.operations, func() { w.node.operated(w.anySession()) })
}

func (w *world) anySession() *appSession {
	return w.scene.sessions[w.choices.pick(len(w.scene.sessions))]
}

// later: spells may overlap.
func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// short is a subject without most of its session's id.
func short(subject string) string {
	at := strings.LastIndex(subject, ".0x")
	if at < 0 {
		return subject
	}
	return subject[:at] + "." + subject[len(subject)-2:]
}
