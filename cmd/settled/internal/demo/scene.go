package demo

import (
	"maps"

	"github.com/shopspring/decimal"

	"settled/clearnode/clearnodetest"
	"settled/settlement"
)

// Scene is what differs between the generations of node: what is deposited into each
// session, and what each scenario pays.
type Scene struct {
	Protocol    string
	Definition  string // protocol that the sessions' definitions name
	deposits    []deposit
	paid        [scenarioCount]string // in the order of demo.settlingOutcome
	wrongTotal  settlement.Code       // result of an outcome that expects another total
	undisclosed bool                  // the node shows neither balance nor funder, so each outcome must state them
}

type deposit struct {
	player        int
	asset, amount string
}

// SceneFor returns the scene for a node that speaks the given protocol.
func SceneFor(protocol string) Scene {
	if protocol == clearnodetest.Legacy {
		return legacyScene
	}
	scene := commonScene
	scene.Protocol = protocol
	if protocol == clearnodetest.Nitro02 {
		scene.Definition = "NitroRPC/0.2"
	}
	return scene
}

var commonScene = Scene{
	Definition: "NitroRPC/0.4",
	deposits:   []deposit{{0, "usdc", "10"}, {1, "usdc", "5.000001"}, {0, "weth", "0.25"}},
	paid: [scenarioCount]string{
		"bob usdc 15.000001, bob weth 0.25",
		"alice usdc 7.500001, alice weth 0.125, bob usdc 7.5, bob weth 0.125",
		"alice usdc 7, alice weth 0.175, bob usdc 8.000001, bob weth 0.075",
		"alice usdc 10, alice weth 0.25, bob usdc 5.000001",
		"alice usdc 11.250001, alice weth 0.1875, bob usdc 3.75, bob weth 0.0625",
		"alice usdc 5, alice weth 0.125, bob usdc 10.000001, bob weth 0.125",
	},
	wrongTotal: settlement.ExpectationFailed,
}

// A legacy node pays one asset to a participant, and shows neither what is in a session
// nor who funded it.
var legacyScene = Scene{
	Protocol:   clearnodetest.Legacy,
	Definition: "NitroRPC/0.2",
	deposits:   []deposit{{0, "usdc", "15.000001"}},
	paid: [scenarioCount]string{
		"bob usdc 15.000001",
		"alice usdc 7.500001, bob usdc 7.5",
		"alice usdc 10.500001, bob usdc 4.5",
		"alice usdc 15.000001",
		"alice usdc 11.250001, bob usdc 3.75",
		"alice usdc 7.500001, bob usdc 7.5",
	},
	wrongTotal:  settlement.AllocationRejected, // by the node, which alone knows the balance
	undisclosed: true,
}

// Open opens and funds a session at the node, as an app would. The participants are two
// players and a judge, whose signature alone reaches the quorum.
func (s Scene) Open(node *clearnodetest.Node, application string, participants []string, nonce uint64) (settlement.SessionID, error) {
	var rows []clearnodetest.Allocation
	for _, d := range s.deposits {
		amount, err := decimal.NewFromString(d.amount)
		if err != nil {
			return "", err
		}
		rows = append(rows, clearnodetest.Allocation{Participant: participants[d.player], Asset: d.asset, Amount: amount})
	}
	id, err := node.OpenSession(clearnodetest.Definition{
		Application: application, Protocol: s.Definition, Participants: participants, Weights: []int64{0, 0, 100}, Quorum: 100, Challenge: 86400, Nonce: nonce,
	}, rows)
	if err != nil {
		return "", err
	}
	return settlement.ParseSessionID(id)
}

// AddUndisclosed adds to an outcome's data what the node doesn't show.
func (s Scene) AddUndisclosed(data map[string]any, participants []string) {
	if !s.undisclosed {
		return
	}
	first := s.deposits[0]
	if data["expect"] == nil {
		data["expect"] = map[string]any{"totals": []any{map[string]any{"asset": first.asset, "amount": first.amount}}}
	}
	parties := map[string]any{"funder": participants[first.player]}
	if given, ok := data["parties"].(map[string]any); ok {
		maps.Copy(parties, given)
	}
	data["parties"] = parties
}
