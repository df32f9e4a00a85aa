package schematest

import (
	"slices"

	"encoding/json"
	"math"

	"github.com/google/jsonschema-go/jsonschema"

	"settled/consumer/operations"
	"settled/settlement"
)

// OutcomeSchemas are the schemas of consumer/schema: what is published to outcome.*, and what
// settled stores in DEADLETTERS and OPERATIONS.
func OutcomeSchemas() map[string]*Schema {
	schemas := map[string]*Schema{
		"outcome.event":      outcomeEvent(),
		"outcome.data":       outcomeData("Data of an outcome, of any scenario"),
		"deadletter.headers": deadLetterHeaders(),
		"operation":          OperationSchema(),
	}
	for scenario, needs := range scenarioNeeds {
		s := needs(outcomeData("Data of an outcome of the built-in scenario " + string(scenario)))
		s.Examples = []any{ExampleData(scenario)}
		schemas["outcome.data."+string(scenario)] = s
	}
	return schemas
}

// ExampleData is the data of an outcome of a built-in scenario.
func ExampleData(scenario settlement.Scenario) json.RawMessage {
	const head = `{"session_id": "0xcaeb884b5c79853a0c2c01fdeb6599f86d8703be0be03dd251db6c053fa64c16"`
	const alice, bob = "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf", "0x2B5AD5c4795c026514f8317c7a215E218DcCD6cF"
	rest := map[settlement.Scenario]string{
		settlement.PaymentCompleted: `, "parties": {"provider": "` + bob + `"},
 "expect": {"totals": [{"asset": "usdc", "amount": "15.5"}]}, "reference": "order 17"}`,
		settlement.GameCompleted: `, "parties": {"winner": ["` + alice + `", "` + bob + `"]}}`,
		settlement.PartialService: `, "parties": {"provider": "` + bob + `"},
 "completion": "0.3"}`,
		settlement.Cancellation: `, "reason": "the order was cancelled"}`,
		settlement.DisputeResolved: `,
 "awards": [{"participant": "` + alice + `", "share": "0.75"},
            {"participant": "` + bob + `", "share": "0.25"}],
 "evidence": ["https://court.example/rulings/4711"]}`,
	}
	return json.RawMessage(head + rest[scenario])
}

// scenarioNeeds add what the built-in policy of a scenario needs.
var scenarioNeeds = map[settlement.Scenario]func(*Schema) *Schema{
	settlement.PaymentCompleted: needsRole("provider", "Who is paid everything: an address, or a list of addresses that get equal parts."),
	settlement.GameCompleted:    needsRole("winner", "Who is paid everything: an address, or a list of addresses that get equal parts."),
	settlement.PartialService: func(s *Schema) *Schema {
		s.Required = append(s.Required, "completion")
		return needsRole("provider", "Who is paid the share completion: an address, or a list of addresses that get equal parts.")(s)
	},
	settlement.Cancellation: func(s *Schema) *Schema { return s },
	settlement.DisputeResolved: func(s *Schema) *Schema {
		s.Required = append(s.Required, "awards")
		s.Properties["awards"].MinItems = jsonschema.Ptr(1)
		return s
	},
}

func needsRole(role, description string) func(*Schema) *Schema {
	return func(s *Schema) *Schema {
		s.Required = append(s.Required, "parties")
		parties := s.Properties["parties"]
		parties.Required = []string{role}
		parties.Properties = map[string]*Schema{role: {
			Description: description,
			AnyOf:       []*Schema{address(""), {Type: "array", Items: address(""), MinItems: jsonschema.Ptr(1), UniqueItems: true}},
		}}
		return s
	}
}

func outcomeData(title string) *Schema {
	return &Schema{
		Title: title, Type: "object",
		Description: "The facts from which settled computes who is paid. Other members are ignored, unless their name resembles one of these: that fails. " +
			"Lengths are limited in bytes of UTF-8.",
		Required: []string{"session_id"},
		PropertyOrder: []string{"session_id", "parties", "completion", "awards", "expect", "reference", "reason", "evidence",
			"session_data", "signatures"},
		Properties: map[string]*Schema{
			"session_id": {Type: "string", Pattern: SessionPattern, Description: "The app session to close: 0x and 64 hex digits of any case."},
			"parties": {Type: "object", Description: "Who has which role: the name of a role, and an address or a list of different addresses. Roles that the policy does not name are ignored. " +
				"funder, one address, says who funded the session, where the node doesn't show that and the policy pays funders."},
			"completion": fraction("The share of the service that was delivered, for a policy with the share completion."),
			"awards": {
				Type: "array", MaxItems: jsonschema.Ptr(settlement.MaxAwards),
				Description: "A ruling: rows by share, whose shares sum to exactly 1, or rows by amount, whose amounts sum to exactly the balance of each asset.",
				AnyOf: []*Schema{
					{Items: object("participant", address("Who gets it."), "share", fraction("The part of every asset."))},
					{Items: object("participant", address("Who gets it."), "asset", asset(), "amount", amount("The amount of this asset."))},
				},
			},
			"expect": expectation(),
			"reference": {Type: "string", MaxLength: jsonschema.Ptr(settlement.MaxReference),
				Description: "Copied to the ledger, where it can be searched for: an order or invoice number."},
			"reason": {Type: "string", MaxLength: jsonschema.Ptr(settlement.MaxReason), Description: "Copied to the ledger."},
			"evidence": texts(settlement.MaxEvidence, settlement.MaxProof,
				"Copied to the entry of the result, such as links or hashes of documents."),
			"session_data": {Type: "string", MaxLength: jsonschema.Ptr(settlement.MaxSessionData),
				Description: "Replaces the session data at the node; absent: unchanged."},
			"signatures": texts(settlement.MaxSignatures, settlement.MaxSignature, "Signatures of participants over the close, in hex, which count towards the quorum if they are valid."),
		},
	}
}

func expectation() *Schema {
	version := &Schema{Type: "integer", Minimum: jsonschema.Ptr(0.0), Description: "The session's version, a whole number of 64 bits."}
	totals := &Schema{
		Type: "array", MaxItems: jsonschema.Ptr(settlement.MaxAwards), Items: object("asset", asset(), "amount", amount("The whole amount of this asset in the session.")),
		Description: "The whole balance of the session: each asset of which it holds anything, once. A legacy node doesn't show the balance and needs this.",
	}
	s := object("totals", totals, "version", version)
	s.Required = nil
	s.Description = "What the publisher expects of the session. If the node shows something else, the outcome fails with expectation_failed and nobody is paid."
	return s
}

// object is an object with exactly these members: names and schemas in turn.
func object(members ...any) *Schema {
	s := &Schema{Type: "object", Properties: map[string]*Schema{}, AdditionalProperties: Nothing()}
	for pair := range slices.Chunk(members, 2) {
		name := pair[0].(string)
		s.Properties[name] = pair[1].(*Schema)
		s.PropertyOrder = append(s.PropertyOrder, name)
		s.Required = append(s.Required, name)
	}
	return s
}

func address(description string) *Schema {
	return &Schema{Type: "string", Pattern: AddressPattern, Description: description}
}

func asset() *Schema {
	return &Schema{Type: "string", Pattern: `^[\p{L}\p{M}\p{N}\p{P}\p{S}]{1,64}$`, Description: "The symbol as the node lists it, compared letter by letter."}
}

// amount is a decimal of at most MaxDigits digits.
func amount(description string) *Schema {
	return &Schema{Type: "string", Pattern: DecimalPattern, Description: description + " A decimal string: digits and at most one point.",
		AnyOf: []*Schema{{MaxLength: jsonschema.Ptr(settlement.MaxDigits)}, {Pattern: `\.`, MaxLength: jsonschema.Ptr(settlement.MaxDigits + 1)}}}
}

func fraction(description string) *Schema {
	return &Schema{Type: "string", Pattern: FractionPattern, MaxLength: jsonschema.Ptr(settlement.MaxDigits + 1), Description: description + " A decimal string from 0 to 1."}
}

func texts(most, bytes int, description string) *Schema {
	return &Schema{Type: "array", MaxItems: &most, Items: &Schema{Type: "string", MaxLength: &bytes}, Description: description}
}

// outcomeEvent is an event in structured mode.
func outcomeEvent() *Schema {
	const control = `\x00-\x1f\x7f-\x9f` + "\ufffd"
	text := func(description string) *Schema {
		return &Schema{Type: "string", MinLength: jsonschema.Ptr(1), MaxLength: jsonschema.Ptr(1024), Pattern: "^[^" + control + `]*[^\s` + control + "][^" + control + "]*$", Description: description}
	}
	optional := func(format, description string) *Schema {
		return &Schema{Types: []string{"string", "null"}, Format: format, Description: description}
	}
	typ := text("outcome. and the scenario, as in the subject.")
	typ.Pattern = `^outcome\.[a-z0-9_]{1,64}$`
	return &Schema{
		Title: "Outcome event: CloudEvents 1.0 in structured mode", Type: "object",
		Description: "The payload of a message on outcome.<scenario>. In binary mode data is the payload, and the other members are headers ce-<name>.",
		Required:    []string{"specversion", "id", "source", "type"},
		OneOf:       []*Schema{{Required: []string{"data"}}, {Required: []string{"data_base64"}}},
		PropertyOrder: []string{"specversion", "id", "source", "type", "data", "data_base64", "time", "subject", "datacontenttype", "dataschema",
			"traceparent", "tracestate"},
		Properties: map[string]*Schema{
			"specversion":     {Const: jsonschema.Ptr(any("1.0"))},
			"id":              text("Unique for each outcome of the source."),
			"source":          text("Who publishes: a URI reference."),
			"type":            typ,
			"data":            outcomeData(""),
			"data_base64":     {Type: "string", ContentEncoding: "base64", Description: "The data as base64, instead of data."},
			"time":            optional("date-time", "When it happened. settled does not use it."),
			"subject":         {Types: []string{"string", "null"}, Pattern: `\S`, Description: "settled does not use it."},
			"datacontenttype": optional("", "application/json."),
			"dataschema":      optional("", "An absolute URI. settled does not use it."),
			"traceparent":     optional("", "W3C Trace Context: the trace that settled continues."),
			"tracestate":      optional("", "W3C Trace Context."),
		},
		PropertyNames: &Schema{Pattern: "^([a-z0-9]+|data_base64)$"},
		AdditionalProperties: &Schema{
			Types: []string{"string", "boolean", "integer", "null"}, Minimum: jsonschema.Ptr(float64(math.MinInt32)), Maximum: jsonschema.Ptr(float64(math.MaxInt32)),
			Description: "An extension. settled does not use it.",
		},
	}
}

// deadLetterHeaders are the headers that settled adds to a failed message.
func deadLetterHeaders() *Schema {
	header := func(pattern, description string) *Schema {
		return &Schema{Type: "string", Pattern: pattern, Description: description}
	}
	code, class := Of(settlement.InvalidOutcome), Of(settlement.Rejected)
	code.Description, class.Description = "Why the outcome failed.", "The class of the code."
	s := object(
		"Settled-Code", code,
		"Settled-Class", class,
		"Settled-Error", &Schema{Type: "string", MaxLength: jsonschema.Ptr(512), Description: "What is wrong, on one line."},
		"Settled-Attempts", header("^[0-9]+$", "How many closes were recorded for the outcome."),
		"Settled-Origin", header("^[A-Z0-9_-]+/[1-9][0-9]*$", "Stream and sequence of the message."),
		"Settled-Subject", header(`^([A-Za-z0-9_-]+\.)*outcome\.`, "Subject of the message, to which a replay publishes it."),
		"Settled-Session", header("^(0x[0-9a-f]{64}|unknown)$", "The app session."),
		"Settled-Failed-At", &Schema{Type: "string", Format: "date-time", Description: "When it failed."},
		"Nats-Msg-Id", header("^[A-Z0-9_-]+/[1-9][0-9]*(/.+)?$", "Origin, and when the stream stored the message."),
		"Settled-Truncated", header("^[0-9]+$", "The length of the whole payload, where only its first 64 KiB are kept."),
		"Settled-Original-Omitted", header("^[0-9]+$", "The number of headers of the message that are left out because the server would not store them."),
		"Settled-Replay", header("^[0-9]+$", "How many times the outcome had been replayed when it failed."),
		"Settled-Requeue", header("", "Stream and sequence of the message that this one repeats."),
		"Settled-Signature", header("", "The publisher's signature of the outcome."),
	)
	s.Title = "Headers of a dead letter"
	s.Description = "The message's own headers follow, with Settled-Original- before names that begin with Nats- or that a dead letter adds itself. The payload is the message's."
	s.Required, s.AdditionalProperties = s.Required[:9], nil
	return s
}

// OperationSchema is a record of what an operator did.
func OperationSchema() *Schema {
	s := Of(operations.Record{})
	s.Title = "Record of an operation: a message on operation.<action>"
	s.Description = "settled and its commands write these. Members that do not belong to the action are absent."
	for _, action := range []struct {
		name  string
		needs []string
	}{
		{operations.ActionStop, []string{"reason"}},
		{operations.ActionResume, []string{"reason", "stop"}},
		{operations.ActionReplay, []string{"dead_letter", "origin", "outcome_sequence"}},
		{operations.ActionDiscard, []string{"reason", "dead_letter", "origin"}},
		{operations.ActionRequeue, []string{"reason", "origin", "outcome_sequence"}},
	} {
		s.AnyOf = append(s.AnyOf, &Schema{Properties: map[string]*Schema{"action": {Const: jsonschema.Ptr(any(action.name))}}, Required: action.needs})
		s.Properties["action"].Enum = append(s.Properties["action"].Enum, action.name)
	}
	return s
}
