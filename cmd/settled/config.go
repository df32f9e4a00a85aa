package main

import (
	"strings"

	"github.com/spf13/cobra"

	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/service"
	"settled/cmd/settled/internal/telemetry"
)

func (p *program) configCommand() *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Check and print the configuration"}
	c.AddCommand(
		&cobra.Command{
			Use: "check", Short: "Validate the configuration",
			Long: "Reads the configuration, and the files that it names, and reports the errors that `settled serve` would report.\nIt connects to nothing.",
			RunE: func(cmd *cobra.Command, _ []string) error { return p.configCheck(cmd) },
		},
		&cobra.Command{
			Use: "print", Short: "Print every key with the value it has, as a configuration file",
			RunE: func(cmd *cobra.Command, _ []string) error { return p.configPrint(cmd) },
		},
		&cobra.Command{
			Use: "sample", Short: "Print a sample configuration file with every key explained",
			RunE: func(*cobra.Command, []string) error { return p.PrintLine(strings.TrimSuffix(config.Sample(), "\n")) },
		},
	)
	return c
}

// configCheckResult is what `settled config check` prints as JSON.
type configCheckResult struct {
	OK       bool     `json:"ok"`
	Warnings []string `json:"warnings"`
	Policies []string `json:"policies"` // scenarios with a policy
	Limits   int      `json:"limits"`   // number of limits
}

func (p *program) configCheck(cmd *cobra.Command) error {
	c, warnings, err := p.load(cmd)
	if err != nil {
		return err
	}
	if _, err := telemetry.NewLog(&c, p.Err); err != nil {
		return err
	}
	if _, err := service.Check(&c); err != nil {
		return err
	}
	result := configCheckResult{true, append([]string{}, warnings...), c.Scenarios(), len(c.Limits)}
	text := "The configuration is sound. Scenarios: " + strings.Join(result.Policies, ", ") + "."
	for _, l := range c.Limits {
		text += "\nlimit: " + l.String()
	}
	for _, w := range warnings {
		text += "\nwarning: " + w
	}
	return p.Print(result, text)
}

func (p *program) configPrint(cmd *cobra.Command) error {
	c, _, err := p.load(cmd)
	if err != nil {
		return err
	}
	if p.JSON() {
		return p.PrintJSON(c.Values())
	}
	return p.PrintLine(strings.TrimSuffix(c.YAML(), "\n"))
}
