package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"settled/settlement"
)

// limits returns the file's limits.
func (f configFile) limits(policies settlement.Policies) (settlement.Limits, error) {
	n := f.nodes["limits"]
	if n == nil {
		return nil, nil
	}
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.SequenceNode {
		return nil, fmt.Errorf("%s:%d: limits: want a list of {asset, scenario, per, amount}", f.path, n.Line)
	}
	var limits settlement.Limits
	for i, entry := range n.Content {
		l, err := parseLimit(entry)
		if err == nil {
			err = checkLimit(l, limits, policies)
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: limit %d: %w", f.path, entry.Line, i+1, err)
		}
		limits = append(limits, l)
	}
	return limits, nil
}

func parseLimit(n *yaml.Node) (settlement.Limit, error) {
	members, err := textMembers(n, "asset", "scenario", "per", "amount")
	if err != nil {
		return settlement.Limit{}, err
	}
	return settlement.ParseLimit(members["asset"], members["scenario"], members["per"], members["amount"])
}

// checkLimit rejects what can have no effect.
func checkLimit(l settlement.Limit, others settlement.Limits, policies settlement.Policies) error {
	if _, known := policies[l.Scenario]; !known && l.Scenario != "" {
		names := slices.Sorted(maps.Keys(policies))
		return fmt.Errorf("no policy named %s: the limit would never apply; there are %v", l.Scenario, names)
	}
	for _, other := range others {
		if other.Asset == l.Asset && other.Scenario == l.Scenario && other.Per == l.Per {
			return fmt.Errorf("%s and %s are on the same: leave one out", other, l)
		}
	}
	return nil
}

// textMembers parses a mapping of these members, each a text and at most once. A YAML
// number is rejected because it would be converted to a float.
func textMembers(n *yaml.Node, names ...string) (map[string]string, error) {
	if n.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("want {%s: …}", strings.Join(names, ": …, "))
	}
	members := map[string]string{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i].Value, n.Content[i+1]
		if value.Kind != yaml.ScalarNode || value.Tag != "!!str" {
			return nil, fmt.Errorf("%s: %s must be text: put it in quotes", name, value.Value)
		}
		if !slices.Contains(names, name) {
			return nil, fmt.Errorf("unknown member %q: want %s", name, strings.Join(names, " and "))
		}
		if _, twice := members[name]; twice {
			return nil, fmt.Errorf("%s stands twice", name)
		}
		members[name] = value.Value
	}
	return members, nil
}

func WriteLimits(b *strings.Builder, limits settlement.Limits) {
	if len(limits) == 0 {
		return
	}
	b.WriteString("limits:\n")
	for _, l := range limits {
		fmt.Fprintf(b, "  - %s\n", l)
	}
}

const limitsSample = `
# Amounts above which nothing is settled: the outcome fails with limit_exceeded, and
# nothing is sent. A list of {asset, scenario, per, amount}; without asset: each asset
# by itself, without scenario: every scenario. per: session is all that one close pays
# of an asset, participant what it pays to any one of them. For example:
# limits:
#   - {asset: "usdc", per: "session", amount: "10000"}
#   - {asset: "usdc", scenario: "dispute_resolved", per: "participant", amount: "500"}
`
