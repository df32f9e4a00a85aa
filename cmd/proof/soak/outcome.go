package main

import (
	"encoding/json"
	"fmt"

	"github.com/nats-io/nats.go"

	"settled/consumer"
	"settled/settlement"
)

// outcome is what is published, and the one result that it must have.
type outcome struct {
	id       string
	scenario string
	session  settlement.SessionID // empty: it can't be read
	data     map[string]any       // nil: garbage, or published for good
	pair     pair
	paid     string          // by its close; empty: it must fail
	code     settlement.Code // that it must fail with

	again int      // how often it is published beside the first time, at once
	after *outcome // published once this one has its result; itself: once more
}

// What is put into every session, and what each scenario pays of it, worked out by
// hand. The odd unit of a tie goes to alice, who comes first.
const (
	fromAlice, fromBob = "10", "5.000001"
	noShow             = "no_show"
)

var paid = map[string]string{
	"payment_completed": "bob 15.000001",
	"game_completed":    "alice 7.500001, bob 7.5",
	"partial_service":   "alice 7, bob 8.000001",
	"cancellation":      "alice 10, bob 5.000001",
	"dispute_resolved":  "alice 11.250001, bob 3.75",
	noShow:              "alice 5, bob 10.000001",
}

// scenarios in the order in which they take turns.
var scenarios = []string{"payment_completed", "game_completed", "partial_service", "cancellation", "dispute_resolved", noShow}

// says is the data of an outcome of the scenario.
func says(scenario string, p pair) map[string]any {
	switch scenario {
	case "game_completed":
		return map[string]any{"parties": map[string]any{"winner": []string{p.alice, p.bob}}}
	case "partial_service":
		return map[string]any{"parties": map[string]any{"provider": p.bob}, "completion": "0.3"}
	case "dispute_resolved":
		return map[string]any{"awards": []any{map[string]any{"participant": p.alice, "share": "0.75"}, map[string]any{"participant": p.bob, "share": "0.25"}}}
	case "cancellation":
		return map[string]any{"reason": "no agreement"}
	default:
		return map[string]any{"parties": map[string]any{"provider": p.bob}}
	}
}

const source = "/soak"

// message is the outcome as a CloudEvent. Each copy has a message id of its own, so
// that the server takes it for another message.
func (o *outcome) message(copyNumber int) *nats.Msg {
	m := nats.NewMsg(consumer.OutcomeSubject("", settlement.Scenario(o.scenario)))
	m.Header.Set(nats.MsgIdHdr, fmt.Sprintf("%s#%d", o.id, copyNumber))
	if o.data == nil {
		m.Data = []byte("garbage " + o.id)
		return m
	}
	o.data["session_id"] = string(o.session)
	m.Header.Set("Content-Type", "application/cloudevents+json")
	m.Data, _ = json.Marshal(map[string]any{ // strings and maps: it can't fail
		"specversion": "1.0", "id": o.id, "source": source, "type": "outcome." + o.scenario, "data": o.data,
	})
	return m
}
