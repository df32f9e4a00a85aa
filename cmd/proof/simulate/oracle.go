package simulate

import (
	"fmt"
	"math/big"
	"slices"
	"strings"

	"settled/settlement"
)

// policySet is the configuration of one replica. Replicas may have different sets, as
// they do during a rollout; none may spoil what another has begun.
type policySet struct {
	name   string
	steps  map[settlement.Scenario][]settlement.PolicyStep
	parsed settlement.Policies
}

// The scenarios beside the built-in ones.
const (
	noShow settlement.Scenario = "no_show"
	league settlement.Scenario = "league" // unequal remainders for winners who tie
)

var policySets = []*policySet{
	newPolicySet("first", "0.5", "0"),
	newPolicySet("second", "0.4", "2.5%"),
	newPolicySet("third", "0.6", "3%"),
}

func newPolicySet(name, noShowShare, fee string) *policySet {
	s := &policySet{name: name, parsed: settlement.Policies{}, steps: map[settlement.Scenario][]settlement.PolicyStep{
		settlement.PaymentCompleted: {{To: "provider", Share: "100%"}},
		settlement.GameCompleted:    {{To: "winner", Share: "100%"}},
		settlement.PartialService:   {{To: "provider", Share: "completion"}, {To: "funders", Share: "remaining"}},
		settlement.Cancellation:     {{To: "funders", Share: "100%"}},
		settlement.DisputeResolved:  {{To: "awards", Share: "100%"}},
		noShow:                      {{To: "provider", Share: noShowShare}, {To: "funders", Share: "remaining"}},
		league:                      {{To: judge.String(), Share: "10%"}, {To: "winner", Share: "remaining"}},
	}}
	if fee != "0" {
		s.steps[settlement.GameCompleted] = []settlement.PolicyStep{{To: judge.String(), Share: fee}, {To: "winner", Share: "remaining"}}
		s.steps[settlement.PaymentCompleted] = []settlement.PolicyStep{{To: judge.String(), Share: fee}, {To: "provider", Share: "remaining"}}
	}
	for scenario, steps := range s.steps {
		p, err := settlement.ParsePolicy(scenario, steps)
		if err != nil {
			panic(fmt.Sprintf("policy set %s: %v", name, err)) // every test makes them all
		}
		s.parsed[scenario] = p
	}
	return s
}

// expectedPayouts computes what an outcome has to pay by these policies, independently
// of settled: a row for every participant and asset, in order. Nil: the outcome can't
// be settled with such a session.
func (o *expectedOutcome) expectedPayouts(p *policySet, s snapshot, dialect Dialect) []settlement.Allocation {
	if slices.Contains([]flaw{flawUnreadableSession, flawMalformed, flawMissingRole, flawUnknownScenario, flawPaysStranger, flawMissingFunder}, o.flaw) {
		return nil
	}
	if dialect == Legacy { // the outcome states what the node hides
		session := s.session
		s = snapshot{session: session, version: 1, balance: o.totals, everHeld: []bool{o.totals[0] > 0}, net: session.unitTable()}
		copy(s.net[o.funder], o.totals)
	} else if o.totals != nil && !slices.Equal(o.totals, s.balance) {
		return nil
	}
	if o.version > 0 && o.version != s.version || !o.awardsExhaust(s.balance) {
		return nil
	}
	units := s.session.unitTable()
	for asset, balance := range s.balance {
		quotas := o.quotas(p.steps[o.scenario], s, asset)
		if quotas == nil {
			return nil
		}
		for i, n := range apportion(quotas, balance) {
			units[i][asset] = n
		}
	}
	return s.session.allocation(units, s.everHeld)
}

// awardsExhaust reports whether awards of amounts sum up to the balance.
func (o *expectedOutcome) awardsExhaust(balance []int64) bool {
	if o.scenario != settlement.DisputeResolved || o.awards[0].share != "" {
		return true
	}
	sums := make([]int64, len(balance))
	for _, a := range o.awards {
		sums[a.asset] += a.units
	}
	return slices.Equal(sums, balance)
}

// quotas are the exact shares of an asset's balance, in units, by participant. Nil:
// there is nobody to refund.
func (o *expectedOutcome) quotas(steps []settlement.PolicyStep, s snapshot, asset int) []*big.Rat {
	quotas := make([]*big.Rat, len(s.net))
	for i := range quotas {
		quotas[i] = new(big.Rat)
	}
	add := func(participant int, part *big.Rat) { quotas[participant].Add(quotas[participant], part) }
	balance := new(big.Rat).SetInt64(s.balance[asset])
	left := big.NewRat(1, 1)
	for _, step := range steps {
		share := left
		if step.Share != "remaining" {
			share = o.share(step.Share)
			left = new(big.Rat).Sub(left, share)
		}
		part := new(big.Rat).Mul(balance, share)
		switch step.To {
		case "provider":
			add(o.provider, part)
		case "winner":
			for _, i := range o.winners {
				add(i, new(big.Rat).Quo(part, big.NewRat(int64(len(o.winners)), 1)))
			}
		case "funders":
			deposited := int64(0)
			for i := range s.net {
				deposited += max(s.net[i][asset], 0)
			}
			if part.Sign() == 0 {
				continue
			}
			if deposited == 0 {
				return nil
			}
			for i := range s.net {
				add(i, new(big.Rat).Mul(part, big.NewRat(max(s.net[i][asset], 0), deposited)))
			}
		case "awards":
			for _, a := range o.awards {
				if a.share != "" {
					add(a.to, new(big.Rat).Mul(part, o.share(a.share)))
				} else if a.asset == asset {
					add(a.to, new(big.Rat).SetInt64(a.units))
				}
			}
		default: // the judge's address
			add(len(quotas)-1, part)
		}
	}
	return quotas
}

func (o *expectedOutcome) share(text string) *big.Rat {
	if text == "completion" {
		text = o.completion
	}
	number, percent := strings.CutSuffix(text, "%")
	share, _ := new(big.Rat).SetString(number)
	if percent {
		share.Quo(share, big.NewRat(100, 1))
	}
	return share
}

// apportion rounds quotas to whole units that sum up to the balance, by the largest
// remainder; ties go to the earlier participant.
func apportion(quotas []*big.Rat, balance int64) []int64 {
	units := make([]int64, len(quotas))
	left := balance
	for i, q := range quotas {
		units[i] = new(big.Int).Div(q.Num(), q.Denom()).Int64()
		left -= units[i]
	}
	remainder := func(i int) *big.Rat { // below zero for whoever got a unit more
		return new(big.Rat).Sub(quotas[i], new(big.Rat).SetInt64(units[i]))
	}
	for ; left > 0; left-- {
		best := 0
		for i := range quotas {
			if remainder(i).Cmp(remainder(best)) > 0 {
				best = i
			}
		}
		units[best]++
	}
	return units
}
