package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"settled/clearnode"
	"settled/cmd/settled/dashboard"
	"settled/cmd/settled/internal/audit"
	"settled/cmd/settled/internal/bench"
	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/cosigner"
	"settled/cmd/settled/internal/demo"
	"settled/cmd/settled/internal/doctor"
	"settled/cmd/settled/internal/policies"
	"settled/cmd/settled/internal/schematest"
	"settled/cmd/settled/internal/sim"
	"settled/cmd/settled/internal/status"
	"settled/cmd/settled/internal/telemetry"
	"settled/cmd/settled/internal/terminal"
	"settled/consumer"
	"settled/consumer/deadletter"
	"settled/consumer/operations"
	"settled/ledger"
	"settled/settlement"
)

// contract is every schema that the program has.
var contract = schematest.Load(consumer.Schemas, ledger.Schemas, dashboard.Schemas, sim.Schemas, commandSchemas)

// TestSchemas compares the schemas of messages and of command output with the code.
func TestSchemas(t *testing.T) {
	schematest.Files(t, *update, "../../consumer/schema", schematest.OutcomeSchemas())
	schematest.Files(t, *update, "../../ledger/schema", schematest.EntrySchemas())
	commands := outputSchemas()
	maps.Copy(commands, inputSchemas())
	maps.Copy(commands, microSchemas())
	schematest.Files(t, *update, "schema", commands)
}

// outputSchemas are the schemas of what commands print with --output json.
func outputSchemas() map[string]*schematest.Schema {
	schemas := map[string]*schematest.Schema{}
	add := func(name, title string, v any) *schematest.Schema {
		s := schematest.Of(v)
		s.Title = title
		schemas["command."+name] = s
		return s
	}
	add("publish", "settled publish: where the outcome is stored", publishResult{})
	add("publish.dry-run", "settled publish --dry-run: what would be published", publishPreview{})
	add("publish.batch", "settled publish --batch: where the outcome of a line is stored, and again with its result", batchResult{})
	schemas["command.publish.batch"].Properties["result"].Properties["state"].Enum = []any{status.Closed, status.Failed, status.Lost}
	add("publish.batch.dry-run", "settled publish --batch --dry-run: what was checked", batchCheck{})
	letter := add("deadletter.list", "settled deadletter list: one dead letter", deadletter.Letter{})
	shown := add("deadletter.show", "settled deadletter show: a dead letter with what the decision about it depends on", deadLetterReport{})
	for _, s := range []*schematest.Schema{letter, shown} { // an older version's, or somebody else's
		s.Properties["code"].Enum, s.Properties["class"].Enum = nil, nil
	}
	add("deadletter.replay", "settled deadletter replay: where the message of a dead letter is now", deadletter.ReplayResult{})
	add("deadletter.replay.dry-run", "settled deadletter replay --dry-run: the result that a replay would have", status.Forecast{})
	add("deadletter.discard", "settled deadletter discard: one discarded dead letter", discardResult{})
	answer := add("status", "settled status: what became of an outcome", status.Answer{})
	answer.Properties["state"].Enum = []any{status.Waiting, status.Closing, status.Closed, status.Failed, status.Lost}
	add("stop", "settled stop: the recorded stop", stopResult{})
	add("resume", "settled resume: the stop that was lifted", resumeResult{})
	listed := add("ledger.list", "settled ledger list: one entry", listedEntry{})
	for _, name := range []string{"state", "standing"} { // empty in an entry that can't be read, and without a session
		listed.Properties[name].Enum = append(listed.Properties[name].Enum, "")
	}
	add("ledger.export", "settled ledger export --out: what was written", exportResult{})
	add("ledger.export.row", "settled ledger export --format jsonl: one row", audit.ExportRow{})
	add("ledger.verify", "settled ledger verify: what was verified, and the findings", verifyResult{})
	add("ledger.seal", "settled ledger seal: what was sealed", sealResult{})
	add("reconcile.finding", "settled reconcile: one difference", audit.Discrepancy{}).Properties["kind"].Enum = anyOf(audit.FindingKinds())
	add("reconcile.summary", "settled reconcile: the summary, its last line", audit.Summary{}).Properties["kind"].Enum = []any{"summary"}
	add("cosign", "settled cosign: one answered request", cosigner.Result{}).Properties["answer"].Enum = []any{"signed", "refused", "waiting"}
	add("config.check", "settled config check", configCheckResult{})
	schemas["command.config.print"] = configValues()
	add("doctor", "settled doctor: one check", doctor.Finding{}).Properties["result"].Enum = []any{doctor.OK, doctor.Note, doctor.Warn, doctor.Fail, doctor.Skipped}
	add("bench", "settled bench: the measurements", bench.Report{})
	add("policy.list", "settled policy list: the policy of one scenario", listedPolicy{}).Properties["origin"].Enum = []any{"built-in", "configured"}
	add("policy.explain", "settled policy explain: what an outcome pays, and how that follows", policies.Explanation{}).Properties["would"].Enum = []any{"close", "fail", "wait"}
	add("policy.test.case", "settled policy test: the result of one case", policies.Result{}).Properties["kind"].Enum = []any{"case"}
	add("policy.test.summary", "settled policy test: the summary, its last line", policies.Summary{}).Properties["kind"].Enum = []any{"summary"}
	add("policy.backtest", "settled policy backtest: a session of which somebody would have received something else, or that can't be compared", policies.Comparison{}).Properties["kind"].Enum = []any{policies.KindDifference, policies.KindNotComparable}
	add("policy.backtest.summary", "settled policy backtest: the summary, its last line", policies.Totals{}).Properties["kind"].Enum = []any{policies.KindSummary}
	add("demo", "settled demo: the result of one outcome", demo.Result{})
	add("sim", "settled sim: where the simulated node listens", simResult{})
	add("sim.open", "settled sim open: one opened session", openedSession{})
	add("version", "settled version", telemetry.BuildInfo{})
	add("schema", "settled schema: one schema", schemaListing{})
	return schemas
}

// microSchemas are the schemas of requests and answers of the micro service.
func microSchemas() map[string]*schematest.Schema {
	schemas := map[string]*schematest.Schema{"micro.question": schematest.Of(status.Question{}), "micro.plan": schematest.Of(status.Forecast{}), "micro.waiting": schematest.Of(status.Progress{})}
	for name, title := range map[string]string{"micro.question": "Request to settled.status and settled.waiting", "micro.plan": "Answer of settled.plan: what an outcome would lead to", "micro.waiting": "Answer of settled.waiting: why an outcome waits"} {
		schemas[name].Title = title
	}
	return schemas
}

// inputSchemas are the schemas of files that commands read, and of settled's own records.
func inputSchemas() map[string]*schematest.Schema {
	cases := schematest.Of(policies.Cases{})
	cases.Title = "Cases for settled policy test"
	schemas := map[string]*schematest.Schema{"policy.cases": cases}
	for name, document := range map[string]struct {
		title string
		value any
	}{
		"manifest.header":                {"First line of a manifest of sealed segments", ledger.ManifestHeader{}},
		"manifest.segment":               {"Further line of a manifest: a sealed segment", ledger.SealedSegment{}},
		"operation.reconcile-lease":      {"Lease of the hourly reconciliation, on operation.reconcile-lease", operations.Holder{}},
		"operation.reconcile-checkpoint": {"State of the hourly reconciliation, on operation.reconcile-checkpoint", audit.Checkpoint{}},
	} {
		schemas[name] = schematest.Of(document.value)
		schemas[name].Title = document.title
	}
	for _, name := range []string{"entries", "pending", "disagreed", "unreadable", "gaps", "unrequested", "counts"} { // null if there is none
		member := schemas["operation.reconcile-checkpoint"].Properties[name]
		member.Types, member.Type = []string{"null", member.Type}, ""
	}
	return schemas
}

// configValues is what settled config print shows: every key with its value.
func configValues() *schematest.Schema {
	s := &schematest.Schema{Type: "object", Properties: map[string]*schematest.Schema{}, AdditionalProperties: schematest.Nothing()}
	s.Title = "settled config print: every key with its value"
	help := map[string]string{}
	for _, k := range new(config.Config).Keys() {
		help[k.Name] = k.Help
	}
	values := (&config.Config{Policies: settlement.BuiltIn()}).Values()
	numbers := (&config.Config{NodeConnections: 1}).Values()
	for _, name := range slices.Sorted(maps.Keys(values)) {
		member := schematest.Of(values[name])
		if values[name] == "auto" { // or a number
			member = &schematest.Schema{AnyOf: []*schematest.Schema{{Enum: []any{"auto"}}, schematest.Of(numbers[name])}}
		}
		member.Description = help[name]
		s.Properties[name] = member
		s.Required = append(s.Required, name)
	}
	return s
}

func anyOf(texts []string) (values []any) {
	for _, text := range texts {
		values = append(values, text)
	}
	return values
}

// printed is, for each command, the schemas of the lines that it prints with --output json.
// A command without schemas prints no JSON.
var printed = map[string][]string{
	"bench":              {"command.bench"},
	"config check":       {"command.config.check"},
	"config print":       {"command.config.print"},
	"config sample":      nil,
	"cosign":             {"command.cosign"},
	"deadletter discard": {"command.deadletter.discard"},
	"deadletter list":    {"command.deadletter.list"},
	"deadletter replay":  {"command.deadletter.replay", "command.deadletter.replay.dry-run"},
	"deadletter show":    {"command.deadletter.show"},
	"demo":               append([]string{"command.demo"}, schematest.EntryKinds...),
	"doctor":             {"command.doctor"},
	"ledger export":      {"command.ledger.export", "command.ledger.export.row"},
	"ledger list":        {"command.ledger.list"},
	"ledger seal":        {"command.ledger.seal"},
	"ledger show":        schematest.EntryKinds,
	"ledger verify":      {"command.ledger.verify"},
	"policy backtest":    {"command.policy.backtest", "command.policy.backtest.summary"},
	"policy explain":     {"command.policy.explain"},
	"policy list":        {"command.policy.list"},
	"policy test":        {"command.policy.test.case", "command.policy.test.summary"},
	"publish":            append([]string{"command.publish", "command.publish.dry-run", "command.publish.batch", "command.publish.batch.dry-run"}, schematest.EntryKinds...),
	"reconcile":          {"command.reconcile.finding", "command.reconcile.summary"},
	"resume":             {"command.resume"},
	"schema":             {"command.schema"},
	"serve":              nil,
	"sim":                {"command.sim", "command.sim.open"},
	"sim open":           {"command.sim.open"},
	"status":             {"command.status"},
	"stop":               {"command.stop"},
	"version":            {"command.version"},
	"watch":              schematest.EntryKinds,
}

// TestEveryCommandHasASchema: no command prints JSON without one, and none of its schemas is
// printed by no command.
func TestEveryCommandHasASchema(t *testing.T) {
	used := map[string]bool{}
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		name := strings.TrimPrefix(c.CommandPath(), "settled ")
		schemas, known := printed[name]
		if !c.HasSubCommands() && !c.Hidden && !known {
			t.Errorf("settled %s: name its schemas, or none", name)
		}
		for _, s := range schemas {
			used[s] = true
			if !contract.Has(s) {
				t.Errorf("settled %s: there is no schema %s", name, s)
			}
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(newRoot(terminal.New(strings.NewReader(""), io.Discard, io.Discard)))
	for name := range outputSchemas() {
		if !used[name] {
			t.Errorf("no command prints %s", name)
		}
	}
}

// TestSchemasRefuseUnknownMembers: a document of settled with one member more is refused, at
// any depth: a member that is added in code needs one in the schema.
func TestSchemasRefuseUnknownMembers(t *testing.T) {
	written := maps.Clone(outputSchemas())
	maps.Copy(written, schematest.EntrySchemas())
	written["operation"] = schematest.OperationSchema()
	for name, s := range written {
		checkClosed(t, name, s)
	}
}

// open are the objects whose members are not settled's: a publisher's event and headers.
var open = []string{"command.publish.dry-run.event", "command.deadletter.show.payload", "command.deadletter.show.ledger.entries"}

func checkClosed(t *testing.T, name string, s *schematest.Schema) {
	t.Helper()
	if s.Properties != nil && s.AdditionalProperties == nil {
		t.Errorf("%s accepts members that it does not describe", name)
	}
	isAny := s.Type == "" && s.Types == nil && s.Enum == nil && s.Const == nil && s.AnyOf == nil && s.OneOf == nil
	if isAny && !slices.Contains(open, name) {
		t.Errorf("%s accepts anything", name)
	}
	for member, sub := range s.Properties {
		checkClosed(t, name+"."+member, sub)
	}
	if s.Items != nil {
		checkClosed(t, name, s.Items)
	}
}

// checkDocument fails unless a document is as one of the schemas describes it.
func checkDocument(t testing.TB, document []byte, names ...string) {
	t.Helper()
	if err := matchesOne(document, names); err != nil {
		t.Error(err)
	}
}

// matchesOne returns nil if a document is as one of the schemas describes it.
func matchesOne(document []byte, names []string) error {
	var last error
	for _, name := range names {
		if last = contract.Check(name, document); last == nil {
			return nil
		}
	}
	return fmt.Errorf("%w: %.2000s", last, document)
}

// TestAsyncAPI compares deploy/asyncapi.json with the code and with the permissions in
// deploy/nats. `make contract` validates it with AsyncAPI's own parser.
func TestAsyncAPI(t *testing.T) {
	var permissions strings.Builder
	for _, file := range []string{"settled.conf", "roles.conf", "cosign-accounts.conf"} {
		text, err := os.ReadFile("../../deploy/nats/" + file)
		must(t, err)
		permissions.Write(text)
	}
	schemas := microSchemas()
	schemas["cosign.proposal"], schemas["cosign.answer"], schemas["command.status"] = schematest.Of(clearnode.Proposal{}), schematest.Of(cosigner.CosignAnswer{}), outputSchemas()["command.status"]
	for _, name := range []string{"operation.reconcile-lease", "operation.reconcile-checkpoint"} {
		schemas[name] = inputSchemas()[name]
	}
	text := schematest.AsyncAPI(permissions.String(), schemas)
	var indented bytes.Buffer
	must(t, json.Indent(&indented, text, "", "  "))
	golden(t, "../../deploy/asyncapi.json", indented.String()+"\n")
}
