package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"settled/cmd/settled/internal/policies"
	"settled/cmd/settled/internal/terminal"
)

func (p *program) policyTestCommand() *cobra.Command {
	return &cobra.Command{
		Use: "test FILE…", Short: "Check the policies against cases with known results", Args: cobra.MinimumNArgs(1),
		Example: "  settled policy test -c settled.yaml cases/*.json",
		Long: `Runs the cases in JSON files against the policies and limits of this configuration, by the code that pays, and connects to
nothing. A case describes a session and an outcome, and says who must be paid how much, or with which code the outcome
must fail. Differences are shown row by row, and then the steps by which no case pays anything. Exits 1 if a case fails.
` + "`settled schema policy.cases`" + ` describes the file; deploy/policy-cases has examples.`,
		RunE: func(cmd *cobra.Command, args []string) error { return p.policyTest(cmd, args) },
	}
}

func (p *program) policyTest(cmd *cobra.Command, files []string) error {
	cfg, _, err := p.load(cmd)
	if err != nil {
		return err
	}
	suite := policies.Suite{Policies: cfg.Policies, Limits: cfg.Limits}
	var broken error
	for _, file := range files {
		text, err := readFileOrStdin(file, p.In)
		if err == nil {
			err = suite.Run(file, text, func(r policies.Result) error { return p.Print(r, terminal.PrintableLines(r.Text())) })
		}
		broken = errors.Join(broken, err)
	}
	summary := suite.Summary()
	if err := p.Print(summary, terminal.PrintableLines(summary.Text())); err != nil || broken != nil {
		return errors.Join(err, broken)
	}
	if summary.Failed > 0 {
		return fmt.Errorf("%d of %d cases failed", summary.Failed, summary.Cases)
	}
	return nil
}
