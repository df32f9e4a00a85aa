package main

import (
	"slices"
	"testing"
)

// The small cases, and every rule switched off: make model runs them all.
// With -short fewer: the race detector makes each ten times as slow.
func TestModel(t *testing.T) {
	for _, k := range cases() {
		if !k.Quick || testing.Short() && k.Want == "" && !slices.Contains([]string{"loop", "loop/v1", "foreign"}, k.Name) {
			continue
		}
		t.Run(k.Name, func(t *testing.T) {
			t.Parallel()
			r, err := k.run(500_000)
			if err != nil {
				t.Fatal(err)
			}
			if why := k.wrong(r); why != "" {
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
	off := map[string]bool{}
	for _, k := range cases() {
		off[k.Off] = k.Off != "" && k.Want != ""
	}
	names, _ := ruleTexts()
	for _, n := range names {
		if !off[n] {
			t.Errorf("no case switches off the rule %s", n)
		}
	}
}

func TestUnknownRule(t *testing.T) {
	if _, err := allRules().without("nothing"); err == nil {
		t.Error("a rule that is not there was switched off")
	}
}
