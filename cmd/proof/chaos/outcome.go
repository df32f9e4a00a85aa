package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"github.com/nats-io/nats.go"

	"settled/consumer"
	"settled/settlement"
)

// outcome is what was published, and what may become of it. Its payload is no other
// outcome's: by it the messages of an outcome are found again.
type outcome struct {
	source, id string
	scenario   string
	session    settlement.SessionID // empty: it can't be read
	payload    []byte
	header     nats.Header
	paid       string            // by a close of it; empty: it must not close
	codes      []settlement.Code // that it may fail with
}

func (o *outcome) String() string { return fmt.Sprintf("outcome %s of %s", o.id, o.source) }

// draft is an outcome to be written as a message.
type draft struct {
	id       string
	scenario string
	session  settlement.SessionID
	data     map[string]any
	binary   bool
	paid     string
	codes    []settlement.Code
}

const source = "/chaos"

// write makes the message of it, in either of CloudEvents' modes.
func (s pair) write(d draft) (*outcome, error) {
	s.tell(d.data)
	d.data["session_id"] = string(d.session)
	data, err := json.Marshal(d.data)
	if err != nil {
		return nil, err
	}
	o := &outcome{source: source, id: d.id, scenario: d.scenario, session: d.session, header: nats.Header{}, payload: data, paid: d.paid, codes: d.codes}
	if d.binary {
		for name, value := range map[string]string{"ce-specversion": "1.0", "ce-id": d.id, "ce-source": source, "ce-type": "outcome." + d.scenario, "content-type": "application/json"} {
			o.header[name] = []string{value}
		}
		return o, nil
	}
	o.header.Set("Content-Type", "application/cloudevents+json")
	o.payload, err = json.Marshal(map[string]any{
		"specversion": "1.0", "id": d.id, "source": source, "type": "outcome." + d.scenario, "data": json.RawMessage(data),
	})
	return o, err
}

func (o *outcome) message(copyNumber int) *nats.Msg {
	m := nats.NewMsg(consumer.OutcomeSubject("", settlement.Scenario(o.scenario)))
	m.Header = maps.Clone(o.header)
	m.Header.Set("Nats-Msg-Id", fmt.Sprintf("%x#%d", sha256.Sum256(o.payload), copyNumber)) // two outcomes may share an id
	m.Data = o.payload
	return m
}

// scenarios in the order in which they take turns.
var scenarios = []string{"payment_completed", "game_completed", "partial_service", "cancellation", "dispute_resolved", "no_show"}

// data is what an outcome of the scenario says.
func (s pair) data(scenario string) map[string]any {
	switch scenario {
	case "payment_completed":
		return map[string]any{"parties": map[string]any{"provider": strings.ToLower(s.bob)}}
	case "game_completed":
		return map[string]any{"parties": map[string]any{"winner": []string{s.alice, s.bob}}}
	case "partial_service":
		return map[string]any{"parties": map[string]any{"provider": s.bob}, "completion": "0.3"}
	case "dispute_resolved":
		return map[string]any{"awards": []any{map[string]any{"participant": s.alice, "share": "0.75"}, map[string]any{"participant": s.bob, "share": "0.25"}}}
	case "no_show":
		return map[string]any{"parties": map[string]any{"provider": s.bob}}
	default:
		return map[string]any{"reason": "no agreement"}
	}
}

// tell adds what the node doesn't show.
func (s pair) tell(data map[string]any) {
	if !s.scene.tells {
		return
	}
	funding := s.scene.deposits[0]
	if data["expect"] == nil {
		data["expect"] = expecting(funding.asset, funding.amount)
	}
	parties := map[string]any{"funder": s.alice} // who funds all of it there
	if given, ok := data["parties"].(map[string]any); ok {
		maps.Copy(parties, given)
	}
	data["parties"] = parties
}

func expecting(asset, amount string) map[string]any {
	return map[string]any{"totals": []any{map[string]any{"asset": asset, "amount": amount}}}
}
