package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"settled/cmd/settled/internal/schematest"
	"settled/consumer/cloudevent"
	"settled/ledger"
	"settled/settlement"
)

const (
	contractSession = `"session_id":"0xcaeb884b5c79853a0c2c01fdeb6599f86d8703be0be03dd251db6c053fa64c16"`
	contractAddress = "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf"
	otherAddress    = "0x2b5ad5c4795c026514f8317c7a215e218dccd6cf"
)

// TestOutcomeSchemasAcceptWhatSettledAccepts compares schema and parser on each scenario, with
// its built-in policy. What a schema can't express is marked: the schema accepts it, and
// settled refuses it.
func TestOutcomeSchemasAcceptWhatSettledAccepts(t *testing.T) {
	row := func(member, value string) string {
		return `"awards":[{"participant":"` + contractAddress + `","` + member + `":` + value + `}]`
	}
	byAmount := func(amount string) string {
		return `"awards":[{"participant":"` + contractAddress + `","asset":"usdc","amount":` + amount + `}]`
	}
	expect := func(members string) string { return `"expect":{` + members + `}` }
	long := func(n int) string { return `"` + strings.Repeat("x", n) + `"` }
	list := func(n int) string { return `[` + strings.TrimSuffix(strings.Repeat(`"a",`, n), ",") + `]` }
	const provider = `"parties":{"provider":"` + contractAddress + `"}`
	for _, c := range []struct {
		scenario settlement.Scenario
		members  string // beside session_id
		accepted bool
		beyond   bool // the schema accepts it: it can't express why settled refuses it
	}{
		{"payment_completed", provider, true, false},
		{"payment_completed", `"parties":{"provider":["` + contractAddress + `","` + otherAddress + `"]}`, true, false},
		{"payment_completed", `"parties":{"provider":"` + strings.ToLower(contractAddress) + `","unknown":7}`, true, false},
		{"payment_completed", ``, false, false},
		{"payment_completed", `"parties":{}`, false, false},
		{"payment_completed", `"parties":{"winner":"` + contractAddress + `"}`, false, false},
		{"payment_completed", `"parties":{"provider":[]}`, false, false},
		{"payment_completed", `"parties":{"provider":"0x12"}`, false, false},
		{"payment_completed", `"parties":{"provider":null}`, false, false},
		{"payment_completed", `"parties":null`, false, false},
		{"payment_completed", `"parties":{"provider":["` + contractAddress + `","` + contractAddress + `"]}`, false, false},
		{"payment_completed", `"parties":{"provider":["` + contractAddress + `","` + strings.ToLower(contractAddress) + `"]}`, false, true}, // one address in two spellings
		{"payment_completed", `"parties":{"provider":"` + contractAddress[:41] + `e"}`, false, true},                                        // the checksum of an address
		{"game_completed", `"parties":{"winner":"` + contractAddress + `"}`, true, false},
		{"game_completed", provider, false, false},
		{"partial_service", provider + `,"completion":"0.3"`, true, false},
		{"partial_service", provider, false, false},
		{"partial_service", `"completion":"0.3"`, false, false},
		{"cancellation", ``, true, false},
		{"dispute_resolved", row("share", `"1"`), true, false},
		{"dispute_resolved", byAmount(`"12.50"`), true, false},
		{"dispute_resolved", ``, false, false},
		{"dispute_resolved", `"awards":[]`, false, false},
		{"dispute_resolved", row("share", `"0.9"`), false, true}, // a sum
		{"dispute_resolved", row("share", `1`), false, false},
		{"dispute_resolved", row("shares", `"1"`), false, false},
		{"dispute_resolved", row("amount", `"1"`), false, false},
		{"dispute_resolved", byAmount(`1`), false, false},
		{"dispute_resolved", byAmount(`"1"},{"participant":"` + contractAddress + `","share":"1"`), false, false},
		{"dispute_resolved", byAmount(`"1","share":"1"`), false, false},

		{"cancellation", `"completion":"1"`, true, false},
		{"cancellation", `"completion":"1.00"`, true, false},
		{"cancellation", `"completion":"0.` + strings.Repeat("1", 77) + `"`, true, false},
		{"cancellation", `"completion":"0.` + strings.Repeat("1", 78) + `"`, false, false},
		{"cancellation", `"completion":"1.01"`, false, false},
		{"cancellation", `"completion":"2"`, false, false},
		{"cancellation", `"completion":".5"`, false, false},
		{"cancellation", `"completion":"00.5"`, false, false},
		{"cancellation", `"completion":"-0"`, false, false},
		{"cancellation", `"completion":"1e-1"`, false, false},
		{"cancellation", `"completion":0.5`, false, false},
		{"cancellation", `"completion":null`, false, false},
		{"cancellation", byAmount(`"` + strings.Repeat("1", 78) + `"`), true, false},
		{"cancellation", byAmount(`"` + strings.Repeat("1", 79) + `"`), false, false},
		{"cancellation", byAmount(`"` + strings.Repeat("1", 77) + `.1"`), true, false},
		{"cancellation", byAmount(`"` + strings.Repeat("1", 78) + `.1"`), false, false},
		{"cancellation", `"awards":{}`, false, false},

		{"cancellation", expect(``), true, false},
		{"cancellation", expect(`"totals":[]`), true, false},
		{"cancellation", expect(`"totals":[{"asset":"usdc","amount":"15"}],"version":2`), true, false},
		{"cancellation", expect(`"totals":[{"asset":"us dc","amount":"15"}]`), false, false},
		{"cancellation", expect(`"totals":[{"asset":"","amount":"15"}]`), false, false},
		{"cancellation", expect(`"totals":[{"asset":` + long(64) + `,"amount":"15"}]`), true, false},
		{"cancellation", expect(`"totals":[{"asset":` + long(65) + `,"amount":"15"}]`), false, false},
		{"cancellation", expect(`"totals":[{"asset":"usdc"}]`), false, false},
		{"cancellation", expect(`"totals":[{"asset":"usdc","amount":"1","x":1}]`), false, false},
		{"cancellation", expect(`"totals":[{"asset":"usdc","amount":"1"},{"asset":"usdc","amount":"1"}]`), false, true}, // an asset twice
		{"cancellation", expect(`"version":"2"`), false, false},
		{"cancellation", expect(`"version":-1`), false, false},
		{"cancellation", expect(`"version":1.5`), false, false},
		{"cancellation", expect(`"version":1.0`), false, true},                  // another spelling of a whole number
		{"cancellation", expect(`"version":18446744073709551616`), false, true}, // above 64 bits: a validator may compute with doubles
		{"cancellation", expect(`"total":[]`), false, false},
		{"cancellation", `"expect":null`, false, false},

		{"cancellation", `"reference":` + long(256), true, false},
		{"cancellation", `"reference":` + long(257), false, false},
		{"cancellation", `"reference":"` + strings.Repeat("é", 129) + `"`, false, true}, // a length in bytes
		{"cancellation", `"reference":null`, false, false},
		{"cancellation", `"reason":` + long(4096), true, false},
		{"cancellation", `"reason":` + long(4097), false, false},
		{"cancellation", `"evidence":` + list(32), true, false},
		{"cancellation", `"evidence":` + list(33), false, false},
		{"cancellation", `"evidence":[` + long(1025) + `]`, false, false},
		{"cancellation", `"evidence":[1]`, false, false},
		{"cancellation", `"session_data":` + long(16384) + `,"signatures":` + list(64), true, false},
		{"cancellation", `"session_data":` + long(16385), false, false},
		{"cancellation", `"session_data":{}`, false, false},
		{"cancellation", `"signatures":` + list(65), false, false},
		{"cancellation", `"signatures":"0x12"`, false, false},
		{"cancellation", `"order":{"x":[null]}`, true, false},
		{"cancellation", `"expct":{}`, false, true},                                               // a name that resembles a known one
		{"cancellation", `"reason":"a","reason":"b"`, false, true},                                // a name twice
		{"cancellation", `"x":` + strings.Repeat(`[`, 70) + strings.Repeat(`]`, 70), false, true}, // a depth
	} {
		data := strings.TrimSuffix(`{`+contractSession+`,`+c.members, ",") + `}`
		o, err := settlement.ParseOutcome(settlement.Envelope{Subject: "outcome." + string(c.scenario), Type: "outcome." + string(c.scenario), Source: "/shop", ID: "1", Data: []byte(data)})
		if err == nil {
			if f := settlement.BuiltIn()[c.scenario].Check(o); f != nil {
				err = f
			}
		}
		if accepted := err == nil; accepted != c.accepted {
			t.Errorf("%s %.200s: %v", c.scenario, data, err)
		}
		invalid := contract.Check("outcome.data."+string(c.scenario), []byte(data))
		if accepts := invalid == nil; accepts != (c.accepted || c.beyond) {
			t.Errorf("%s %.200s: settled accepts it: %t; the schema: %v", c.scenario, data, c.accepted, invalid)
		}
	}
	for _, id := range []string{`7`, `"0x12"`, `null`, `"` + strings.Repeat("1", 66) + `"`} {
		if contract.Check("outcome.data", []byte(`{"session_id":`+id+`}`)) == nil {
			t.Errorf("session %s is accepted", id)
		}
	}
}

// TestEventSchemaAcceptsWhatSettledAccepts is the same for an event in structured mode.
func TestEventSchemaAcceptsWhatSettledAccepts(t *testing.T) {
	const data = `"data":{` + contractSession + `}`
	event := func(members ...string) string { return `{` + strings.Join(members, ",") + `}` }
	const version, id, source, typ = `"specversion":"1.0"`, `"id":"1"`, `"source":"/shop"`, `"type":"outcome.cancellation"`
	for _, c := range []struct {
		event    string
		accepted bool
		beyond   bool
	}{
		{event(version, id, source, typ, data), true, false},
		{event(version, id, source, typ, data, `"time":"2026-01-02T03:04:05Z"`, `"subject":"x"`, `"datacontenttype":"application/json"`), true, false},
		{event(version, id, source, typ, data, `"extension":7`, `"other":true`, `"time":null`), true, false},
		{event(version, id, source, typ, `"data_base64":"e30="`), false, true}, // what is in it
		{event(version, id, source, typ), false, false},
		{event(version, id, source, data), false, false},
		{event(id, source, typ, data), false, false},
		{event(`"specversion":"0.3"`, id, source, typ, data), false, false},
		{event(version, `"id":""`, source, typ, data), false, false},
		{event(version, `"id":" "`, source, typ, data), false, false},
		{event(version, `"id":7`, source, typ, data), false, false},
		{event(version, `"id":null`, source, typ, data), false, false},
		{event(version, `"id":"a\u0007"`, source, typ, data), false, false},
		{event(version, `"id":"`+strings.Repeat("x", 1024)+`"`, source, typ, data), true, false},
		{event(version, `"id":"`+strings.Repeat("x", 1025)+`"`, source, typ, data), false, false},
		{event(version, id, `"source":"%"`, typ, data), false, true}, // the syntax of a URI reference
		{event(version, id, source, `"type":"cancellation"`, data), false, false},
		{event(version, id, source, `"type":"outcome.game_completed"`, data), false, true}, // another type than in the subject
		{event(version, id, source, typ, data, `"data_base64":"e30="`), false, false},
		{event(version, id, source, typ, data, `"Extension":"x"`), false, false},
		{event(version, id, source, typ, data, `"extension":[]`), false, false},
		{event(version, id, source, typ, data, `"extension":1.5`), false, false},
		{event(version, id, source, typ, data, `"time":"yesterday"`), false, false},
		{event(version, id, source, typ, data, `"subject":""`), false, false},
		{event(version, id, source, typ, `"data":[]`), false, false},
		{event(contractSession), false, false},
	} {
		e := cloudevent.Read("outcome.cancellation", nil, []byte(c.event), "OUTCOMES", 1, "")
		_, err := settlement.ParseOutcome(e)
		if accepted := err == nil; accepted != c.accepted {
			t.Errorf("%.200s: %v", c.event, err)
		}
		invalid := contract.Check("outcome.event", []byte(c.event))
		if accepts := invalid == nil; accepts != (c.accepted || c.beyond) {
			t.Errorf("%.200s: settled accepts it: %t; the schema: %v", c.event, c.accepted, invalid)
		}
	}
}

// TestEntrySchemas: the schemas accept the stored entries of the ledger's test data, and say
// what the ledger says about an entry with one member less, or one of another kind.
func TestEntrySchemas(t *testing.T) {
	stored := map[string]map[string]json.RawMessage{}
	files := map[string]string{"closing": "settlement.closing", "closed": "settlement.closed", "failed": "settlement.failed", "unknown": "settlement.failed.unknown"}
	data := func(event map[string]json.RawMessage) (members map[string]json.RawMessage) {
		must(t, json.Unmarshal(event["data"], &members))
		return members
	}
	for name, kind := range files {
		text, err := os.ReadFile(filepath.Join("../../ledger/testdata", name+".json"))
		must(t, err)
		checkDocument(t, text, kind)
		var event map[string]json.RawMessage
		must(t, json.Unmarshal(text, &event))
		stored[kind] = event
	}
	for i, kind := range schematest.EntryKinds {
		event := stored[kind]
		subject := fmt.Sprintf("%s.%s", strings.Trim(string(event["type"]), `"`), strings.Trim(string(event["subject"]), `"`))
		for _, m := range schematest.EntryMembers {
			members := data(event)
			if _, present := members[m.Name]; present {
				delete(members, m.Name)
			} else {
				for _, other := range schematest.EntryKinds {
					if value, present := data(stored[other])[m.Name]; present {
						members[m.Name] = value
					}
				}
			}
			_, added := members[m.Name]
			changed := map[string]json.RawMessage{}
			for name, value := range event {
				changed[name] = value
			}
			var err error
			changed["data"], err = json.Marshal(members)
			must(t, err)
			text, err := json.Marshal(changed)
			must(t, err)
			_, refused := ledger.ParseEntry(subject, text, 1)
			invalid := contract.Check(kind, text)
			lenient := m.Name == "scenario" || m.Name == "outcome" || m.Name == "attempt" || m.Name == "session_id" // absent is read as empty
			if (refused == nil) != (invalid == nil) && !(lenient && !added) {
				t.Errorf("%s, %s added: %t: the ledger says %v, the schema %v (%c)", kind, m.Name, added, refused, invalid, m.Kinds[i])
			}
		}
	}
}
