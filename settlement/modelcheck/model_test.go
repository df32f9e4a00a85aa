package main

import (
	"slices"
	"testing"
)

// Every rule switched off has to be noticed, however many states that takes. With all
// rules on the first states of each case are visited, and make model visits the others.
// With -short fewer: the race detector makes each ten times as slow.
func TestModel(t *testing.T) {
	for _, k := range cases() {
		limit := 500_000
		if k.Want == "" {
			limit = 25_000
			if testing.Short() && !slices.Contains([]string{"loop", "loop/v1", "foreign"}, k.Name) {
				continue
			}
		}
		t.Run(k.Name, func(t *testing.T) {
			t.Parallel()
			r, err := k.run(limit)
			if err != nil {
				t.Fatal(err)
			}
			if why := k.wrong(r); why != "" && (k.Want != "" || r.Bad != "") {
				t.Errorf("%s; the way there:", why)
				for i, label := range r.Trace {
					t.Errorf("%3d %s", i+1, label)
				}
			}
		})
	}
}

// Every rule has a case in which it is off and something breaks: a rule that
// prevents nothing is none.
func TestEveryRuleIsNeeded(t *testing.T) {
	for _, f := range ruleFields {
		if rule := f.Tag.Get("rule"); !slices.ContainsFunc(cases(), func(k check) bool { return k.Off == rule && k.Want != "" }) {
			t.Errorf("no case switches off the rule %s", rule)
		}
	}
}

func TestUnknownRule(t *testing.T) {
	if _, err := allBut("nothing"); err == nil {
		t.Error("a rule that is not there was switched off")
	}
}
