package simulate

import (
	"fmt"

	"settled/settlement"
)

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
