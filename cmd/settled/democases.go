package main

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
	"github.com/shopspring/decimal"

	"settled/clearnode/clearnodetest"
	"settled/cmd/settled/internal/terminal"
	"settled/consumer"
	"settled/settlement"
)

// demoCase is one outcome of the demonstration and how it should end.
type demoCase struct {
	what     string
	scenario string
	id       string
	session  settlement.SessionID
	data     map[string]any
	garbage  string // published as it is instead of an event
	binary   bool   // in CloudEvents' binary mode
	code     settlement.Code
	paid     string    // "alice usdc amount, …" of what isn't 0
	silent   bool      // leaves no entry of its own
	after    *demoCase // published once that one has its result
}

// demoPeople are the two players' names; the third participant is the judge,
// whose key settled holds.
var demoPeople = []string{"alice", "bob"}

// prepare opens the sessions and lists the outcomes.
func (d *demo) prepare(judge *ecdsa.PrivateKey) error {
	if err := d.people(); err != nil {
		return err
	}
	d.judge = judge
	d.bySeq = map[uint64]*demoCase{}
	for i := range d.sessions {
		c := d.good(i % demoScenarios)
		if err := d.add(c); err != nil {
			return err
		}
	}
	first := d.cases[0]
	again := *first
	again.what, again.silent, again.after = "the same outcome once more", true, first
	other := demoCase{after: first, what: "another outcome, session settled", scenario: "cancellation", session: first.session, data: map[string]any{}, code: settlement.OutcomeConflict}
	d.cases = append(d.cases, &again, &other)
	for _, c := range d.bad() {
		if err := d.add(c); err != nil {
			return err
		}
	}
	for i, c := range d.cases {
		if c.id == "" {
			c.id = fmt.Sprintf("demo-%d", i+1)
		}
	}
	again.id = first.id
	return nil
}

// people makes alice's and bob's keys. Alice's address is the smaller: a nitronode
// doesn't keep the order of a session's participants, and settled takes them by
// address there, so that she gets the odd unit of a tie on every node.
func (d *demo) people() error {
	for range demoPeople {
		key, err := crypto.GenerateKey()
		if err != nil {
			return err
		}
		d.players = append(d.players, key)
	}
	slices.SortFunc(d.players, func(a, b *ecdsa.PrivateKey) int {
		return crypto.PubkeyToAddress(a.PublicKey).Cmp(crypto.PubkeyToAddress(b.PublicKey))
	})
	return nil
}

// demoScenarios is how many cases good knows.
const demoScenarios = 6

// good is an outcome that settles its session.
func (d *demo) good(i int) *demoCase {
	c := d.scenario(i)
	c.paid = d.scene.paid[i]
	return c
}

func (d *demo) scenario(i int) *demoCase {
	alice, bob := addressOf(d.players[0]), addressOf(d.players[1])
	switch i {
	case 0:
		return &demoCase{what: "all to the provider", scenario: "payment_completed",
			data: map[string]any{"parties": map[string]any{"provider": strings.ToLower(bob)}, "reference": "invoice 17"}}
	case 1:
		return &demoCase{what: "a tie, and an odd unit", scenario: "game_completed", binary: true,
			data: map[string]any{"parties": map[string]any{"winner": []string{alice, bob}}}}
	case 2:
		return &demoCase{what: "30 % delivered by bob", scenario: "partial_service",
			data: map[string]any{"parties": map[string]any{"provider": bob}, "completion": "0.3"}}
	case 3:
		return &demoCase{what: "back to the funders", scenario: "cancellation", data: map[string]any{"reason": "no agreement"}}
	case 4:
		return &demoCase{what: "as the judge ruled", scenario: "dispute_resolved",
			data: map[string]any{"awards": []any{map[string]any{"participant": alice, "share": "0.75"}, map[string]any{"participant": bob, "share": "0.25"}}}}
	default:
		return &demoCase{what: "a scenario from configuration", scenario: "no_show",
			data: map[string]any{"parties": map[string]any{"provider": bob}}}
	}
}

// bad are the common ways to fail.
func (d *demo) bad() []*demoCase {
	stranger := "0x00000000000000000000000000000000000000AA"
	alice := addressOf(d.players[0])
	return []*demoCase{
		{what: "no such session", scenario: "cancellation", data: map[string]any{}, code: settlement.SessionNotFound,
			session: settlement.SessionID("0x" + strings.Repeat("ab", 32))},
		{what: "garbage", scenario: "payment_completed", garbage: "this is not an event", code: settlement.InvalidOutcome},
		{what: "the provider is a stranger", scenario: "payment_completed", data: map[string]any{"parties": map[string]any{"provider": stranger}}, code: settlement.NotAParticipant},
		{what: "a wrong expectation", scenario: "cancellation", data: map[string]any{"expect": map[string]any{"totals": []any{map[string]any{"asset": "usdc", "amount": "99"}}}}, code: d.scene.wrongTotal},
		{what: "a share above one", scenario: "dispute_resolved", data: map[string]any{"awards": []any{map[string]any{"participant": alice, "share": "1.2"}}}, code: settlement.InvalidOutcome},
		{what: "a scenario without a policy", scenario: "lost_in_space", data: map[string]any{}, code: settlement.UnknownScenario},
	}
}

// add opens a session for the case, unless it has one or needs none.
func (d *demo) add(c *demoCase) error {
	d.cases = append(d.cases, c)
	if c.session != "" || c.garbage != "" {
		return nil
	}
	id, err := d.open()
	c.session = id
	return err
}

// open opens and funds an app session at the node, as an app would.
func (d *demo) open() (settlement.SessionID, error) {
	d.nonce++
	participants := []string{addressOf(d.players[0]), addressOf(d.players[1]), addressOf(d.judge)}
	var rows []clearnodetest.Allocation
	for _, p := range d.scene.deposits {
		amount, err := decimal.NewFromString(p.amount)
		if err != nil {
			return "", err
		}
		rows = append(rows, clearnodetest.Allocation{Participant: participants[p.player], Asset: p.asset, Amount: amount})
	}
	id, err := d.node.OpenSession(clearnodetest.Definition{
		Application: "demo", Protocol: d.scene.definition, Participants: participants, Weights: []int64{0, 0, 100}, Quorum: 100, Challenge: 86400, Nonce: d.nonce,
	}, rows)
	if err != nil {
		return "", err
	}
	return settlement.ParseSessionID(id)
}

// publish sends the messages of the cases that come after another one's result,
// or of those that wait for none, as their publishers would.
func (d *demo) publish(ctx context.Context, after *demoCase) error {
	for _, c := range d.cases {
		if c.after != after {
			continue
		}
		if c.garbage == "" {
			d.tell(c.data)
		}
		msg, err := c.message(d.cfg.NATSPrefix)
		if err != nil {
			return err
		}
		ack, err := d.service.Nats.JS.PublishMsg(ctx, msg)
		if err != nil {
			return fmt.Errorf("publish %s: %w", c.what, err)
		}
		d.bySeq[ack.Sequence] = c
	}
	return nil
}

func (c *demoCase) message(prefix string) (*nats.Msg, error) {
	msg := nats.NewMsg(consumer.OutcomeSubject(prefix, settlement.Scenario(c.scenario)))
	if c.garbage != "" {
		msg.Data = []byte(c.garbage)
		return msg, nil
	}
	c.data["session_id"] = string(c.session)
	data, err := json.Marshal(c.data)
	if err != nil {
		return nil, err
	}
	kind := "outcome." + c.scenario
	if c.binary {
		msg.Header = nats.Header{"ce-specversion": {"1.0"}, "ce-id": {c.id}, "ce-source": {"/demo"}, "ce-type": {kind}, "content-type": {"application/json"}}
		msg.Data = data
		return msg, nil
	}
	msg.Header.Set("Content-Type", "application/cloudevents+json")
	msg.Data, err = json.Marshal(map[string]any{
		"specversion": "1.0", "id": c.id, "source": "/demo", "type": kind, "time": time.Now().UTC().Format(time.RFC3339Nano), "data": json.RawMessage(data),
	})
	return msg, err
}

// result prints how the case ended, and reports whether it did as it should.
func (c *demoCase) result(d *demo, e settlement.Entry) bool {
	r := demoResult{Scenario: c.scenario, SessionID: e.Session.Token(), State: string(e.State), Allocations: append([]settlement.Allocation{}, e.Allocation...)}
	why := d.paidText(e.Allocation)
	if e.Error != nil {
		r.Code = string(e.Error.Code)
		why = r.Code + ": " + e.Error.Message
	}
	r.Expected = r.Code == string(c.code) && (c.code != "" || e.State == settlement.EntryClosed && why == c.paid)
	if d.JSON() {
		_ = d.PrintJSON(r)
		return r.Expected
	}
	mark := "ok"
	if !r.Expected {
		mark = "NO"
	}
	_ = d.PrintLine(terminal.Printable(fmt.Sprintf(demoRow, mark, r.Scenario, c.what, terminal.Short(r.SessionID), r.State, why)))
	return r.Expected
}

// paidText names the players instead of their addresses and leaves out what is 0.
func (d *demo) paidText(allocations []settlement.Allocation) string {
	var parts []string
	for _, a := range allocations {
		for i, key := range d.players {
			if strings.EqualFold(a.Participant, addressOf(key)) && !a.Amount.IsZero() {
				parts = append(parts, fmt.Sprintf("%s %s %s", demoPeople[i], a.Asset, a.Amount))
			}
		}
	}
	return strings.Join(parts, ", ")
}
