package workload

import (
	"settled/clearnode/clearnodetest"
	"settled/settlement"
)

// terms are what depends on the protocol: what every session holds and what each
// scenario pays out of it. The amounts were computed by hand.
type terms struct {
	definition string // the protocol in the session's definition
	deposits   []deposit
	paid       map[string]string // by scenario, such as "alice usdc 7, bob usdc 8.000001", without zeros
	disclose   bool              // outcomes must tell the deposits and the funder, which the node doesn't show
	wrongTotal settlement.Code   // of an outcome that expects another total
}

type deposit struct{ who, asset, amount string }

func termsOf(protocol string) terms {
	if protocol == clearnodetest.Legacy {
		return legacyTerms
	}
	t := commonTerms
	if protocol == clearnodetest.Nitro02 {
		t.definition = "NitroRPC/0.2"
	}
	return t
}

var commonTerms = terms{
	definition: "NitroRPC/0.4",
	deposits:   []deposit{{"alice", "usdc", "10"}, {"bob", "usdc", "5.000001"}, {"alice", "weth", "0.25"}},
	paid: map[string]string{
		"payment_completed": "bob usdc 15.000001, bob weth 0.25",
		"game_completed":    "alice usdc 7.500001, alice weth 0.125, bob usdc 7.5, bob weth 0.125",
		"partial_service":   "alice usdc 7, alice weth 0.175, bob usdc 8.000001, bob weth 0.075",
		"cancellation":      "alice usdc 10, alice weth 0.25, bob usdc 5.000001",
		"dispute_resolved":  "alice usdc 11.250001, alice weth 0.1875, bob usdc 3.75, bob weth 0.0625",
		"no_show":           "alice usdc 5, alice weth 0.125, bob usdc 10.000001, bob weth 0.125",
	},
	wrongTotal: settlement.ExpectationFailed,
}

// A legacy node pays only one asset to a participant.
var legacyTerms = terms{
	definition: "NitroRPC/0.2",
	deposits:   []deposit{{"alice", "usdc", "15.000001"}},
	paid: map[string]string{
		"payment_completed": "bob usdc 15.000001",
		"game_completed":    "alice usdc 7.500001, bob usdc 7.5",
		"partial_service":   "alice usdc 10.500001, bob usdc 4.5",
		"cancellation":      "alice usdc 15.000001",
		"dispute_resolved":  "alice usdc 11.250001, bob usdc 3.75",
		"no_show":           "alice usdc 7.500001, bob usdc 7.5",
	},
	disclose: true, wrongTotal: settlement.AllocationRejected,
}
