package main

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"settled/settlement"
)

func (p *program) configCommand() *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Check and print the configuration"}
	c.AddCommand(
		&cobra.Command{
			Use: "check", Short: "Read the configuration and say what is wrong with it",
			Long: "Reads the configuration, and the files that it names, and refuses what `settled serve` would refuse, with the\nsame words. It connects to nothing.",
			RunE: func(cmd *cobra.Command, _ []string) error { return p.configCheck(cmd) },
		},
		&cobra.Command{
			Use: "print", Short: "Print every key with the value it has, as a configuration file",
			RunE: func(cmd *cobra.Command, _ []string) error { return p.configPrint(cmd) },
		},
		&cobra.Command{
			Use: "sample", Short: "Print a sample configuration file with every key explained",
			RunE: func(*cobra.Command, []string) error { return p.printLine(strings.TrimSuffix(sampleConfig(), "\n")) },
		},
	)
	return c
}

func (p *program) configCheck(cmd *cobra.Command) error {
	c, warnings, err := p.load(cmd)
	if err != nil {
		return err
	}
	if _, err := c.newLog(p.stderr); err != nil {
		return err
	}
	if _, err := c.checkService(); err != nil {
		return err
	}
	result := struct {
		OK       bool     `json:"ok"`
		Warnings []string `json:"warnings"`
		Policies []string `json:"policies"`
		Limits   int      `json:"limits"`
	}{true, append([]string{}, warnings...), c.scenarios(), len(c.limits)}
	text := "The configuration is sound. Scenarios: " + strings.Join(result.Policies, ", ") + "."
	for _, l := range c.limits {
		text += "\nlimit: " + l.String()
	}
	for _, w := range warnings {
		text += "\nwarning: " + w
	}
	return p.print(result, text)
}

func (c *config) scenarios() []string {
	var names []string
	for scenario := range c.policies {
		names = append(names, string(scenario))
	}
	slices.Sort(names)
	return names
}

func (p *program) configPrint(cmd *cobra.Command) error {
	c, _, err := p.load(cmd)
	if err != nil {
		return err
	}
	if p.json() {
		values := map[string]any{"policies": c.policySteps(), "limits": append(settlement.Limits{}, c.limits...)}
		for _, k := range c.keys() {
			values[k.name] = k.plain()
		}
		return p.printJSON(values)
	}
	var b strings.Builder
	b.WriteString(yamlOf(c.keys(), key.text, c.policySteps(), false))
	writeLimits(&b, c.limits)
	return p.printLine(strings.TrimSuffix(b.String(), "\n"))
}

// policySteps are the policies in force, by scenario.
func (c *config) policySteps() map[string][]settlement.PolicyStep {
	steps := map[string][]settlement.PolicyStep{}
	for scenario, p := range c.policies {
		steps[string(scenario)] = p.Steps
	}
	return steps
}

// public is a text value as it may be shown.
func (k key) public(value string) string {
	if strings.HasSuffix(k.name, ".url") {
		return withoutPassword(value)
	}
	return value
}

// plain is the key's value as JSON shows it; times as text, as the file has them.
func (k key) plain() any {
	switch v := k.value.(type) {
	case *string:
		return k.public(*v)
	case *bool:
		return *v
	case *int:
		return *v
	case *float64:
		return *v
	case *time.Duration:
		return v.String()
	case *[]string:
		return append([]string{}, *v...)
	}
	return nil
}

// withoutPassword hides what a URL, or a list of them, says of its user, and the
// values of its query: tokens are passed there. A URL may lack its scheme.
func withoutPassword(value string) string {
	if !strings.ContainsAny(value, "@?") {
		return value
	}
	parts := strings.Split(value, ",")
	for i, part := range parts {
		parts[i] = publicURL(part)
	}
	return strings.Join(parts, ",")
}

func publicURL(text string) string {
	bare := !strings.Contains(text, "://")
	if bare {
		text = "nats://" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		return "(unreadable URL)"
	}
	if u.User != nil {
		u.User = url.User("xxxxx")
	}
	if u.RawQuery != "" {
		u.RawQuery = "xxxxx"
	}
	if bare {
		return strings.TrimPrefix(u.String(), "nats://")
	}
	return u.String()
}

// text is the key's value as the file has it.
func (k key) text() string {
	switch v := k.value.(type) {
	case *string:
		return yamlText(k.public(*v))
	case *[]string:
		quoted := make([]string, len(*v))
		for i, s := range *v {
			quoted[i] = yamlText(s)
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	default:
		return fmt.Sprint(k.plain())
	}
}

// sampleText is the key's default as the file would have it.
func (k key) sampleText() string {
	switch k.value.(type) {
	case *string:
		return yamlText(k.fallback)
	case *[]string:
		return "[]"
	default:
		return k.fallback
	}
}

func yamlText(s string) string { return fmt.Sprintf("%q", s) }

// sampleConfig is a configuration file with every key, its default and what it
// means. deploy/settled.yaml is this text, and a test keeps it so.
func sampleConfig() string {
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
	return head + yamlOf(new(config).keys(), key.sampleText, nil, true) + tail + limitsSample
}

// builtInSteps are the steps of the built-in policies, by scenario.
func builtInSteps() map[string][]settlement.PolicyStep {
	return (&config{policies: settlement.BuiltIn()}).policySteps()
}

// yamlOf writes keys as nested YAML, with their help as comments or without.
func yamlOf(keys []key, text func(key) string, policies map[string][]settlement.PolicyStep, help bool) string {
	var b strings.Builder
	var open []string // the sections we are in
	for _, k := range keys {
		path := strings.Split(k.name, ".")
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
			fmt.Fprintf(&b, "%s# %s\n", indent, k.help)
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
