package schematest

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"

	"settled/settlement"
)

type fields = map[string]any

// document is an AsyncAPI 3.0 document, with the parts that this one has.
type document struct {
	AsyncAPI           string            `json:"asyncapi"`
	Info               fields            `json:"info"`
	DefaultContentType string            `json:"defaultContentType"`
	Servers            fields            `json:"servers"`
	Channels           map[string]fields `json:"channels"`
	Operations         fields            `json:"operations"`
	Components         fields            `json:"components"`
}

// channel is a subject, or several that differ in parameters.
type channel struct {
	name, address, filter string // filter: as the permissions have it
	stream                string // that stores the messages; empty: none
	description           string
	parameters            map[string]string // descriptions
	messages              []string
	operations            []fields // of settled
}

var channels = []channel{
	{
		name: "outcomes", address: "outcome.{scenario}", filter: "outcome.*", stream: "OUTCOMES",
		description: "What happened in an app session, from upstream services. consumer/OUTCOMES.md describes it.",
		parameters:  map[string]string{"scenario": "Name of a policy: 1 to 64 of a-z, 0-9 and _."},
		messages:    []string{"outcome", "outcomeBinary"},
		operations: []fields{
			{"name": "receiveOutcome", "action": "receive", "summary": "Settles the outcome. All replicas use the durable pull consumer `settled`."},
			{"name": "republishOutcome", "action": "send", "summary": "Replays a dead letter (header Settled-Replay), or publishes an outcome again that is no longer delivered (Settled-Requeue)."},
		},
	},
	{
		name: "settlements", address: "settlement.{state}.{session}", filter: "settlement.*.*", stream: "SETTLEMENTS",
		description: "The ledger. A message on a subscription is a notification: read the entry in the stream before you act on it. upstream receives closed and failed only. ledger/ENTRIES.md describes it.",
		parameters:  map[string]string{"state": "closing, closed or failed.", "session": "The app session id in lower case, or unknown."},
		messages:    []string{"closing", "closed", "failed", "failedUnknown"},
		operations:  []fields{{"name": "appendEntry", "action": "send", "summary": "Records an intent or a result, by compare-and-set over settlement.*.<session>."}},
	},
	{
		name: "deadLetters", address: "deadletter.{scenario}", filter: "deadletter.*", stream: "DEADLETTERS",
		description: "Messages of outcomes that failed, until an operator replays or discards them.",
		parameters:  map[string]string{"scenario": "Of the outcome; unknown if its subject has no valid one."},
		messages:    []string{"deadLetter"},
		operations:  []fields{{"name": "storeDeadLetter", "action": "send", "summary": "Stores the message of an outcome that failed."}},
	},
	{
		name: "operations", address: "operation.{action}", filter: "operation.*", stream: "OPERATIONS",
		description: "What operators did. A stop holds for every replica until a resume names it.",
		parameters:  map[string]string{"action": "stop, resume, replay, discard or requeue; reconcile-lease and reconcile-checkpoint, which only settled may write."},
		messages:    []string{"operation", "reconcileLease", "reconcileCheckpoint"},
		operations: []fields{
			{"name": "receiveOperation", "action": "receive", "summary": "Stops and resumes sending. Every replica reads the stream once a second, and when it sees a message."},
			{"name": "recordOperation", "action": "send", "summary": "Records a stop after an overpayment, and replays and discards from the dashboard."},
		},
	},
	{
		name: "advisories", address: "$JS.EVENT.ADVISORY.CONSUMER.{kind}.OUTCOMES.settled", filter: "$JS.EVENT.ADVISORY.>",
		description: "The server's reports about messages of OUTCOMES that it does not deliver again although they have no result.",
		parameters:  map[string]string{"kind": "MSG_TERMINATED or MAX_DELIVERIES."},
		messages:    []string{"advisory"},
		operations: []fields{{
			"name": "receiveAdvisory", "action": "receive", "summary": "Settles the outcome nevertheless. Of all replicas, one receives each advisory.",
			"bindings": fields{"nats": fields{"queue": "settled", "bindingVersion": "0.1.0"}},
		}},
	},
	{
		name: "questions", address: "settled.{endpoint}", filter: "settled.*",
		description: "Requests to the replicas as a NATS micro service, which also answers $SRV.PING, INFO and STATS. The headers Nats-Service-Error-Code and Nats-Service-Error of an answer say what was wrong: 400, 404, 429 or 503.",
		parameters:  map[string]string{"endpoint": "status and plan: one replica answers. waiting: the replica answers that returned the outcome to the stream, no other."},
		messages:    []string{"question", "event"},
		operations: []fields{{
			"name": "receiveQuestion", "action": "receive", "summary": "Tells what became of an outcome (status), what one would pay (plan, by its event), or why one waits (waiting).",
			"reply": fields{
				"address":  fields{"location": "$message.header#/reply", "description": "The reply subject of the NATS message: an inbox. Others get no answer."},
				"channel":  fields{"$ref": "#/channels/answers"},
				"messages": []fields{{"$ref": "#/channels/answers/messages/status"}, {"$ref": "#/channels/answers/messages/plan"}, {"$ref": "#/channels/answers/messages/waiting"}},
			},
		}},
	},
	{
		name: "cosign", address: "cosign.{address}", filter: "cosign.*",
		description: "Requests for the signature of another participant. deploy/COSIGN.md describes it.",
		parameters:  map[string]string{"address": "The participant's account in lower case."},
		messages:    []string{"proposal"},
		operations: []fields{{
			"name": "requestSignature", "action": "send", "summary": "Asks a co-signer to sign a close. Several may answer; the first valid signature counts.",
			"reply": fields{
				"address":  fields{"location": "$message.header#/reply", "description": "The reply subject of the NATS message."},
				"channel":  fields{"$ref": "#/channels/cosignAnswers"},
				"messages": []fields{{"$ref": "#/channels/cosignAnswers/messages/cosignAnswer"}},
			},
		}},
	},
}

// AsyncAPI returns the AsyncAPI document. permissions is the text of the files in deploy/nats
// that hold users, and more the schemas of this list: cosign.proposal, cosign.answer,
// micro.question, micro.plan, micro.waiting, command.status, operation.reconcile-lease and
// operation.reconcile-checkpoint.
func AsyncAPI(permissions string, more map[string]*Schema) []byte {
	d := document{
		AsyncAPI: "3.0.0",
		Info: fields{
			"title": "settled", "version": "1",
			"description": "settled closes app sessions of a ClearNode from outcome events, exactly once, and records the results in a ledger. " +
				"With nats.prefix \"prod.\", every subject begins with prod. and every stream's name with PROD_. " +
				"x-roles lists the users of deploy/nats that may publish to the subjects, subscribe to them, and read or delete in the stream.",
			"license": fields{"name": "MIT"},
		},
		DefaultContentType: "application/json",
		Servers:            fields{"nats": fields{"host": "127.0.0.1:4222", "protocol": "nats", "description": "nats.url of the configuration, with JetStream."}},
		Channels:           map[string]fields{},
		Operations:         fields{},
	}
	permissions = confComment.ReplaceAllString(permissions, "")
	for _, c := range channels {
		d.add(c, permissions)
	}
	d.Channels["cosignAnswers"] = fields{
		"address": nil, "description": "The reply subject of a request for a signature.",
		"messages": fields{"cosignAnswer": fields{"$ref": "#/components/messages/cosignAnswer"}},
	}
	answers := fields{}
	for _, m := range []string{"status", "plan", "waiting"} {
		answers[m] = fields{"$ref": "#/components/messages/" + m}
	}
	d.Channels["answers"] = fields{"address": nil, "description": "The reply subject of a request to a replica.", "messages": answers}
	d.Components = components(more)
	text, err := json.Marshal(d)
	if err != nil {
		panic(err) // schemas and texts
	}
	return text
}

func (d *document) add(c channel, permissions string) {
	messages, refs := fields{}, []fields{}
	for _, m := range c.messages {
		messages[m] = fields{"$ref": "#/components/messages/" + m}
		refs = append(refs, fields{"$ref": "#/channels/" + c.name + "/messages/" + m})
	}
	parameters := fields{}
	for name, description := range c.parameters {
		parameters[name] = fields{"description": description}
	}
	channel := fields{"address": c.address, "description": c.description, "parameters": parameters, "messages": messages, "x-roles": roles(permissions, c)}
	if c.stream != "" {
		channel["x-stream"] = c.stream
	}
	d.Channels[c.name] = channel
	for _, o := range c.operations {
		operation := fields{"channel": fields{"$ref": "#/channels/" + c.name}, "messages": refs}
		for name, value := range o {
			operation[name] = value
		}
		delete(operation, "name")
		d.Operations[o["name"].(string)] = operation
	}
}

var (
	confComment     = regexp.MustCompile(`(?m)^\s*#.*$`)
	userPermissions = regexp.MustCompile(`(?s)\{ user: (\w+),[^}]*?permissions: \{\s*publish: \[(.*?)\]\s*subscribe: \[(.*?)\]`)
)

// roles returns which users of deploy/nats may do what on a channel.
func roles(permissions string, c channel) map[string][]string {
	may := map[string][]string{}
	for _, user := range userPermissions.FindAllStringSubmatch(permissions, -1) {
		add := func(what string, list string, subjects ...string) {
			for _, s := range subjects {
				if strings.Contains(list, s) && !slices.Contains(may[what], user[1]) {
					may[what] = append(may[what], user[1])
				}
			}
		}
		kind, _, _ := strings.Cut(c.filter, ".")
		add("publish", user[2], `"`+kind+`.`)
		add("subscribe", user[3], `"`+kind+`.`)
		switch kind {
		case "$JS":
			may["publish"] = nil // JetStream's API is not the advisories
		case "cosign":
			add("subscribe", user[3], "$PARTNER_COSIGN")
		}
		if c.stream != "" {
			add("read", user[2], "API.STREAM.MSG.GET."+c.stream+`"`)
			add("delete", user[2], "API.STREAM.MSG.DELETE."+c.stream+`"`)
		}
	}
	for what, users := range may {
		if len(users) == 0 {
			delete(may, what)
		}
		slices.Sort(users)
	}
	return may
}

// components are the messages and their schemas.
func components(more map[string]*Schema) fields {
	schemas := maps.Clone(more)
	for _, group := range []map[string]*Schema{OutcomeSchemas(), EntrySchemas()} {
		for name, s := range group {
			schemas[name] = s
		}
	}
	ref := func(schema string) fields { return fields{"$ref": "#/components/schemas/" + schema} }
	headers := func(names ...string) fields {
		properties := fields{}
		for i := 0; i < len(names); i += 2 {
			properties[names[i]] = fields{"type": "string", "description": names[i+1]}
		}
		return fields{"type": "object", "properties": properties}
	}
	const contentType, event = "Content-Type", "application/cloudevents+json"
	outcomeHeaders := []string{
		"Nats-Msg-Id", "A random value. The stream stores an id once within two minutes.",
		"Settled-Signature", "The publisher's signature, where trust.outcome_signers is set.",
		"traceparent", "W3C Trace Context, if the event has none.",
	}
	entry := func(title, schema string) fields {
		return fields{"title": title, "contentType": event, "headers": headers(contentType, event), "payload": ref(schema)}
	}
	payloads := []fields{}
	for _, scenario := range []settlement.Scenario{settlement.PaymentCompleted, settlement.GameCompleted, settlement.PartialService, settlement.Cancellation, settlement.DisputeResolved} {
		payloads = append(payloads, fields{"name": string(scenario), "payload": fields{
			"specversion": "1.0", "id": "order-17", "source": "/shop", "type": "outcome." + string(scenario), "data": ExampleData(scenario),
		}})
	}
	return fields{
		"schemas": schemas,
		"messages": fields{
			"outcome": fields{
				"title": "Outcome, in structured mode", "contentType": event, "payload": ref("outcome.event"), "examples": payloads,
				"headers": headers(append([]string{contentType, event + ", or absent."}, outcomeHeaders...)...),
			},
			"outcomeBinary": fields{
				"title": "Outcome, in binary mode", "payload": ref("outcome.data"),
				"headers": headers(append([]string{"ce-specversion", "1.0", "ce-id", "Percent-encoded.", "ce-source", "Percent-encoded.", "ce-type", "outcome. and the scenario."}, outcomeHeaders...)...),
			},
			"closing":             entry("A close is about to be sent", "settlement.closing"),
			"closed":              entry("A session is closed", "settlement.closed"),
			"failed":              entry("An outcome failed", "settlement.failed"),
			"failedUnknown":       entry("An outcome failed that names no readable session", "settlement.failed.unknown"),
			"deadLetter":          fields{"title": "The message of a failed outcome", "headers": ref("deadletter.headers"), "payload": fields{"description": "The payload as it was received: any bytes."}},
			"operation":           fields{"title": "Record of an operation", "payload": ref("operation")},
			"reconcileLease":      fields{"title": "Which replica reconciles, on operation.reconcile-lease", "payload": ref("operation.reconcile-lease")},
			"reconcileCheckpoint": fields{"title": "How far the reconciliation is, on operation.reconcile-checkpoint", "payload": ref("operation.reconcile-checkpoint")},
			"advisory": fields{"title": "JetStream advisory", "payload": fields{"type": "object", "required": []string{"stream_seq"}, "properties": fields{
				"stream_seq": fields{"type": "integer", "minimum": 1, "description": "Sequence of the message."},
				"reason":     fields{"type": "string", "description": "A code of settled, if settled terminated the message: then it is ignored."},
			}}},
			"question":     fields{"title": "Names one outcome", "payload": ref("micro.question")},
			"event":        fields{"title": "An outcome as a structured CloudEvent, for plan", "payload": ref("outcome.event")},
			"status":       fields{"title": "What became of an outcome", "payload": ref("command.status")},
			"plan":         fields{"title": "What an outcome would lead to", "payload": ref("micro.plan")},
			"waiting":      fields{"title": "Why an outcome waits, and when it is tried again", "payload": ref("micro.waiting")},
			"proposal":     fields{"title": "Request for a co-signature", "payload": ref("cosign.proposal")},
			"cosignAnswer": fields{"title": "A signature, a refusal, or why to ask again later", "payload": ref("cosign.answer")},
		},
	}
}
