package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"settled/cmd/settled/internal/audit"
	"settled/cmd/settled/internal/terminal"
	"settled/consumer/deadletter"
)

// reconcileFlags are the flags of `settled reconcile`.
type reconcileFlags struct {
	repair, noNode bool
	rate           float64
	olderThan      time.Duration
	since          string
	accounts       []string
}

func (p *program) reconcileCommand() *cobra.Command {
	var f reconcileFlags
	c := &cobra.Command{
		Use: "reconcile", Short: "Compare outcomes, ledger and node with one another",
		Long: `Finds outcomes that were acknowledged and never settled, intents without a result that no replica is processing,
sessions that are closed at the node but not in the ledger, payouts that differ from the ledger, and messages missing
from OUTCOMES. It also lists our accounts' closed sessions at the node, since the ledger's first entry or --since, to
find sessions that no outcome names. Our accounts are those of clearnode.key_files (the keys are only read) or
--account. A legacy node's lists have no pages, so this is skipped there, and the summary says so. Exits 1 when it
finds anything. Without --repair it only reads. It reads everything. One replica of settled serve makes the same
comparison every hour for what is new, looks again at what it found, and reports settled_reconciliation_findings.

With --repair it publishes again outcomes that no replica will settle, and outcomes whose session is closed at the
node without a ledger entry. Each is recorded in OPERATIONS. It closes no session itself: settled serve reads ledger
and node before it pays; if the session is already closed as planned, it only records that. An operator must look
into what this can't repair. Exits 0 if everything that was found is repaired.

Kinds of finding: ` + strings.Join(audit.FindingKinds(), ", ") + `.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.rate < 0 || f.olderThan < 0 {
				return terminal.UsageError(errors.New("--rate and --older-than: want 0 or more"))
			}
			return p.reconcile(cmd, f)
		},
	}
	c.Flags().BoolVar(&f.repair, "repair", false, "publish lost outcomes again; recorded in OPERATIONS")
	c.Flags().BoolVar(&f.noNode, "no-node", false, "don't read sessions at the node")
	c.Flags().Float64Var(&f.rate, "rate", auditRate, "sessions read a second at the node; 0: no limit of our own")
	c.Flags().DurationVar(&f.olderThan, "older-than", audit.MinAge, "ignore younger outcomes and intents")
	c.Flags().StringVar(&f.since, "since", "", "compare only sessions closed since this date, time or duration ago")
	c.Flags().StringSliceVar(&f.accounts, "account", nil, "list this account's closed sessions; may be repeated (default: the accounts of clearnode.key_files)")
	return c
}

func (p *program) reconcile(cmd *cobra.Command, f reconcileFlags) error {
	cfg, nc, err := p.connect(cmd, "settled reconcile")
	if err != nil {
		return err
	}
	defer nc.Shutdown()
	now := time.Now()
	r := audit.Reconciliation{JS: nc.JS, Prefix: cfg.NATSPrefix, Durable: cfg.ConsumerDurable, OlderThan: f.olderThan, Now: now, Bar: p.Progress("reconcile")}
	defer r.Bar.Clear()
	accounts, err := audit.ParseAddresses("--account", f.accounts)
	if err != nil {
		return err
	}
	r.Unrequested = &audit.UnrequestedSearch{Unavailable: "the node was not read (--no-node)"}
	if r.ClosedSince, err = dayFlag("since", f.since, now); err != nil {
		return err
	}
	if !f.noNode {
		if cfg.NodeURL == "" {
			return terminal.UsageError(errors.New("clearnode.url is not set: name the node to compare with, or say --no-node"))
		}
		if r.Nodes, err = audit.OpenNode(cfg, f.rate); err != nil {
			return err
		}
		defer r.Nodes.Close()
		since := r.ClosedSince
		if since.IsZero() {
			if since, err = audit.LedgerBegan(cmd.Context(), nc.JS, cfg.NATSPrefix); err != nil {
				return err
			}
		}
		r.Unrequested = audit.NewUnrequestedSearch(cfg, accounts, audit.MaxPages)
		r.Unrequested.Begin(r.Nodes, since)
	}
	out, err := r.Run(cmd.Context())
	if err != nil {
		return err
	}
	r.Bar.Clear()
	if f.repair {
		err = p.repair(cmd.Context(), deadletter.New(nc.JS, cfg.Consumer()), out.Findings)
	}
	return errors.Join(err, p.printReconciled(out, !f.noNode, f.olderThan))
}

// repair publishes the repairable outcomes again, and continues after a failure.
func (p *program) repair(ctx context.Context, d *deadletter.Queue, found []audit.Discrepancy) error {
	failed := 0
	for i := range found {
		f := &found[i]
		if f.Repair != audit.RepairRequeue {
			continue
		}
		r, err := d.Requeue(ctx, f.Outcome, f.Kind)
		if f.Requeued = r.Sequence; err != nil {
			failed++
			_, _ = fmt.Fprintf(p.Err, "settled: %s\n", err)
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d repairs failed: run it again", failed)
	}
	return nil
}

func (p *program) printReconciled(out audit.Reconciled, withNode bool, olderThan time.Duration) error {
	for _, f := range out.Findings {
		if err := p.Print(f, f.Text()); err != nil {
			return err
		}
	}
	s := audit.Summarize(out)
	text := fmt.Sprintf("%d outcomes, %d entries, %d sessions compared with the node: %d findings, %d of them repaired.", s.Outcomes, s.Entries, s.Compared, s.Found, s.Repaired)
	if !withNode {
		text = fmt.Sprintf("%d outcomes, %d entries, not compared with the node: %d findings, %d of them repaired.", s.Outcomes, s.Entries, s.Found, s.Repaired)
	}
	if withNode {
		text += fmt.Sprintf("\n%d closed sessions of our accounts listed at the node.", s.Listed)
		if s.NotListed != "" {
			text += " Not listed: " + terminal.Printable(s.NotListed) + "."
		}
	}
	if olderThan > 0 {
		text += fmt.Sprintf("\nOutcomes and intents younger than %s were ignored (--older-than).", olderThan)
	}
	if err := p.Print(s, text); err != nil {
		return err
	}
	if !s.OK {
		return fmt.Errorf("%d findings are left; see \"What reconcile finds\" in deploy/RUNBOOK.md", s.Found-s.Repaired)
	}
	return nil
}
