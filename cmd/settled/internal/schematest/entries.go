package schematest

import (
	"fmt"

	"github.com/google/jsonschema-go/jsonschema"

	"settled/settlement"
)

// EntryKinds are the kinds of ledger entry.
var EntryKinds = []string{"settlement.closing", "settlement.closed", "settlement.failed", "settlement.failed.unknown"}

// EntryMembers says whether an entry of each kind has a member: r required, o optional, - never.
var EntryMembers = []struct{ Name, Kinds string }{
	{"session_id", "rrrr"}, {"scenario", "rrrr"}, {"reference", "oooo"}, {"reason", "oooo"}, {"evidence", "-ooo"}, {"outcome", "rrrr"},
	{"standing", "rrr-"}, {"attempt", "rrrr"}, {"attempt_id", "rrrr"}, {"previous", "rrr-"}, {"policy", "rr--"}, {"allocations", "oo--"},
	{"request", "r---"}, {"valid_until", "o---"}, {"base_version", "o---"}, {"session_version", "-o--"}, {"node", "-r--"}, {"recovered", "-r--"},
	{"error", "--rr"}, {"dead_letter", "--oo"},
}

// EntrySchemas are the schemas of ledger/schema.
func EntrySchemas() map[string]*Schema {
	schemas := map[string]*Schema{}
	for i, kind := range EntryKinds {
		schemas[kind] = entryEvent(kind, entryData(i))
	}
	schemas["settlement.closing"].Title = "Ledger entry closing: a close is about to be sent"
	schemas["settlement.closed"].Title = "Ledger entry closed: the session is closed at the node, and paid as the outcome says"
	schemas["settlement.failed"].Title = "Ledger entry failed: an outcome ended without settling"
	schemas["settlement.failed.unknown"].Title = "Ledger entry failed, of an outcome that names no readable session"
	return schemas
}

func entryData(kind int) *Schema {
	s := Of(settlement.Entry{})
	s.Required, s.PropertyOrder = nil, nil
	for _, m := range EntryMembers {
		switch m.Kinds[kind] {
		case 'r':
			s.Required = append(s.Required, m.Name)
		case '-':
			delete(s.Properties, m.Name)
			continue
		}
		s.PropertyOrder = append(s.PropertyOrder, m.Name)
	}
	for _, path := range [][]string{{"outcome", "digest"}, {"policy", "digest"}, {"request", "digest"}, {"standing", "digest"}} {
		if s.Properties[path[0]] != nil {
			At(s, path...).Pattern = SHA256Pattern
		}
	}
	s.Properties["attempt"].Minimum = jsonschema.Ptr(0.0)
	s.Properties["attempt_id"].Pattern = "^[0-9a-f]{32}$"
	s.Properties["session_id"].Pattern = entrySession(kind)
	if previous := s.Properties["previous"]; previous != nil {
		previous.Pattern = "^([0-9a-f]{64})?$"
		s.Properties["standing"].OneOf = []*Schema{
			{Properties: map[string]*Schema{"state": {Const: jsonschema.Ptr(any("free"))}}, Not: &Schema{AnyOf: []*Schema{{Required: []string{"source"}}, {Required: []string{"id"}}, {Required: []string{"digest"}}}}},
			{Properties: map[string]*Schema{"state": {Enum: []any{"closing", "closed"}}}, Required: []string{"source", "id", "digest"}},
		}
	}
	if s.Properties["valid_until"] != nil {
		s.AnyOf = []*Schema{{Required: []string{"valid_until"}}, {Required: []string{"base_version"}}}
	}
	return s
}

func entrySession(kind int) string {
	if EntryKinds[kind] == "settlement.failed.unknown" {
		return "^unknown$"
	}
	return "^0x[0-9a-f]{64}$"
}

// entryEvent is the CloudEvent of an entry.
func entryEvent(kind string, data *Schema) *Schema {
	session := data.Properties["session_id"].Pattern
	state := kind
	if kind == "settlement.failed.unknown" {
		state = "settlement.failed"
	}
	id := "The session, and the entry's 1-based number in it."
	if state != kind {
		id = "unknown, and the sequence of the outcome's message."
	}
	s := object(
		"specversion", &Schema{Const: jsonschema.Ptr(any("1.0"))},
		"id", &Schema{Type: "string", Pattern: session[:len(session)-1] + "/[1-9][0-9]*$", Description: id},
		"source", &Schema{Type: "string", Pattern: "^/settled/([A-Z0-9_-]+_)?SETTLEMENTS$", Description: "/settled/ and the stream's name, on every replica."},
		"type", &Schema{Const: jsonschema.Ptr(any(state)), Description: "As in the subject."},
		"subject", &Schema{Type: "string", Pattern: session, Description: "The session, as in the stream's subject."},
		"time", &Schema{Type: "string", Format: "date-time", Pattern: `\.[0-9]{6}Z$`, Description: "When it was appended, in UTC with six fractional digits."},
		"datacontenttype", &Schema{Const: jsonschema.Ptr(any("application/json"))},
		"traceparent", &Schema{Type: "string", Pattern: "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$", Description: "The outcome's W3C Trace Context."},
		"data", data,
	)
	s.Required = append(s.Required[:7:7], "data")
	s.Description = fmt.Sprintf("A message on %s.<session>, as this version writes it. Readers ignore unknown members: later versions may add some.", state)
	return s
}
