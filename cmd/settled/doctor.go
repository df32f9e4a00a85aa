package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"settled/cmd/settled/internal/doctor"
	"settled/cmd/settled/internal/terminal"
	"settled/settlement"
)

func (p *program) doctorCommand() *cobra.Command {
	var session string
	var embedded, cosign bool
	var timeout time.Duration
	c := &cobra.Command{
		Use: "doctor", Short: "Find problems of configuration, NATS and node, and what to change",
		Long: "Checks the configuration, the keys, NATS with its streams and permissions, and the ClearNode, and reports for\neach what is wrong and the line to change. Exits 1 if a check failed. It changes nothing, closes nothing, and\nmay run beside `settled serve`. It signs in at the node as serve does. With --cosign it checks what\n`settled cosign` needs instead.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			d := &doctor.Doctor{ReportFunc: p.printFinding, Cosign: cosign}
			if session != "" {
				id, err := settlement.ParseSessionID(session)
				if err != nil {
					return terminal.UsageError(fmt.Errorf("--session: %w", err))
				}
				d.Session = id
			}
			if timeout <= 0 {
				return terminal.UsageError(errors.New("--timeout: want a time above 0, such as 30s"))
			}
			if embedded && cosign {
				return terminal.UsageError(errors.New("--embedded and --cosign: a co-signer has no embedded server: give one of them"))
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			cfg, warnings, err := p.load(cmd)
			if d.Configuration(&cfg, warnings, err) {
				cfg.Embedded = (cfg.Embedded || embedded) && !cosign
				d.Examine(ctx)
			}
			return d.Verdict()
		},
	}
	c.Flags().StringVar(&session, "session", "", "an app session; checks whether our keys can close it")
	c.Flags().BoolVar(&embedded, "embedded", false, "check what `settled serve --embedded` needs (embedded.enabled)")
	c.Flags().BoolVar(&cosign, "cosign", false, "check what `settled cosign` needs: its keys, requests and outcomes at NATS, and the node")
	c.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "time limit of all checks together")
	return c
}

// printFinding prints one finding.
func (p *program) printFinding(f doctor.Finding) {
	if p.JSON() {
		_ = p.PrintJSON(f)
		return
	}
	text := fmt.Sprintf("%-7s  %-24s  %s", f.Result, f.Check, terminal.Printable(f.Found))
	if f.Do != "" {
		text += "\n" + strings.Repeat(" ", 35) + "> " + terminal.Printable(f.Do)
	}
	_ = p.PrintLine(text)
}
