package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v3"

	"settled/cmd/settled/internal/telemetry"
	"settled/settlement"
)

type alertRule struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func alertRules(t *testing.T) []alertRule {
	t.Helper()
	text, err := os.ReadFile("../../deploy/prometheus/settled.rules.yaml")
	must(t, err)
	var file struct {
		Groups []struct{ Rules []alertRule }
	}
	must(t, yaml.Unmarshal(text, &file))
	var rules []alertRule
	for _, g := range file.Groups {
		rules = append(rules, g.Rules...)
	}
	if len(rules) == 0 {
		t.Fatal("no rules")
	}
	return rules
}

// Each alert has its section in the runbook, and each section its alert.
func TestAlertsAndRunbook(t *testing.T) {
	text, err := os.ReadFile("../../deploy/RUNBOOK.md")
	must(t, err)
	_, part, _ := strings.Cut(string(text), "\n## Alerts\n")
	part, _, _ = strings.Cut(part, "\n## ")
	sections := map[string]string{}
	for _, s := range strings.Split(part, "\n### ")[1:] {
		name, body, _ := strings.Cut(s, "\n")
		sections[name] = body
	}
	for _, r := range alertRules(t) {
		body, found := sections[r.Alert]
		for _, word := range []string{"**Means**", "**Look at**", "**Do**", "`"} {
			if !found || !strings.Contains(body, word) {
				t.Errorf("the runbook's section of %s (there: %t) has no %s", r.Alert, found, word)
			}
		}
		if want := "deploy/RUNBOOK.md#" + strings.ToLower(r.Alert); r.Annotations["runbook"] != want {
			t.Errorf("%s: runbook is %q, want %q", r.Alert, r.Annotations["runbook"], want)
		}
		if s := r.Labels["severity"]; s != "page" && s != "ticket" {
			t.Errorf("%s: severity is %q", r.Alert, s)
		}
		delete(sections, r.Alert)
	}
	for name := range sections {
		t.Errorf("the runbook has a section of %s, which is no alert", name)
	}
}

// Each alert has a test, in which it fires.
func TestAlertsAreTested(t *testing.T) {
	text, err := os.ReadFile("../../deploy/prometheus/tests.yaml")
	must(t, err)
	for _, r := range alertRules(t) {
		if !regexp.MustCompile(`alertname: ` + r.Alert + `\n\s+exp_alerts:`).Match(text) {
			t.Errorf("no test in which %s fires", r.Alert)
		}
	}
}

// The metrics in the alerts' expressions are ours, and so are the codes, reasons,
// stages and states they look for.
func TestAlertsUseOurMetrics(t *testing.T) {
	known := ourMetrics(t)
	for _, r := range alertRules(t) {
		for _, wrong := range checkExpr(r.Expr, known) {
			t.Errorf("%s: %s", r.Alert, wrong)
		}
	}
}

// ourMetrics are the names of the metrics of a service, as Prometheus stores them.
func ourMetrics(t *testing.T) []string {
	t.Helper()
	d := deploy(t)
	s, _ := d.serve()
	descriptions := make(chan *prometheus.Desc)
	go func() {
		defer close(descriptions)
		s.Metrics.Registry.Describe(descriptions)
	}()
	var names []string
	for d := range descriptions {
		name := regexp.MustCompile(`fqName: "([a-z_]+)"`).FindStringSubmatch(d.String())[1]
		names = append(names, name)
		if strings.HasSuffix(name, "_seconds") || name == "settled_settlement_attempts" {
			names = append(names, name+"_bucket", name+"_sum", name+"_count")
		}
	}
	return names
}

var (
	metricName = regexp.MustCompile(`\b(settled_[a-z_]+)\b`)
	matcher    = regexp.MustCompile(`\b(code|reason|stage|state|result|disposition)(=~|!~|=|!=)"([^"]*)"`)
)

// checkExpr says what is wrong with an expression. A text in a matcher that settled never writes
// would make an alert that never fires, or a panel that stays empty.
func checkExpr(expr string, known []string) (wrong []string) {
	for _, name := range metricName.FindAllString(expr, -1) {
		if !slices.Contains(known, name) {
			wrong = append(wrong, "settled has no metric "+name)
		}
	}
	values := labelValues()
	for _, m := range matcher.FindAllStringSubmatch(expr, -1) {
		for value := range strings.SplitSeq(m[3], "|") {
			if !slices.Contains(values[m[1]], value) {
				wrong = append(wrong, fmt.Sprintf("%s is never %q", m[1], value))
			}
		}
	}
	return wrong
}

func labelValues() map[string][]string {
	values := map[string][]string{
		"stage":       telemetry.Stages(),
		"state":       {"closing", "closed", "failed"},
		"result":      {telemetry.AppendStored, telemetry.AppendMoved, telemetry.AppendHeld, telemetry.AppendUnknown},
		"disposition": {"ack", "term", "nak", "withheld"},
		"reason":      {"in_doubt", "node_away", "escrow_pending", "unknown_refusal"},
		"code":        {""},
	}
	for _, code := range settlement.Codes() {
		values["code"] = append(values["code"], string(code))
	}
	return values
}

// A typing error in an expression is found.
func TestCheckExpr(t *testing.T) {
	for _, expr := range []string{`settled_nonsense > 0`, `settled_ready{reason="in_doubts"}`, `settled_ready{code=~"overpaid|overpayed"}`} {
		if len(checkExpr(expr, []string{"settled_ready"})) != 1 {
			t.Errorf("%s passes", expr)
		}
	}
}
