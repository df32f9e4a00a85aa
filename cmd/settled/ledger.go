package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"settled/cmd/settled/internal/audit"
	"settled/cmd/settled/internal/natsconn"
	"settled/cmd/settled/internal/terminal"
	"settled/ledger"
	"settled/settlement"
)

func (p *program) ledgerCommand() *cobra.Command {
	c := &cobra.Command{Use: "ledger", Short: "Look at the ledger and verify it"}
	show := &cobra.Command{
		Use: "show SESSION | SEQUENCE", Short: "Show every entry of one session", Args: cobra.ExactArgs(1),
		Long: "Shows a session's entries with all that they hold. The session is named by its id, or by the SEQUENCE of one of\nits entries, as `settled ledger list` and `settled watch` print it; `unknown` is where no session could be read.",
		RunE: func(cmd *cobra.Command, args []string) error { return p.ledgerShow(cmd, args[0]) },
	}
	c.AddCommand(p.ledgerListCommand(), show, p.ledgerExportCommand(), p.ledgerVerifyCommand())
	return c
}

// openLedger connects to the ledger and verifies its stream; it never makes one.
func (p *program) openLedger(cmd *cobra.Command) (*ledger.Ledger, *natsconn.Link, error) {
	cfg, _, err := p.load(cmd)
	if err != nil {
		return nil, nil, err
	}
	nc, err := natsconn.Connect(&cfg, "settled ledger", false)
	if err != nil {
		return nil, nil, err
	}
	only := cfg.Ledger()
	only.Create = false
	l, warnings, err := ledger.Open(cmd.Context(), nc.JS, only)
	if err != nil {
		nc.Shutdown()
		return nil, nil, err
	}
	for _, w := range warnings {
		_, _ = fmt.Fprintf(p.Err, "warning: %s\n", w)
	}
	return l, nc, nil
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

// payload is an event's data for showing: as JSON where it is JSON.
func payload(b []byte) any {
	if json.Valid(b) {
		return json.RawMessage(b)
	}
	return string(b)
}

// foreignFound reports on standard error a message of the ledger that is not an entry.
func (p *program) foreignFound(f *ledger.Foreign) {
	_, _ = fmt.Fprintln(p.Err, audit.ForeignText(f))
}
