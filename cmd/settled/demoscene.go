package main

import (
	"maps"

	"settled/clearnode/clearnodetest"
	"settled/settlement"
)

// demoScene is what the demonstration makes different for one generation of node:
// what is put into each session, and what each scenario pays out of it.
type demoScene struct {
	protocol   string
	definition string // the protocol that the sessions' definitions name
	deposits   []demoDeposit
	paid       [demoScenarios]string // by scenario, in the order of demo.scenario
	wrongTotal settlement.Code       // what becomes of an outcome that expects another total
	tells      bool                  // the outcome must say what is in the session, and who funded it
}

type demoDeposit struct {
	player        int
	asset, amount string
}

func sceneOf(protocol string) demoScene {
	if protocol == clearnodetest.Legacy {
		return legacyScene
	}
	scene := commonScene
	scene.protocol = protocol
	if protocol == clearnodetest.Nitro02 {
		scene.definition = "NitroRPC/0.2"
	}
	return scene
}

var commonScene = demoScene{
	definition: "NitroRPC/0.4",
	deposits:   []demoDeposit{{0, "usdc", "10"}, {1, "usdc", "5.000001"}, {0, "weth", "0.25"}},
	paid: [demoScenarios]string{
		"bob usdc 15.000001, bob weth 0.25",
		"alice usdc 7.500001, alice weth 0.125, bob usdc 7.5, bob weth 0.125",
		"alice usdc 7, alice weth 0.175, bob usdc 8.000001, bob weth 0.075",
		"alice usdc 10, alice weth 0.25, bob usdc 5.000001",
		"alice usdc 11.250001, alice weth 0.1875, bob usdc 3.75, bob weth 0.0625",
		"alice usdc 5, alice weth 0.125, bob usdc 10.000001, bob weth 0.125",
	},
	wrongTotal: settlement.ExpectationFailed,
}

// legacyScene: a legacy node pays one asset to a participant, and shows neither
// what is in a session nor who put it there.
var legacyScene = demoScene{
	protocol:   clearnodetest.Legacy,
	definition: "NitroRPC/0.2",
	deposits:   []demoDeposit{{0, "usdc", "15.000001"}},
	paid: [demoScenarios]string{
		"bob usdc 15.000001",
		"alice usdc 7.500001, bob usdc 7.5",
		"alice usdc 10.500001, bob usdc 4.5",
		"alice usdc 15.000001",
		"alice usdc 11.250001, bob usdc 3.75",
		"alice usdc 7.500001, bob usdc 7.5",
	},
	wrongTotal: settlement.AllocationRejected, // by the node: only it knows
	tells:      true,
}

// tell adds to an outcome's data what the node doesn't show.
func (d *demo) tell(data map[string]any) {
	if !d.scene.tells {
		return
	}
	if data["expect"] == nil {
		data["expect"] = map[string]any{"totals": []any{map[string]any{"asset": d.scene.deposits[0].asset, "amount": d.scene.deposits[0].amount}}}
	}
	parties := map[string]any{"funder": addressOf(d.players[d.scene.deposits[0].player])}
	if given, ok := data["parties"].(map[string]any); ok {
		maps.Copy(parties, given)
	}
	data["parties"] = parties
}

// toldText is the same for somebody who publishes by hand.
func (s demoScene) toldText() string {
	if !s.tells {
		return ""
	}
	return " --total " + s.deposits[0].asset + "=" + s.deposits[0].amount
}
