package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"settled/cmd/settled/internal/audit"
	"settled/cmd/settled/internal/natsconn"
	"settled/cmd/settled/internal/terminal"
	"settled/ledger"
)

// exportFlags are the flags of `settled ledger export`.
type exportFlags struct {
	entryFilter
	format, out string
	resume      bool
}

func (p *program) ledgerExportCommand() *cobra.Command {
	var f exportFlags
	c := &cobra.Command{
		Use: "export", Short: "Write the ledger's rows as CSV or JSON Lines",
		Long: `Writes one row for each participant and asset of each entry, in the order of the ledger: what was paid, or with
--state failed what was not and why. The same ledger and options always give the same bytes.

A month: --since 2026-11-01 --before 2026-12-01. With --out FILE the rows go to a new file; with --resume too, to
one that an earlier export with the same options wrote or left unfinished: it continues after the last row.

Columns, as CSV: ` + strings.Join(audit.ExportColumns, ", ") + `.
Columns are only ever added, at the end. Amounts are exact decimals: have a spreadsheet read the column as text
where it would round. In CSV, text that a spreadsheet could interpret as a formula (=, +, -, @, | or % first), or that
begins with an apostrophe, has an apostrophe before it, and control and invisible characters are spaces; JSON Lines, with the same
names, have every text as it is. Messages of the ledger that are not its entries are left out and reported on the
standard error.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("format") && p.JSON() {
				f.format = "jsonl"
			}
			if err := f.parse(time.Now()); err != nil {
				return err
			}
			if f.resume && f.out == "" {
				return terminal.UsageError(errors.New("--resume without --out: name the file to go on with"))
			}
			return p.ledgerExport(cmd, &f)
		},
	}
	f.addFlags(c, "closed")
	c.Flags().StringVar(&f.format, "format", "csv", "csv or jsonl; with --output json it is jsonl")
	c.Flags().StringVar(&f.out, "out", "", "write to this file instead of the standard output")
	c.Flags().BoolVar(&f.resume, "resume", false, "continue --out where it ends; create it if it is missing")
	return c
}

// exportResult is what `settled ledger export --out` prints.
type exportResult struct {
	File    string `json:"file"`
	Format  string `json:"format"`
	Entries int    `json:"entries"`       // written by this run
	Rows    int    `json:"rows"`          // by this run
	Last    uint64 `json:"last_sequence"` // of the last entry in the file
}

func (p *program) ledgerExport(cmd *cobra.Command, f *exportFlags) error {
	format, err := audit.FormatNamed(f.format)
	if err != nil {
		return err
	}
	cfg, nc, err := p.connect(cmd, "settled ledger")
	if err != nil {
		return err
	}
	defer nc.Shutdown()
	if f.out == "" {
		x := audit.ToStdout(p.Out, format)
		return x.Close(p.exportTo(cmd.Context(), nc, cfg.NATSPrefix, f, x))
	}
	x, err := audit.ToFile(f.out, format, f.resume)
	if err != nil {
		return err
	}
	if x.From > 0 {
		f.after, x.Last = x.From-1, x.From
	}
	if err := x.Close(p.exportTo(cmd.Context(), nc, cfg.NATSPrefix, f, x)); err != nil {
		return err
	}
	done := exportResult{f.out, format.Name, x.Entries, x.Rows, x.Last}
	return p.Print(done, fmt.Sprintf("%s: %d rows of %d entries written, up to entry %d.", f.out, done.Rows, done.Entries, done.Last))
}

// exportTo writes the selected entries. It fails at one that can't be read: an export
// without it would look complete.
func (p *program) exportTo(ctx context.Context, nc *natsconn.Link, prefix string, f *exportFlags, x *audit.ExportFile) error {
	bar := p.Progress("export")
	defer bar.Clear()
	last, err := audit.LastEntry(ctx, nc.JS, prefix)
	if err != nil {
		return err
	}
	seen := func(sequence uint64) { bar.Update(sequence, last, "") }
	return p.eachEntry(ctx, &f.entryFilter, nc.JS, prefix, seen, func(s ledger.Stored) error {
		if s.Err != nil {
			return fmt.Errorf("entry %d can't be read: %w: run `settled ledger verify`", s.Sequence, s.Err)
		}
		return x.Add(s.Sequence, audit.ExportRows(s))
	})
}
