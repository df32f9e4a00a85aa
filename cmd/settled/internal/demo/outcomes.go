package demo

import (
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/nats-io/nats.go"

	"settled/cmd/settled/internal/terminal"
	"settled/consumer"
	"settled/settlement"
)

// outcome is one outcome of the demonstration and its expected result.
type outcome struct {
	what      string
	scenario  string
	id        string
	session   settlement.SessionID
	data      map[string]any
	garbage   string // published as it is instead of an event
	binary    bool   // in CloudEvents' binary mode
	code      settlement.Code
	paid      string   // "alice usdc amount, …" of what isn't 0
	duplicate bool     // leaves no entry of its own
	after     *outcome // published once that one has its result
}

// prepareOutcomes opens the sessions and lists the outcomes.
func (d *demo) prepareOutcomes(judge *ecdsa.PrivateKey) error {
	// Alice has the smaller address: a nitronode doesn't keep the order of a session's
	// participants, and settled orders them by address there, so that she gets the odd unit
	// of a tie on every node.
	for range 2 {
		key, err := crypto.GenerateKey()
		if err != nil {
			return err
		}
		d.people = append(d.people, crypto.PubkeyToAddress(key.PublicKey).Hex())
	}
	slices.SortFunc(d.people, func(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) })
	d.people = append(d.people, crypto.PubkeyToAddress(judge.PublicKey).Hex())
	for i := range d.Sessions {
		o := d.settlingOutcome(i % scenarioCount)
		o.paid = d.scene.paid[i%scenarioCount]
		d.outcomes = append(d.outcomes, o)
	}
	failing := d.failingOutcomes()
	for i, o := range slices.Concat(d.outcomes, failing) {
		if o.session != "" || o.garbage != "" {
			continue
		}
		var err error
		if o.session, err = d.openSession(); err != nil {
			return fmt.Errorf("session %d: %w", i+1, err)
		}
	}
	first := d.outcomes[0]
	duplicate := *first
	duplicate.what, duplicate.duplicate, duplicate.after = "the same outcome once more", true, first
	other := outcome{after: first, what: "another outcome, session settled", scenario: "cancellation", session: first.session, data: map[string]any{}, code: settlement.OutcomeConflict}
	d.outcomes = slices.Concat(d.outcomes, []*outcome{&duplicate, &other}, failing)
	for i, o := range d.outcomes {
		o.id = fmt.Sprintf("demo-%d", i+1)
	}
	duplicate.id = first.id
	return nil
}

// scenarioCount is how many outcomes settlingOutcome knows.
const scenarioCount = 6

// settlingOutcome returns an outcome that settles its session.
func (d *demo) settlingOutcome(i int) *outcome {
	alice, bob := d.people[0], d.people[1]
	switch i {
	case 0:
		return &outcome{what: "all to the provider", scenario: "payment_completed",
			data: map[string]any{"parties": map[string]any{"provider": strings.ToLower(bob)}, "reference": "invoice 17"}}
	case 1:
		return &outcome{what: "a tie, and an odd unit", scenario: "game_completed", binary: true,
			data: map[string]any{"parties": map[string]any{"winner": []string{alice, bob}}}}
	case 2:
		return &outcome{what: "30 % delivered by bob", scenario: "partial_service",
			data: map[string]any{"parties": map[string]any{"provider": bob}, "completion": "0.3"}}
	case 3:
		return &outcome{what: "back to the funders", scenario: "cancellation", data: map[string]any{"reason": "no agreement"}}
	case 4:
		return &outcome{what: "as the judge ruled", scenario: "dispute_resolved",
			data: map[string]any{"awards": []any{map[string]any{"participant": alice, "share": "0.75"}, map[string]any{"participant": bob, "share": "0.25"}}}}
	default:
		return &outcome{what: "a scenario from configuration", scenario: "no_show",
			data: map[string]any{"parties": map[string]any{"provider": bob}}}
	}
}

// failingOutcomes returns outcomes that fail in the common ways.
func (d *demo) failingOutcomes() []*outcome {
	stranger := "0x00000000000000000000000000000000000000AA"
	alice := d.people[0]
	return []*outcome{
		{what: "no such session", scenario: "cancellation", data: map[string]any{}, code: settlement.SessionNotFound,
			session: settlement.SessionID("0x" + strings.Repeat("ab", 32))},
		{what: "garbage", scenario: "payment_completed", garbage: "this is not an event", code: settlement.InvalidOutcome},
		{what: "the provider is a stranger", scenario: "payment_completed", data: map[string]any{"parties": map[string]any{"provider": stranger}}, code: settlement.NotAParticipant},
		{what: "a wrong expectation", scenario: "cancellation", data: map[string]any{"expect": map[string]any{"totals": []any{map[string]any{"asset": "usdc", "amount": "99"}}}}, code: d.scene.wrongTotal},
		{what: "a share above one", scenario: "dispute_resolved", data: map[string]any{"awards": []any{map[string]any{"participant": alice, "share": "1.2"}}}, code: settlement.InvalidOutcome},
		{what: "a scenario without a policy", scenario: "lost_in_space", data: map[string]any{}, code: settlement.UnknownScenario},
	}
}

func (d *demo) openSession() (settlement.SessionID, error) {
	d.nonce++
	return d.scene.Open(d.node, "demo", d.people, d.nonce)
}

// publish publishes, as their publishers would, the outcomes that come after the given one;
// nil: those that wait for none.
func (d *demo) publish(ctx context.Context, after *outcome) error {
	for _, o := range d.outcomes {
		if o.after != after {
			continue
		}
		if o.garbage == "" {
			d.scene.AddUndisclosed(o.data, d.people)
		}
		msg, err := o.message(d.Config.NATSPrefix)
		if err != nil {
			return err
		}
		ack, err := d.service.NATS.JS.PublishMsg(ctx, msg)
		if err != nil {
			return fmt.Errorf("publish %s: %w", o.what, err)
		}
		d.bySeq[ack.Sequence] = o
	}
	return nil
}

func (o *outcome) message(prefix string) (*nats.Msg, error) {
	if o.garbage != "" {
		return &nats.Msg{Subject: consumer.OutcomeSubject(prefix, settlement.Scenario(o.scenario)), Data: []byte(o.garbage)}, nil
	}
	o.data["session_id"] = string(o.session)
	return Message(prefix, o.scenario, o.id, o.data, o.binary)
}

// Message returns an outcome as a CloudEvent in structured mode, or in binary mode.
func Message(prefix, scenario, id string, outcome map[string]any, binary bool) (*nats.Msg, error) {
	msg := nats.NewMsg(consumer.OutcomeSubject(prefix, settlement.Scenario(scenario)))
	data, err := json.Marshal(outcome)
	if err != nil {
		return nil, err
	}
	if binary {
		msg.Header = nats.Header{"ce-specversion": {"1.0"}, "ce-id": {id}, "ce-source": {"/demo"}, "ce-type": {"outcome." + scenario}, "content-type": {"application/json"}}
		msg.Data = data
		return msg, nil
	}
	msg.Header.Set("Content-Type", "application/cloudevents+json")
	msg.Data, err = json.Marshal(map[string]any{
		"specversion": "1.0", "id": id, "source": "/demo", "type": "outcome." + scenario, "time": time.Now().UTC().Format(time.RFC3339Nano), "data": json.RawMessage(data),
	})
	return msg, err
}

// Result is one line of the demonstration.
type Result struct {
	Scenario    string                  `json:"scenario"`
	SessionID   string                  `json:"session_id"`
	State       string                  `json:"state"`
	Code        string                  `json:"code"`
	Allocations []settlement.Allocation `json:"allocations"`
	Expected    bool                    `json:"expected"`
}

// printResult prints how an outcome ended, and reports whether that is the expected result.
func (d *demo) printResult(o *outcome, e settlement.Entry) bool {
	r := Result{Scenario: o.scenario, SessionID: e.Session.Token(), State: string(e.State), Allocations: append([]settlement.Allocation{}, e.Allocation...)}
	var payments []string // with names instead of addresses, and without what is 0
	for _, a := range e.Allocation {
		for i, name := range []string{"alice", "bob"} {
			if strings.EqualFold(a.Participant, d.people[i]) && !a.Amount.IsZero() {
				payments = append(payments, fmt.Sprintf("%s %s %s", name, a.Asset, a.Amount))
			}
		}
	}
	text := strings.Join(payments, ", ")
	if e.Error != nil {
		r.Code = string(e.Error.Code)
		text = r.Code + ": " + e.Error.Message
	}
	r.Expected = r.Code == string(o.code) && (o.code != "" || e.State == settlement.EntryClosed && text == o.paid)
	if d.JSON() {
		_ = d.PrintJSON(r)
		return r.Expected
	}
	mark := "ok"
	if !r.Expected {
		mark = "NO"
	}
	_ = d.PrintLine(terminal.Printable(fmt.Sprintf(rowFormat, mark, r.Scenario, o.what, terminal.Abbreviate(r.SessionID), r.State, text)))
	return r.Expected
}
