package config

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"settled/settlement"
)

func (c *Config) Scenarios() []string {
	var names []string
	for scenario := range c.Policies {
		names = append(names, string(scenario))
	}
	slices.Sort(names)
	return names
}

// IsConfigured reports whether the policy of a scenario comes from the configuration file.
func (c *Config) IsConfigured(scenario settlement.Scenario) bool {
	return slices.Contains(c.overrides, string(scenario))
}

// policySteps are the policies in force, by scenario.
func (c *Config) policySteps() map[string][]settlement.PolicyStep {
	steps := map[string][]settlement.PolicyStep{}
	for scenario, p := range c.Policies {
		steps[string(scenario)] = p.Steps
	}
	return steps
}

// redact is a text value as it may be shown.
func (k Key) redact(value string) string {
	if strings.HasSuffix(k.Name, ".url") {
		return RedactURL(value)
	}
	return value
}

// jsonValue is the key's value as JSON shows it; times as text, as the file has them.
func (k Key) jsonValue() any {
	switch v := k.value.(type) {
	case *string:
		return k.redact(*v)
	case *bool:
		return *v
	case *int:
		return *v
	case *AutoInt:
		if *v == 0 {
			return v.String()
		}
		return int(*v)
	case *float64:
		return *v
	case *time.Duration:
		return v.String()
	case *[]string:
		return append([]string{}, *v...)
	}
	return nil
}

// YAMLValue is the key's value as the file has it.
func (k Key) YAMLValue() string {
	switch v := k.value.(type) {
	case *string:
		return yamlText(k.redact(*v))
	case *[]string:
		quoted := make([]string, len(*v))
		for i, s := range *v {
			quoted[i] = yamlText(s)
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	default:
		return fmt.Sprint(k.jsonValue())
	}
}

// yamlDefault is the key's default as the file would have it.
func (k Key) yamlDefault() string {
	switch k.value.(type) {
	case *string:
		return yamlText(k.Default)
	case *[]string:
		return "[]"
	default:
		return k.Default
	}
}

func yamlText(s string) string { return fmt.Sprintf("%q", s) }

// Sample is a configuration file with every key, its default and what it
// means. deploy/settled.yaml is this text, and a test keeps it so.
func Sample() string {
	head := `# settled: every configuration key with its default.
# A value may also come from the environment (SETTLED_NATS_URL for nats.url; lists
# separated by commas) or from a flag (--nats.url=…); the later of file, environment
# and flag wins. Secrets are always paths of files that only their owner can read.
# Written by ` + "`settled config sample`" + `; check yours with ` + "`settled config check`" + `.
`
	tail := `
# Who gets what, by scenario: an ordered list of {to, share}. These replace the
# built-in policy of the same name or add a scenario. to: a role in the outcome's
# parties, an address, funders or awards. share: "2.5%", "0.025", completion or
# remaining. The built-in ones are:
`
	var builtIn strings.Builder
	writePolicies(&builtIn, builtInSteps())
	for line := range strings.Lines(builtIn.String()) {
		tail += "# " + line
	}
	return head + YamlOf(new(Config).Keys(), Key.yamlDefault, nil, true) + tail + limitsSample
}

// builtInSteps are the steps of the built-in policies, by scenario.
func builtInSteps() map[string][]settlement.PolicyStep {
	return (&Config{Policies: settlement.BuiltIn()}).policySteps()
}

// YamlOf writes keys as nested YAML, with their help as comments or without.
func YamlOf(keys []Key, text func(Key) string, policies map[string][]settlement.PolicyStep, help bool) string {
	var b strings.Builder
	var open []string // the current sections
	for _, k := range keys {
		path := strings.Split(k.Name, ".")
		sections, name := path[:len(path)-1], path[len(path)-1]
		same := 0
		for same < len(open) && same < len(sections) && open[same] == sections[same] {
			same++
		}
		if same == 0 && help {
			b.WriteByte('\n')
		}
		for i := same; i < len(sections); i++ {
			fmt.Fprintf(&b, "%s%s:\n", strings.Repeat("  ", i), sections[i])
		}
		open = sections
		indent := strings.Repeat("  ", len(sections))
		if help {
			fmt.Fprintf(&b, "%s# %s\n", indent, k.Help)
		}
		fmt.Fprintf(&b, "%s%s: %s\n", indent, name, text(k))
	}
	writePolicies(&b, policies)
	return b.String()
}

func writePolicies(b *strings.Builder, policies map[string][]settlement.PolicyStep) {
	if len(policies) == 0 {
		return
	}
	names := make([]string, 0, len(policies))
	for name := range policies {
		names = append(names, name)
	}
	slices.Sort(names)
	b.WriteString("policies:\n")
	for _, name := range names {
		fmt.Fprintf(b, "  %s:\n", name)
		for _, s := range policies[name] {
			fmt.Fprintf(b, "    - {to: %q, share: %q}\n", s.To, s.Share)
		}
	}
}

// YAML is the configuration as a file.
func (c *Config) YAML() string {
	var b strings.Builder
	b.WriteString(YamlOf(c.Keys(), Key.YAMLValue, c.policySteps(), false))
	WriteLimits(&b, c.Limits)
	return b.String()
}

// Values are the values of every key, by its name, as JSON shows them.
func (c *Config) Values() map[string]any {
	values := map[string]any{"policies": c.policySteps(), "limits": append(settlement.Limits{}, c.Limits...)}
	for _, k := range c.Keys() {
		values[k.Name] = k.jsonValue()
	}
	return values
}
