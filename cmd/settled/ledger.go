package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"settled/cmd/settled/internal/audit"
	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/natsconn"
	"settled/cmd/settled/internal/terminal"
	"settled/ledger"
	"settled/settlement"
)

func (p *program) ledgerCommand() *cobra.Command {
	c := &cobra.Command{Use: "ledger", Short: "List, show, export, verify and seal the ledger"}
	show := &cobra.Command{
		Use: "show SESSION | SEQUENCE", Short: "Show every entry of one session", Args: cobra.ExactArgs(1),
		Long: "Shows a session's entries with all their members. The session is named by its id, or by the SEQUENCE of one of\nits entries, as `settled ledger list` and `settled watch` print it; `unknown` selects entries of outcomes without a readable session.",
		RunE: func(cmd *cobra.Command, args []string) error { return p.ledgerShow(cmd, args[0]) },
	}
	c.AddCommand(p.ledgerListCommand(), show, p.ledgerExportCommand(), p.ledgerVerifyCommand(), p.ledgerSealCommand())
	return c
}

// openLedger connects to the ledger and verifies its stream; it never creates one.
func (p *program) openLedger(cmd *cobra.Command) (*config.Config, *natsconn.Link, *ledger.Ledger, error) {
	cfg, nc, err := p.connect(cmd, "settled ledger")
	if err != nil {
		return nil, nil, nil, err
	}
	existing := cfg.Ledger()
	existing.Create = false
	l, warnings, err := ledger.Open(cmd.Context(), nc.JS, existing)
	if err != nil {
		nc.Shutdown()
		return nil, nil, nil, err
	}
	for _, w := range warnings {
		_, _ = fmt.Fprintf(p.Err, "warning: %s\n", w)
	}
	return cfg, nc, l, nil
}

func sessionArgument(arg string) (settlement.SessionID, error) {
	if arg == settlement.UnknownSession {
		return "", nil
	}
	id, err := settlement.ParseSessionID(arg)
	if err != nil {
		return "", terminal.UsageError(err)
	}
	return id, nil
}

// payload returns an event's data as JSON if it is JSON, else as text.
func payload(b []byte) any {
	if json.Valid(b) {
		return json.RawMessage(b)
	}
	return string(b)
}

// reportForeign reports on standard error a message of the ledger that is not an entry.
func (p *program) reportForeign(f *ledger.Foreign) {
	_, _ = fmt.Fprintln(p.Err, audit.ForeignText(f))
}
