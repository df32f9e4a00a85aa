package simulate

import (
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"settled/settlement"
)

func bigInt(n int64) *big.Int { return big.NewInt(n) }
func utoa(n uint64) string    { return strconv.FormatUint(n, 10) }

// due is what an outcome has to pay by these policies, worked out by other means
// than the product's: every participant and asset, in order. Nil: nothing, for the
// outcome can't be settled with a session that looks like this.
func (d *deal) due(p *policySet, s sight, dialect Dialect) []settlement.Allocation {
	if d.session == nil || slices.Contains([]flaw{unreadable, malformed, lacking, unheardOf, alien, unstated}, d.flaw) {
		return nil
	}
	s = d.stating(s, dialect)
	if !d.expects(s, dialect) {
		return nil
	}
	units := make([][]int64, len(s.net))
	for i := range units {
		units[i] = make([]int64, len(s.balance))
	}
	for asset, balance := range s.balance {
		quotas := d.quotas(p.steps[d.scenario], s, asset)
		if quotas == nil {
			return nil
		}
		for i, n := range apportion(quotas, balance) {
			units[i][asset] = n
		}
	}
	return s.rows(units)
}

// rows lists every participant and asset that was in the session once.
func (s sight) rows(units [][]int64) (rows []settlement.Allocation) {
	for i, p := range s.session.participants {
		for asset := range units[i] {
			if !s.held[asset] {
				continue
			}
			rows = append(rows, settlement.Allocation{Participant: p.Spelling, Asset: assets[asset].name, Amount: amountOf(units[i][asset], asset)})
		}
	}
	return rows
}

// stating puts what the outcome says in the place of what a legacy node hides.
func (d *deal) stating(s sight, dialect Dialect) sight {
	if dialect != Legacy {
		return s
	}
	v := sight{session: s.session, version: 1, balance: d.totals, held: []bool{d.totals[0] > 0}}
	for i := range s.net {
		v.net = append(v.net, make([]int64, len(d.totals)))
		for asset, units := range d.totals {
			if i == d.funder {
				v.net[i][asset] = units
			}
		}
	}
	return v
}

func (d *deal) expects(s sight, dialect Dialect) bool {
	if d.version > 0 && d.version != s.version {
		return false
	}
	if d.totals != nil && dialect != Legacy && !slices.Equal(d.totals, s.balance) {
		return false
	}
	if d.scenario != settlement.DisputeResolved || d.awards[0].share != "" {
		return true
	}
	sums := make([]int64, len(s.balance))
	for _, a := range d.awards {
		sums[a.asset] += a.units
	}
	return slices.Equal(sums, s.balance)
}

// quotas are the exact parts of an asset's balance, in units, by participant. Nil:
// there is nobody to give back to.
func (d *deal) quotas(steps []settlement.PolicyStep, s sight, asset int) []*big.Rat {
	quotas := make([]*big.Rat, len(s.net))
	for i := range quotas {
		quotas[i] = new(big.Rat)
	}
	balance := new(big.Rat).SetInt64(s.balance[asset])
	left := big.NewRat(1, 1)
	for _, step := range steps {
		share := left
		if step.Share != "remaining" {
			share = d.share(step.Share)
			left = new(big.Rat).Sub(left, share)
		}
		if !d.give(step.To, new(big.Rat).Mul(balance, share), share, s, asset, quotas) {
			return nil
		}
	}
	return quotas
}

func (d *deal) share(text string) *big.Rat {
	if text == "completion" {
		text = d.completion
	}
	number, percent := strings.CutSuffix(text, "%")
	share, _ := new(big.Rat).SetString(number)
	if percent {
		share.Quo(share, big.NewRat(100, 1))
	}
	return share
}

// give divides one step's part.
func (d *deal) give(to string, part, share *big.Rat, s sight, asset int, quotas []*big.Rat) bool {
	switch to {
	case "provider":
		quotas[d.provider].Add(quotas[d.provider], part)
	case "winner":
		for _, i := range d.winners {
			quotas[i].Add(quotas[i], new(big.Rat).Quo(part, big.NewRat(int64(len(d.winners)), 1)))
		}
	case "funders":
		return share.Sign() == 0 || s.balance[asset] == 0 || giveBack(part, s, asset, quotas)
	case "awards":
		for _, a := range d.awards {
			if a.share == "" && a.asset == asset {
				quotas[a.to].Add(quotas[a.to], new(big.Rat).SetInt64(a.units))
			} else if a.share != "" {
				quotas[a.to].Add(quotas[a.to], new(big.Rat).Mul(part, d.share(a.share)))
			}
		}
	default: // the judge's address
		judge := len(quotas) - 1
		quotas[judge].Add(quotas[judge], part)
	}
	return true
}

func giveBack(part *big.Rat, s sight, asset int, quotas []*big.Rat) bool {
	all := int64(0)
	for i := range s.net {
		all += max(s.net[i][asset], 0)
	}
	if all == 0 {
		return false
	}
	for i := range s.net {
		quotas[i].Add(quotas[i], new(big.Rat).Mul(part, big.NewRat(max(s.net[i][asset], 0), all)))
	}
	return true
}

// apportion rounds quotas to whole units that sum to the balance: everybody gets
// the whole part, and those with the largest remainders one more, the earlier first.
func apportion(quotas []*big.Rat, balance int64) []int64 {
	units := make([]int64, len(quotas))
	left := balance
	for i, q := range quotas {
		units[i] = new(big.Int).Div(q.Num(), q.Denom()).Int64()
		left -= units[i]
	}
	for ; left > 0; left-- {
		best := -1
		for i, q := range quotas {
			if best < 0 || remainder(q, units[i]).Cmp(remainder(quotas[best], units[best])) > 0 {
				best = i
			}
		}
		units[best]++
	}
	return units
}

// remainder is what is missing of a quota; below zero for who got one more.
func remainder(q *big.Rat, units int64) *big.Rat {
	return new(big.Rat).Sub(q, new(big.Rat).SetInt64(units))
}

// policySet is what one replica is configured with. The sets differ, as they do
// while a new configuration is rolled out: none of them may make what another one
// began go wrong.
type policySet struct {
	name   string
	steps  map[settlement.Scenario][]settlement.PolicyStep
	parsed settlement.Policies
}

// The scenarios beside the built-in ones.
const (
	noShow settlement.Scenario = "no_show"
	league settlement.Scenario = "league" // pays a tie of winners unequal remainders
)

// policySets are for sessions whose judge is this address.
var policySets = []*policySet{
	newPolicySet("first", "0.5", "0"),
	newPolicySet("second", "0.4", "2.5%"),
	newPolicySet("third", "0.6", "3%"),
}

func newPolicySet(name, forNoShow, fee string) *policySet {
	s := &policySet{name: name, steps: map[settlement.Scenario][]settlement.PolicyStep{
		settlement.PaymentCompleted: {{To: "provider", Share: "100%"}},
		settlement.GameCompleted:    {{To: "winner", Share: "100%"}},
		settlement.PartialService:   {{To: "provider", Share: "completion"}, {To: "funders", Share: "remaining"}},
		settlement.Cancellation:     {{To: "funders", Share: "100%"}},
		settlement.DisputeResolved:  {{To: "awards", Share: "100%"}},
		noShow:                      {{To: "provider", Share: forNoShow}, {To: "funders", Share: "remaining"}},
		league:                      {{To: judgeAddress.String(), Share: "10%"}, {To: "winner", Share: "remaining"}},
	}}
	if fee != "0" {
		s.steps[settlement.GameCompleted] = []settlement.PolicyStep{{To: judgeAddress.String(), Share: fee}, {To: "winner", Share: "remaining"}}
		s.steps[settlement.PaymentCompleted] = []settlement.PolicyStep{{To: judgeAddress.String(), Share: fee}, {To: "provider", Share: "remaining"}}
	}
	s.parsed = settlement.Policies{}
	for scenario, steps := range s.steps {
		p, err := settlement.ParsePolicy(scenario, steps)
		if err != nil {
			panic(fmt.Sprintf("policy set %s: %v", name, err)) // a test makes them all
		}
		s.parsed[scenario] = p
	}
	return s
}
