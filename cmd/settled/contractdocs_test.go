package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/runbook"
	"settled/cmd/settled/internal/schematest"
	"settled/consumer/cloudevent"
	"settled/settlement"
)

// TestContractDocs compares the generated tables of the documents with the code.
func TestContractDocs(t *testing.T) {
	outcome := schematest.OutcomeSchemas()["outcome.data"]
	goldenBlock(t, "../../consumer/OUTCOMES.md", "members of the data: make docs writes them", outcomeMembers(outcome))
	goldenBlock(t, "../../consumer/OUTCOMES.md", "examples: make docs writes them", outcomeExamples())
	goldenBlock(t, "../../ledger/ENTRIES.md", "members of entries: make docs writes them", entryMemberTable())
	goldenBlock(t, "../../ledger/ENTRIES.md", "codes: make docs writes them", codeTable())
	goldenBlock(t, "../../deploy/API.md", "commands: make docs writes them", commandTable())
	goldenBlock(t, "../../deploy/API.md", "metrics: make docs writes them", metricTable(t))
	goldenBlock(t, "../../deploy/API.md", "configuration: make docs writes it", configurationTable())
	goldenBlock(t, "../../deploy/API.md", "schemas: make docs writes them", schemaTable(t))
}

// goldenBlock compares the text after a marker in a document with what it is generated from.
func goldenBlock(t *testing.T, path, marker, want string) {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	begin := "<!-- " + marker + " -->\n"
	before, rest, found := strings.Cut(string(text), begin)
	_, after, ended := strings.Cut(rest, "<!-- end -->\n")
	if !found || !ended {
		t.Fatalf("%s has no place for: %s", path, marker)
	}
	golden(t, path, before+begin+want+"<!-- end -->\n"+after)
}

// table is a table in Markdown.
func table(header string, rows [][]string) string {
	var b strings.Builder
	line := func(cells []string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	names := strings.Split(header, ",")
	line(names)
	b.WriteString(strings.Repeat("|---", len(names)) + "|\n")
	for _, row := range rows {
		for i := range row {
			row[i] = strings.ReplaceAll(strings.ReplaceAll(row[i], "|", `\|`), "\n", " ")
		}
		line(row)
	}
	return b.String()
}

func outcomeMembers(s *schematest.Schema) string {
	var rows [][]string
	var add func(prefix string, s *schematest.Schema)
	add = func(prefix string, s *schematest.Schema) {
		for _, name := range s.PropertyOrder {
			m := s.Properties[name]
			rows = append(rows, []string{"`" + prefix + name + "`", memberType(m), memberLimits(m), m.Description})
			switch {
			case m.Properties != nil:
				add(prefix+name+".", m)
			case m.Items != nil && m.Items.Properties != nil:
				add(prefix+name+"[].", m.Items)
			}
			for _, rows := range m.AnyOf {
				if rows.Items != nil {
					add(prefix+name+"[].", rows.Items)
				}
			}
		}
	}
	add("", s)
	seen := map[string]bool{} // participant is in both kinds of award
	rows = slices.DeleteFunc(rows, func(row []string) bool {
		twice := seen[row[0]]
		seen[row[0]] = true
		return twice
	})
	return table("member,type,limit,meaning", rows)
}

func memberType(s *schematest.Schema) string {
	switch {
	case s.Pattern == schematest.DecimalPattern || s.Pattern == schematest.FractionPattern:
		return "decimal string"
	case s.Pattern == schematest.AddressPattern:
		return "address"
	case s.Type == "array" && s.Items != nil && s.Items.Type == "string":
		return "list of strings"
	case s.Type == "array":
		return "list of objects"
	case s.Type == "integer":
		return "whole number"
	default:
		return s.Type
	}
}

func memberLimits(s *schematest.Schema) string {
	var limits []string
	if s.MaxItems != nil {
		limits = append(limits, fmt.Sprintf("%d elements", *s.MaxItems))
	}
	if s.Items != nil && s.Items.MaxLength != nil {
		limits = append(limits, fmt.Sprintf("%d bytes each", *s.Items.MaxLength))
	}
	switch {
	case s.Pattern == schematest.FractionPattern:
		limits = append(limits, "0 to 1")
	case s.MaxLength != nil:
		limits = append(limits, fmt.Sprintf("%d bytes", *s.MaxLength))
	case strings.Contains(s.Pattern, "{1,64}"):
		limits = append(limits, "1 to 64 bytes, printable, no spaces")
	}
	return strings.Join(limits, ", ")
}

func outcomeExamples() string {
	var b strings.Builder
	for _, scenario := range []settlement.Scenario{settlement.PaymentCompleted, settlement.GameCompleted, settlement.PartialService, settlement.Cancellation, settlement.DisputeResolved} {
		fmt.Fprintf(&b, "`%s`:\n\n```json\n%s\n```\n\n", scenario, schematest.ExampleData(scenario))
	}
	return "\n" + b.String()
}

func entryMemberTable() string {
	descriptions := schematest.Of(settlement.Entry{}).Properties
	var rows [][]string
	for _, m := range schematest.EntryMembers {
		row := []string{"`" + m.Name + "`"}
		for _, kind := range m.Kinds {
			row = append(row, strings.ReplaceAll(string(kind), "r", "R"))
		}
		meaning := descriptions[m.Name].Description
		members := descriptions[m.Name].Properties
		if items := descriptions[m.Name].Items; items != nil && items.Properties != nil {
			members = items.Properties
		}
		for i, name := range slices.Sorted(maps.Keys(members)) {
			separator := ", "
			if i == 0 {
				separator = ": "
			}
			meaning += separator + "`" + name + "`"
		}
		rows = append(rows, append(row, strings.TrimPrefix(meaning, ": ")))
	}
	return table("member,closing,closed,failed,session unknown,meaning", rows)
}

func codeTable() string {
	var rows [][]string
	for _, code := range settlement.Codes() {
		means, _, _ := strings.Cut(runbook.Codes()[code].Means+" ", ". ")
		rows = append(rows, []string{fmt.Sprintf("[`%s`](../deploy/RUNBOOK.md#%s)", code, code), string(code.Class()), strings.TrimSuffix(means, ".")})
	}
	return table("code,class,meaning", rows)
}

func commandTable() string {
	var rows [][]string
	for _, name := range slices.Sorted(maps.Keys(printed)) {
		if len(printed[name]) > 0 {
			text := "`" + strings.Join(printed[name], "`, `") + "`"
			text = strings.Replace(text, "`"+strings.Join(schematest.EntryKinds, "`, `")+"`", "an entry (`settlement.…`)", 1)
			rows = append(rows, []string{"`settled " + name + "`", text})
		}
	}
	return table("command,schemas of its lines", rows)
}

// metricTable lists the metrics that the sources declare.
func metricTable(t *testing.T) string {
	declared := regexp.MustCompile(`(?:Name: )?"(settled_[a-z_]+)",\s*(?:Help: )?(?:fmt\.Sprintf\()?"((?:[^"\\]|\\.)*)"`)
	found := map[string]string{}
	files, err := filepath.Glob("internal/*/*.go")
	must(t, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		must(t, err)
		for _, m := range declared.FindAllStringSubmatch(string(text), -1) {
			found[m[1]] = strings.ReplaceAll(m[2], "%d", "a fixed number")
		}
	}
	var rows [][]string
	for _, name := range slices.Sorted(maps.Keys(found)) {
		rows = append(rows, []string{"`" + name + "`", found[name]})
	}
	return table("metric,meaning", rows)
}

func configurationTable() string {
	var rows [][]string
	for _, k := range new(config.Config).Keys() {
		value := "none"
		if k.Default != "" {
			value = "`" + k.Default + "`"
		}
		rows = append(rows, []string{"`" + k.Name + "`", value, k.Help})
	}
	return table("key,default,meaning", rows)
}

func schemaTable(t *testing.T) string {
	schemas, err := listSchemas()
	must(t, err)
	var rows [][]string
	for _, s := range schemas {
		rows = append(rows, []string{"`" + s.Name + "`", s.Title})
	}
	return table("name,describes", rows)
}

// TestAPIDocument: every route and every metric has its place in API.md.
func TestAPIDocument(t *testing.T) {
	document, err := os.ReadFile("../../deploy/API.md")
	must(t, err)
	routes, err := os.ReadFile("dashboard/routes.go")
	must(t, err)
	found := regexp.MustCompile(`"((?:GET|POST) /[^"]*)": `).FindAllStringSubmatch(string(routes), -1)
	if len(found) < 10 {
		t.Errorf("only %d routes are found in routes.go", len(found))
	}
	for _, route := range found {
		if !bytes.Contains(document, []byte("| `"+route[1]+"` |")) {
			t.Errorf("API.md does not describe %s", route[1])
		}
	}
	for _, name := range regexp.MustCompile("`(api\\.[a-z]+)`").FindAllStringSubmatch(string(document), -1) {
		if !contract.Has(name[1]) {
			t.Errorf("API.md names %s, which is no schema", name[1])
		}
	}
}

// TestExamples: the examples of the documents are what settled accepts, and what the schemas
// describe.
func TestExamples(t *testing.T) {
	var events, data []string
	for _, file := range []string{"README.md", "consumer/OUTCOMES.md", "ledger/ENTRIES.md"} {
		text, err := os.ReadFile("../../" + file)
		must(t, err)
		for _, block := range regexp.MustCompile("(?s)```json\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
			switch {
			case strings.Contains(block[1], `"specversion"`):
				events = append(events, block[1])
			case strings.HasPrefix(block[1], `{"session_id"`):
				data = append(data, block[1])
			}
		}
		for _, argument := range regexp.MustCompile(`(?s)'(\{\n? *"specversion".*?)'`).FindAllStringSubmatch(string(text), -1) {
			events = append(events, argument[1])
		}
	}
	for i, scenario := range []settlement.Scenario{settlement.PaymentCompleted, settlement.GameCompleted, settlement.PartialService, settlement.Cancellation, settlement.DisputeResolved} {
		if len(data) != 5 {
			t.Fatalf("%d examples of data", len(data))
		}
		checkDocument(t, []byte(data[i]), "outcome.data."+string(scenario))
		event, err := json.Marshal(map[string]any{"specversion": "1.0", "id": "1", "source": "/shop", "type": "outcome." + scenario, "data": json.RawMessage(data[i])})
		must(t, err)
		events = append(events, string(event))
	}
	if len(events) < 6 {
		t.Errorf("%d examples of events", len(events))
	}
	for _, event := range events {
		checkDocument(t, []byte(event), "outcome.event")
		var attributes struct{ Type string }
		must(t, json.Unmarshal([]byte(event), &attributes))
		o, err := settlement.ParseOutcome(cloudevent.Read(attributes.Type, nil, []byte(event), "OUTCOMES", 1, ""))
		if err == nil {
			if f := settlement.BuiltIn().Check(o, nil); f != nil {
				err = f
			}
		}
		if err != nil {
			t.Errorf("%v: %s", err, event)
		}
	}
}
