package main

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
)

type grafanaPanel struct {
	ID          int
	Type        string
	Title       string
	Description string
	Datasource  struct{ UID string }
	GridPos     struct{ X, Y, W, H int }
	Targets     []struct {
		Expr       string
		Datasource struct{ UID string }
	}
}

func grafana(t *testing.T) []grafanaPanel {
	t.Helper()
	text, err := os.ReadFile("../../deploy/grafana/settled.json")
	must(t, err)
	var dashboard struct {
		UID, Title    string
		SchemaVersion int
		Panels        []grafanaPanel
		Templating    struct {
			List []struct{ Name, Type, Query any }
		}
	}
	must(t, json.Unmarshal(text, &dashboard))
	var variables []string
	for _, v := range dashboard.Templating.List {
		variables = append(variables, v.Name.(string)+" "+v.Type.(string))
	}
	if want := []string{"datasource datasource", "job query", "instance query"}; !slices.Equal(variables, want) {
		t.Errorf("the variables are %q, want %q", variables, want)
	}
	if dashboard.UID != "settled" || dashboard.SchemaVersion < 39 || len(dashboard.Panels) < 20 {
		t.Errorf("%s, schema %d, %d panels", dashboard.UID, dashboard.SchemaVersion, len(dashboard.Panels))
	}
	return dashboard.Panels
}

// Each panel asks the chosen data source for metrics that settled has, and stands
// beside the others, not on them.
func TestGrafana(t *testing.T) {
	known := ourMetrics(t)
	panels := grafana(t)
	shown := ""
	for i, p := range panels {
		for _, other := range panels[:i] {
			a, b := p.GridPos, other.GridPos
			if a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H || p.ID == other.ID {
				t.Errorf("%s and %s are in each other's way", p.Title, other.Title)
			}
		}
		if p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("%s goes beyond the page", p.Title)
		}
		if p.Type == "row" {
			continue
		}
		if p.Title == "" || p.Description == "" || len(p.Targets) == 0 || p.Datasource.UID != "${datasource}" {
			t.Errorf("panel %d (%s) has no title, description, data source or query", p.ID, p.Title)
		}
		for _, target := range p.Targets {
			shown += target.Expr + "\n"
			if !strings.Contains(target.Expr, `job="$job"`) || target.Datasource.UID != "${datasource}" {
				t.Errorf("%s does not go by the variables: %s", p.Title, target.Expr)
			}
			for _, wrong := range checkExpr(target.Expr, known) {
				t.Errorf("%s: %s", p.Title, wrong)
			}
		}
	}
	for _, name := range known {
		base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum"), "_count")
		if strings.HasPrefix(name, "settled_") && !strings.Contains(shown, base) {
			t.Errorf("no panel shows %s", name)
		}
	}
}
