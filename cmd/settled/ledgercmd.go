package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"settled/clearnode"
	"settled/ledger"
	"settled/settlement"
)

func (p *program) ledgerCommand() *cobra.Command {
	c := &cobra.Command{Use: "ledger", Short: "Look at the ledger and verify it"}
	verify := &cobra.Command{
		Use: "verify [SESSION]", Short: "Recompute hash chains, signatures and sums from the stored bytes", Args: cobra.MaximumNArgs(1),
		Long: "Recomputes every session's hash chain from the stored bytes, re-checks the node's signature on each closed\nentry, and that a closed entry pays what its intent said. Exits 1 when anything disagrees. Keep the printed\nanchor (last sequence and digest): a chain can't show that its own tail was removed, an older anchor can.",
		RunE: func(cmd *cobra.Command, args []string) error { return p.ledgerVerify(cmd, args) },
	}
	show := &cobra.Command{
		Use: "show SESSION", Short: "Show every entry of one session", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return p.ledgerShow(cmd, args[0]) },
	}
	c.AddCommand(p.ledgerListCommand(), show, p.ledgerExportCommand(), verify)
	return c
}

// openLedger connects to the ledger and verifies its stream; it never makes one.
func (p *program) openLedger(cmd *cobra.Command) (*ledger.Ledger, *natsLink, error) {
	cfg, _, err := p.load(cmd)
	if err != nil {
		return nil, nil, err
	}
	nc, err := cfg.connect("settled ledger", false)
	if err != nil {
		return nil, nil, err
	}
	only := cfg.ledgerConfig()
	only.Create = false
	l, warnings, err := ledger.Open(cmd.Context(), nc.js, only)
	if err != nil {
		nc.close()
		return nil, nil, err
	}
	for _, w := range warnings {
		_, _ = fmt.Fprintf(p.stderr, "warning: %s\n", w)
	}
	return l, nc, nil
}

func sessionArgument(arg string) (settlement.SessionID, error) {
	if arg == settlement.UnknownSession {
		return "", nil
	}
	id, err := settlement.ParseSessionID(arg)
	if err != nil {
		return "", misuse{err}
	}
	return id, nil
}

// verifyResult is what `settled ledger verify` prints as JSON.
type verifyResult struct {
	OK         bool            `json:"ok"`
	Entries    uint64          `json:"entries"`
	Sessions   uint64          `json:"sessions"`
	Closed     uint64          `json:"closed"`
	Unknown    uint64          `json:"unknown"`
	Last       uint64          `json:"last_sequence"`
	LastDigest string          `json:"last_digest"`
	Findings   []verifyFinding `json:"findings"`
}

type verifyFinding struct {
	Session  settlement.SessionID `json:"session_id"`
	Sequence uint64               `json:"sequence"`
	Problem  string               `json:"problem"`
}

func (p *program) ledgerVerify(cmd *cobra.Command, args []string) error {
	audit := ledger.Audit{VerifyFunc: clearnode.VerifyAnswer}
	if len(args) == 1 {
		id, err := sessionArgument(args[0])
		if err != nil {
			return err
		}
		if id == "" {
			return misuse{errors.New("entries of unknown sessions have no chain; leave the session out to verify all")}
		}
		audit.Session = id
	}
	l, nc, err := p.openLedger(cmd)
	if err != nil {
		return err
	}
	defer nc.close()
	if isTerminal(p.stderr) {
		audit.ProgressFunc = func(r ledger.Report) {
			_, _ = fmt.Fprintf(p.stderr, "\r%d entries, %d findings", r.Entries, len(r.Findings))
		}
	}
	report, err := l.Verify(cmd.Context(), audit)
	if audit.ProgressFunc != nil {
		_, _ = fmt.Fprintln(p.stderr)
	}
	if err != nil {
		return err
	}
	return p.printReport(report)
}

func (p *program) printReport(report ledger.Report) error {
	r := verifyResult{
		OK: len(report.Findings) == 0, Entries: report.Entries, Sessions: report.Sessions, Closed: report.Closed,
		Unknown: report.Unknown, Last: report.Last, LastDigest: report.LastDigest, Findings: []verifyFinding{},
	}
	var text strings.Builder
	for _, f := range report.Findings {
		r.Findings = append(r.Findings, verifyFinding{f.Session, f.Sequence, f.Text})
		text.WriteString(printable(f.String()) + "\n")
	}
	fmt.Fprintf(&text, "%d entries of %d sessions, %d closed, %d of unknown sessions. Anchor: sequence %d, %s.", r.Entries, r.Sessions, r.Closed, r.Unknown, r.Last, r.LastDigest)
	if err := p.print(r, text.String()); err != nil {
		return err
	}
	if !r.OK {
		return fmt.Errorf("the ledger does not verify: %d findings; see \"the ledger does not verify\" in deploy/RUNBOOK.md", len(r.Findings))
	}
	return nil
}

// payload is an event's data for showing: as JSON where it is JSON.
func payload(b []byte) any {
	if json.Valid(b) {
		return json.RawMessage(b)
	}
	return string(b)
}
