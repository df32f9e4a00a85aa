package simulate

import (
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"settled/settlement"
)

// appSession is a session as the node stores it. Money is in whole units.
type appSession struct {
	id            settlement.SessionID
	missing       bool // the node has no such session
	open          bool
	version       uint64
	participants  []settlement.Participant
	assets        int // it uses the first so many of assets
	quorumNeedsUs bool
	noQuorum      bool // our keys don't reach the quorum
	hidesPayouts  bool

	deposits, payouts []transfer
	current           [][]int64 // nitronode: by participant and asset
	closes            []*executedClose
	executing         int // closes that the node is executing

	// Events after which an outcome may end otherwise than it says.
	byRival, balanceMoved, falselyNotFound, neverFunded bool
	concurrentRival                                     bool // another party closed while the node executed a close of ours
	entriesLost                                         bool // the ledger lost entries of it
	unprotected                                         bool // and a replica that did not know sent a request
}

// transfer is money that went in or out.
type transfer struct {
	participant, asset int
	units              int64
	at                 time.Time // on the node's clock
}

// executedClose is a close that the node executed.
type executedClose struct {
	request    *nodeRequest // nil: another party's
	allocation []settlement.Allocation
}

var (
	players     = []settlement.Address{addressOf(1), addressOf(2), addressOf(3)}
	judge       = addressOf(9)
	stranger    = addressOf(13)
	checksummed = map[settlement.Address]string{} // computed once, since that is slow
)

func init() {
	for _, a := range append([]settlement.Address{judge, stranger}, players...) {
		checksummed[a] = a.String()
	}
}

func addressOf(n int) settlement.Address {
	a, err := settlement.ParseAddress(fmt.Sprintf("0xabcdef%034x", n))
	if err != nil {
		panic(err) // 40 hex digits
	}
	return a
}

var assets = []struct {
	name     settlement.Asset
	decimals int32
}{{"usdc", 6}, {"weth", 18}}

func (w *world) drawSession(n int) *appSession {
	c := w.choices
	s := &appSession{
		id: settlement.SessionID(fmt.Sprintf("0x%062x%02x", 0x5e55104, n+1)), open: true, version: 1, assets: 1,
		quorumNeedsUs: c.pick(3) < 2 && !w.faults.openQuorum,
		missing:       c.pick(25) == 24, noQuorum: c.pick(25) == 24,
		hidesPayouts: w.dialect == Legacy || w.dialect == Nitronode && c.pick(8) == 7,
	}
	if w.dialect != Legacy && c.pick(3) == 2 {
		s.assets = 2
	}
	lower := c.pick(2) == 1 || w.dialect == Nitronode
	for _, a := range append(slices.Clone(players[:2+c.pick(2)]), judge) {
		p := settlement.Participant{Address: a, Spelling: checksummed[a]}
		if lower {
			p.Spelling = strings.ToLower(p.Spelling)
		}
		s.participants = append(s.participants, p)
	}
	s.participants[len(s.participants)-1].Weight = 100
	s.current = s.unitTable()
	if c.pick(30) == 29 {
		s.neverFunded = true
		return s
	}
	for i := range len(s.participants) - 1 {
		for asset := range s.assets {
			if units := []int64{2 + c.below(9), 0, 1 + c.below(20), 1_000_000 + c.below(1000)}[c.pick(4)]; units > 0 || i == 0 {
				s.deposit(w, i, asset, max(units, 1))
			}
		}
	}
	return s
}

func (s *appSession) deposit(w *world, participant, asset int, units int64) {
	s.deposits = append(s.deposits, transfer{participant, asset, units, w.node.now()})
	s.current[participant][asset] += units
	if w.dialect == Nitronode {
		s.version++
	}
}

// close executes a close.
func (s *appSession) close(w *world, rows []settlement.Allocation, by *nodeRequest) {
	for _, r := range rows {
		units, asset := unitsOf(r)
		s.payouts = append(s.payouts, transfer{s.participant(r.Participant), asset, units, w.node.now()})
	}
	s.open = false
	s.version++
	s.closes = append(s.closes, &executedClose{by, rows})
	s.current = s.unitTable()
}

// net is what a participant deposited less what it was paid.
func (s *appSession) net(participant, asset int) int64 {
	sum := func(of []transfer) (units int64) {
		for _, t := range of {
			if t.participant == participant && t.asset == asset {
				units += t.units
			}
		}
		return units
	}
	return sum(s.deposits) - sum(s.payouts)
}

func (s *appSession) balances() []int64 {
	units := make([]int64, s.assets)
	for asset := range units {
		for i := range s.participants {
			units[asset] += s.net(i, asset)
		}
	}
	return units
}

func (s *appSession) unfunded() bool {
	return !slices.ContainsFunc(s.balances(), func(units int64) bool { return units != 0 })
}

// everHeld reports whether the asset was ever deposited.
func (s *appSession) everHeld(asset int) bool {
	return slices.ContainsFunc(s.deposits, func(t transfer) bool { return t.asset == asset })
}

// participant is the index of the participant with this spelling, or -1.
func (s *appSession) participant(spelling string) int {
	return slices.IndexFunc(s.participants, func(p settlement.Participant) bool { return p.Spelling == spelling })
}

// unitTable has a zero for every participant and asset.
func (s *appSession) unitTable() [][]int64 {
	units := make([][]int64, len(s.participants))
	for i := range units {
		units[i] = make([]int64, s.assets)
	}
	return units
}

// allocation has a row for every participant and asset; with include, only of some
// assets.
func (s *appSession) allocation(units [][]int64, include []bool) (rows []settlement.Allocation) {
	for i, p := range s.participants {
		for asset := range units[i] {
			if include == nil || include[asset] {
				rows = append(rows, settlement.Allocation{Participant: p.Spelling, Asset: assets[asset].name, Amount: amountOf(units[i][asset], asset)})
			}
		}
	}
	return rows
}

// split sums rows up by participant and asset.
func (s *appSession) split(rows []settlement.Allocation) ([][]int64, error) {
	split := s.unitTable()
	for _, r := range rows {
		i := s.participant(r.Participant)
		units, asset := unitsOf(r)
		if i < 0 || asset < 0 || asset >= s.assets {
			return nil, settlement.Fail(settlement.NotAParticipant, "allocation to non-participant %s", r.Participant)
		}
		split[i][asset] += units
	}
	return split, nil
}

// unitsOf is a row's amount in whole units, and its asset's index or -1.
func unitsOf(r settlement.Allocation) (units int64, asset int) {
	for i, a := range assets {
		if a.name == r.Asset {
			return r.Amount.Units(a.decimals).Int64(), i
		}
	}
	return 0, -1
}

func amountOf(units int64, asset int) settlement.Amount {
	return settlement.AmountOfUnits(big.NewInt(units), assets[asset].decimals)
}

// snapshot is a session as one read showed it, in whole units.
type snapshot struct {
	session  *appSession
	version  uint64
	balance  []int64
	everHeld []bool    // by asset
	net      [][]int64 // by participant and asset
}

func (s *appSession) snapshot() snapshot {
	v := snapshot{session: s, version: s.version, balance: s.balances(), net: s.unitTable()}
	for asset := range s.assets {
		v.everHeld = append(v.everHeld, s.everHeld(asset))
		for i := range s.participants {
			v.net[i][asset] = s.net(i, asset)
		}
	}
	return v
}

func (s *appSession) state() string {
	open := map[bool]string{true: "open", false: "closed"}[s.open]
	return fmt.Sprintf("%s %s at version %d, %d closes", s, open, s.version, len(s.closes))
}

func (s *appSession) String() string { return "session " + string(s.id[len(s.id)-2:]) }

// sameAllocation compares two allocations by account and asset. Rows of 0 don't count.
func sameAllocation(a, b []settlement.Allocation) bool {
	includes := func(a, b []settlement.Allocation) bool {
		return !slices.ContainsFunc(a, func(r settlement.Allocation) bool {
			return !r.Amount.IsZero() && !slices.ContainsFunc(b, func(other settlement.Allocation) bool {
				return other.Asset == r.Asset && strings.EqualFold(other.Participant, r.Participant) && other.Amount.Equal(r.Amount)
			})
		})
	}
	return includes(a, b) && includes(b, a)
}

// sameRows compares two allocations row by row, spelling included.
func sameRows(a, b []settlement.Allocation) bool {
	return slices.EqualFunc(a, b, func(x, y settlement.Allocation) bool {
		return x.Participant == y.Participant && x.Asset == y.Asset && x.Amount.Equal(y.Amount)
	})
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
