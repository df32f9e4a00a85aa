package simulate

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"settled/settlement"
)

// appSession is a session as the node has it. Money is in whole units.
type appSession struct {
	id           settlement.SessionID
	missing      bool // the node has no such session
	open         bool
	version      uint64
	participants []settlement.Participant
	assets       int // the first so many of assets
	ours         bool
	noQuorum     bool // our keys don't reach it
	unseen       bool // nitronode v1: its transactions don't tell what its close paid

	deposits, payouts []move
	current           [][]int64  // nitronode v1: by participant and asset
	closes            []*closing // that were carried out
	running           int        // closes that the node is at work on

	// What happened to it that may end an outcome otherwise than as it says.
	byRival, moved, misled, emptied bool
	incident                        bool // a rival closed while the node worked on a close of ours
	lost                            bool // the ledger lost entries of it
	unheld                          bool // and a replica that didn't know sent meanwhile
}

// move is money that went in or out.
type move struct {
	wallet, asset int
	units         int64
	at            time.Time // on the node's clock
}

// closing is a close that was carried out.
type closing struct {
	by   *flight // nil: a rival
	rows []settlement.Allocation
}

func (w *world) drawSession(n int) *appSession {
	c := w.choices
	s := &appSession{
		id: settlement.SessionID(fmt.Sprintf("0x%062x%02x", 0x5e55104, n+1)), open: true, version: 1, assets: 1, ours: c.pick(3) < 2 && !w.weather.strangers,
		missing: c.pick(25) == 24, noQuorum: c.pick(25) == 24,
		unseen: w.dialect == Legacy || w.dialect == Versioned && c.pick(8) == 7,
	}
	if w.dialect != Legacy && c.pick(3) == 2 {
		s.assets = 2
	}
	lower := c.pick(2) == 1 || w.dialect == Versioned
	for _, a := range append(slices.Clone(players[:2+c.pick(2)]), judgeAddress) {
		p := settlement.Participant{Address: a, Spelling: spelled[a]}
		if lower {
			p.Spelling = strings.ToLower(p.Spelling)
		}
		s.participants = append(s.participants, p)
	}
	s.participants[len(s.participants)-1].Weight = 100
	s.current = make([][]int64, len(s.participants))
	for i := range s.current {
		s.current[i] = make([]int64, s.assets)
	}
	w.fund(s)
	return s
}

// fund has the players put money in; now and then nobody does.
func (w *world) fund(s *appSession) {
	c := w.choices
	if c.pick(30) == 29 {
		s.emptied = true
		return
	}
	for i := range len(s.participants) - 1 {
		for asset := range s.assets {
			if units := []int64{2 + c.below(9), 0, 1 + c.below(20), 1_000_000 + c.below(1000)}[c.pick(4)]; units > 0 || i == 0 {
				s.put(w, i, asset, max(units, 1))
			}
		}
	}
}

func (s *appSession) put(w *world, wallet, asset int, units int64) {
	s.deposits = append(s.deposits, move{wallet, asset, units, w.node.now()})
	s.current[wallet][asset] += units
	if w.dialect == Versioned {
		s.version++
	}
}

// balance is what is in it of an asset.
func (s *appSession) balance(asset int) (units int64) {
	for i := range s.participants {
		units += s.net(i, asset)
	}
	return units
}

// held: the asset was put in once.
func (s *appSession) held(asset int) bool {
	return slices.ContainsFunc(s.deposits, func(m move) bool { return m.asset == asset })
}

// net is what a wallet put in less what it got out; below zero where it got more.
func (s *appSession) net(wallet, asset int) (units int64) {
	for _, m := range s.deposits {
		if m.wallet == wallet && m.asset == asset {
			units += m.units
		}
	}
	for _, m := range s.payouts {
		if m.wallet == wallet && m.asset == asset {
			units -= m.units
		}
	}
	return units
}

func (s *appSession) unfunded() bool {
	for asset := range s.assets {
		if s.balance(asset) != 0 {
			return false
		}
	}
	return true
}

func (s *appSession) wallet(spelling string) int {
	for i, p := range s.participants {
		if p.Spelling == spelling {
			return i
		}
	}
	return -1
}

// pay carries out a close's rows.
func (s *appSession) pay(w *world, rows []settlement.Allocation, by *flight) {
	for _, r := range rows {
		units, asset := unitsOf(r)
		s.payouts = append(s.payouts, move{s.wallet(r.Participant), asset, units, w.node.now()})
	}
	s.open = false
	s.version++
	s.closes = append(s.closes, &closing{by, rows})
}

// unitsOf is a row's amount in whole units, and its asset's number.
func unitsOf(r settlement.Allocation) (units int64, asset int) {
	for i, a := range assets {
		if a.name == r.Asset {
			return r.Amount.Units(a.decimals).Int64(), i
		}
	}
	return 0, -1
}

func amountOf(units int64, asset int) settlement.Amount {
	return settlement.AmountOfUnits(bigInt(units), assets[asset].decimals)
}

func (s *appSession) String() string { return "session " + string(s.id[len(s.id)-2:]) }
