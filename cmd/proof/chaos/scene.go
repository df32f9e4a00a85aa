package main

import (
	"settled/clearnode/clearnodetest"
	"settled/settlement"
)

// scene is what one generation of node makes different: what is put into every
// session, and what each scenario must pay out of it. Amounts are worked out by
// hand, not by the code under test.
type scene struct {
	definition string // the protocol that sessions name
	deposits   []deposit
	paid       map[string]string // by scenario: "alice usdc 7, bob usdc 8.000001", without zeros
	tells      bool              // the outcome must say what is in the session and who funded it
	wrongTotal settlement.Code   // of an outcome that expects another total
}

type deposit struct{ who, asset, amount string }

func sceneOf(protocol string) scene {
	if protocol == clearnodetest.Legacy {
		return legacyScene
	}
	s := commonScene
	if protocol == clearnodetest.Nitro02 {
		s.definition = "NitroRPC/0.2"
	}
	return s
}

var commonScene = scene{
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

// legacyScene: a legacy node pays one asset to a participant, and shows neither
// what is in a session nor who put it there.
var legacyScene = scene{
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
	tells: true, wrongTotal: settlement.AllocationRejected,
}
