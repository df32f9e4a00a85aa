package settlement

import (
	"fmt"
	"maps"
	"slices"
)

// maxWarnings bounds the warnings about one outcome.
const maxWarnings = 10

// Warnings returns what an outcome states that has no effect: unknown members of its data,
// roles that the policy of its scenario doesn't pay, and a completion or awards that it
// doesn't use. They are in a fixed order, at most 11 of at most 200 bytes each. An outcome
// that fails whatever the session holds has none.
func (p Policies) Warnings(o Outcome) []string {
	policy, known := p[o.Scenario]
	if o.Invalid != nil || !known {
		return nil
	}
	var all []string
	for _, name := range slices.Sorted(slices.Values(o.unknown)) {
		all = append(all, fmt.Sprintf("data: unknown member %s has no effect", Quote(name)))
	}
	roles := map[string]bool{"funder": true} // named for nodes that don't show it, whatever the policy
	completion, awards := false, false
	for _, r := range policy.rules {
		switch r.payee {
		case toRole:
			roles[r.role] = true
		case toAwards:
			awards = true
		}
		completion = completion || r.completion()
	}
	for _, role := range slices.Sorted(maps.Keys(o.Parties)) {
		if !roles[role] {
			all = append(all, fmt.Sprintf("parties: the policy of %s pays no role %s", o.Scenario, Quote(role)))
		}
	}
	if o.Completion != nil && !completion {
		all = append(all, fmt.Sprintf("completion has no effect: the policy of %s has no share completion", o.Scenario))
	}
	if len(o.Awards) > 0 && !awards {
		all = append(all, fmt.Sprintf("awards have no effect: the policy of %s pays no awards", o.Scenario))
	}
	if more := len(all) - maxWarnings; more > 0 {
		all = append(all[:maxWarnings], fmt.Sprintf("and %d more", more))
	}
	return all
}
