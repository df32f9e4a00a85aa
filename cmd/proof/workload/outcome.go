package workload

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

// Source is the CloudEvents source of every outcome.
const Source = "/proof"

// Scenarios are the scenarios that pay.
var Scenarios = []string{"payment_completed", "game_completed", "partial_service", "cancellation", "dispute_resolved", "no_show"}

// Outcome is an outcome to be published, and the results that it may have. No two
// outcomes share a payload, so that a message tells its outcome.
type Outcome struct {
	ID, Scenario string
	Session      settlement.SessionID // empty: the payload can't be read
	Pair         Pair
	Payload      []byte            // set by Encode
	Paid         string            // by its close, in the form of terms; empty: it must not close
	Codes        []settlement.Code // with which it may fail

	data   map[string]any
	binary bool
}

func (o *Outcome) String() string { return fmt.Sprintf("outcome %s (%s)", o.ID, o.Scenario) }

// NewOutcome returns an outcome that can close a session of the pair. The reference
// tells apart outcomes with the same id.
func (n *Node) NewOutcome(id, reference, scenario string, p Pair) *Outcome {
	provider := map[string]any{"provider": p.Bob}
	data := map[string]any{}
	switch scenario {
	case "payment_completed":
		data["parties"] = map[string]any{"provider": strings.ToLower(p.Bob)}
	case "game_completed":
		data["parties"] = map[string]any{"winner": []string{p.Alice, p.Bob}}
	case "partial_service":
		data["parties"], data["completion"] = provider, "0.3"
	case "dispute_resolved":
		data["awards"] = []any{map[string]any{"participant": p.Alice, "share": "0.75"}, map[string]any{"participant": p.Bob, "share": "0.25"}}
	case "no_show":
		data["parties"] = provider
	default:
		data["reason"] = "no agreement"
	}
	o := n.outcome(id, scenario, p, data)
	data["reference"], o.Paid = reference, n.terms.paid[scenario]
	return o
}

func (n *Node) outcome(id, scenario string, p Pair, data map[string]any) *Outcome {
	data["reference"] = id
	if n.terms.disclose {
		funding := n.terms.deposits[0]
		data["expect"] = totals(funding.asset, funding.amount)
		parties := map[string]any{"funder": p.Alice}
		if given, ok := data["parties"].(map[string]any); ok {
			maps.Copy(parties, given)
		}
		data["parties"] = parties
	}
	return &Outcome{ID: id, Scenario: scenario, Pair: p, data: data}
}

func totals(asset, amount string) map[string]any {
	return map[string]any{"totals": []any{map[string]any{"asset": asset, "amount": amount}}}
}

// NewFailure returns an outcome that must fail with the code.
func (n *Node) NewFailure(code settlement.Code, id, scenario string, p Pair) *Outcome {
	var o *Outcome
	switch code {
	case settlement.NotAParticipant:
		o = n.outcome(id, "payment_completed", p, map[string]any{"parties": map[string]any{"provider": "0x00000000000000000000000000000000000000AA"}})
	case settlement.UnknownScenario:
		o = n.outcome(id, "lost_in_space", p, map[string]any{})
	case settlement.InvalidOutcome:
		o = n.outcome(id, "dispute_resolved", p, map[string]any{"awards": []any{map[string]any{"participant": p.Alice, "share": "1.2"}}})
	case settlement.ExpectationFailed:
		o = n.NewOutcome(id, id, scenario, p)
		o.data["expect"], o.Paid = totals("usdc", "99"), ""
		code = n.terms.wrongTotal
	default: // the session decides: SessionNotFound, OutcomeConflict
		o = n.NewOutcome(id, id, scenario, p)
		o.Paid = ""
	}
	o.Codes = []settlement.Code{code}
	return o
}

// NewGarbage returns an outcome whose payload is no event.
func NewGarbage(id, scenario string) *Outcome {
	return &Outcome{ID: id, Scenario: scenario, Payload: []byte("garbage " + id), Codes: []settlement.Code{settlement.InvalidOutcome}, binary: true}
}

// Encode sets the payload, in the binary or the structured mode of CloudEvents.
func (o *Outcome) Encode(session settlement.SessionID, binary bool) *Outcome {
	o.Session, o.binary = session, binary
	o.data["session_id"] = string(session)
	var event any = o.data
	if !binary {
		event = map[string]any{"specversion": "1.0", "id": o.ID, "source": Source, "type": "outcome." + o.Scenario, "data": o.data}
	}
	o.Payload, _ = json.Marshal(event) // it consists of maps and strings
	o.data = nil
	return o
}

// Message returns a message with the outcome. Each copy has its own message id, or the
// server would drop it as a duplicate.
func (o *Outcome) Message(copyNumber int) *nats.Msg {
	m := nats.NewMsg(consumer.OutcomeSubject("", settlement.Scenario(o.Scenario)))
	m.Data = o.Payload
	m.Header.Set(nats.MsgIdHdr, fmt.Sprintf("%x#%d", sha256.Sum256(o.Payload), copyNumber)) // two outcomes may share an id
	if !o.binary {
		m.Header.Set("Content-Type", "application/cloudevents+json")
		return m
	}
	if o.Session != "" {
		for name, value := range map[string]string{"ce-specversion": "1.0", "ce-id": o.ID, "ce-source": Source, "ce-type": "outcome." + o.Scenario, "content-type": "application/json"} {
			m.Header[name] = []string{value}
		}
	}
	return m
}
