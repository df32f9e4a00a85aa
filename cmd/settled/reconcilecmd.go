package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"settled/consumer"
)

// reconcileFlags are what `settled reconcile` takes.
type reconcileFlags struct {
	repair, noNode bool
	rate           float64
	olderThan      time.Duration
	since          string
	accounts       []string
}

// reconcileAge is how old what is without a result must be to be told: an outcome
// in doubt waits out its fence, and a short outage of the node is nothing to report.
const reconcileAge = 10 * time.Minute

func (p *program) reconcileCommand() *cobra.Command {
	var f reconcileFlags
	c := &cobra.Command{
		Use: "reconcile", Short: "Compare outcomes, ledger and node with one another",
		Long: `Finds outcomes that were acknowledged and never settled, closes that were begun and that nobody finishes, sessions
that the node closed and the ledger doesn't know of, payouts that differ from the ledger, and messages missing from
OUTCOMES. For sessions that no outcome ever named it goes through the node's lists of the closed sessions of our
accounts, back to the ledger's first entry or to --since: the accounts of clearnode.key_files, which sign nothing here,
or those named by --account. A legacy node's lists have no pages: there that is left out, and said. Exits 1 when it finds anything. It reads only; settled serve does the same every hour, with the sessions
closed since, and shows the result as settled_reconciliation_findings.

With --repair it publishes again, each recorded in OPERATIONS, the outcomes that nobody settles any more and those
whose session the node closed unseen. It never closes anything itself: settled serve asks ledger and node before it
pays, so that a session is paid once, and a close that happened is recorded as found. What can't be mended so is left
for a person. Exits 0 where everything that was found is mended.

Kinds of finding: ` + strings.Join(findingKinds(), ", ") + `.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.rate < 0 || f.olderThan < 0 {
				return misuse{errors.New("--rate and --older-than: want 0 or more")}
			}
			return p.reconcile(cmd, f)
		},
	}
	c.Flags().BoolVar(&f.repair, "repair", false, "publish again what was lost; recorded in OPERATIONS")
	c.Flags().BoolVar(&f.noNode, "no-node", false, "don't read sessions at the node")
	c.Flags().Float64Var(&f.rate, "rate", auditRate, "sessions read a second at the node; 0 is as many as it allows")
	c.Flags().DurationVar(&f.olderThan, "older-than", reconcileAge, "leave alone what is younger")
	c.Flags().StringVar(&f.since, "since", "", "of the closed sessions read only those at the node that were closed since: a day, a time or how long ago")
	c.Flags().StringSliceVar(&f.accounts, "account", nil, "an account of ours whose closed sessions the node is asked for; may be repeated (default the accounts of clearnode.key_files)")
	return c
}

func (p *program) reconcile(cmd *cobra.Command, f reconcileFlags) error {
	cfg, nc, err := p.connected(cmd, "settled reconcile")
	if err != nil {
		return err
	}
	defer nc.close()
	now := time.Now()
	r := reconciliation{js: nc.js, prefix: cfg.natsPrefix, durable: cfg.consumerDurable, olderThan: f.olderThan, now: now, bar: p.newProgress("reconcile")}
	defer r.bar.end()
	accounts, err := parseAccounts(f.accounts)
	if err != nil {
		return err
	}
	r.unasked = &unaskedSearch{missing: "the node was left out"}
	if r.closedSince, err = dayFlag("since", f.since, now); err != nil {
		return err
	}
	if !f.noNode {
		if cfg.nodeURL == "" {
			return misuse{errors.New("clearnode.url is not set: name the node to compare with, or say --no-node")}
		}
		if r.nodes, err = cfg.newNodeReader(f.rate); err != nil {
			return err
		}
		defer r.nodes.close()
		since := r.closedSince
		if since.IsZero() {
			if since, err = ledgerBegan(cmd.Context(), nc.js, cfg.natsPrefix); err != nil {
				return err
			}
		}
		r.unasked = cfg.searchUnasked(accounts, mostPages)
		r.unasked.begin(r.nodes, since)
	}
	out, err := r.run(cmd.Context())
	if err != nil {
		return err
	}
	r.bar.end()
	if f.repair {
		err = p.repair(cmd.Context(), consumer.NewDeadLetters(nc.js, cfg.consumerConfig(nil)), out.Findings)
	}
	return errors.Join(err, p.printReconciled(out, !f.noNode, f.olderThan))
}

// repair publishes again what may be. It goes on where one can't be.
func (p *program) repair(ctx context.Context, d *consumer.DeadLetters, found []discrepancy) error {
	failed := 0
	for i := range found {
		f := &found[i]
		if f.Repair != repairRequeue {
			continue
		}
		r, err := d.Requeue(ctx, f.Outcome, f.Kind)
		if f.Requeued = r.Sequence; err != nil {
			failed++
			_, _ = fmt.Fprintf(p.stderr, "settled: %s\n", err)
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d repairs failed: run it again", failed)
	}
	return nil
}

// reconcileSummary is the last line of `settled reconcile --output json`.
type reconcileSummary struct {
	Kind          string         `json:"kind"` // summary
	OK            bool           `json:"ok"`   // nothing found, or all of it mended
	Outcomes      uint64         `json:"outcomes"`
	Entries       uint64         `json:"entries"`
	Compared      uint64         `json:"compared"`       // sessions read at the node
	NotComparable uint64         `json:"not_comparable"` // of these, those whose payouts it doesn't show
	Listed        uint64         `json:"listed"`         // closed sessions of our accounts that the node lists
	NotListed     string         `json:"not_listed"`     // what it wasn't asked to list, and why; empty: nothing
	Found         int            `json:"found"`
	Repaired      int            `json:"repaired"`
	Findings      map[string]int `json:"findings"` // by kind
}

func summaryOf(out reconciled) reconcileSummary {
	s := reconcileSummary{
		Kind: "summary", Outcomes: out.Outcomes, Entries: out.Entries, Compared: out.Compared, NotComparable: out.Hidden,
		Listed: out.Listed, NotListed: out.Unlisted,
		Found: len(out.Findings), Findings: map[string]int{},
	}
	for _, f := range out.Findings {
		s.Findings[f.Kind]++
		if f.Requeued > 0 {
			s.Repaired++
		}
	}
	s.OK = s.Found == s.Repaired
	return s
}

func (p *program) printReconciled(out reconciled, withNode bool, olderThan time.Duration) error {
	for _, f := range out.Findings {
		if err := p.print(f, f.text()); err != nil {
			return err
		}
	}
	s := summaryOf(out)
	text := fmt.Sprintf("%d outcomes, %d entries, %d sessions compared with the node: %d findings, %d of them mended.", s.Outcomes, s.Entries, s.Compared, s.Found, s.Repaired)
	if !withNode {
		text = fmt.Sprintf("%d outcomes, %d entries, not compared with the node: %d findings, %d of them mended.", s.Outcomes, s.Entries, s.Found, s.Repaired)
	}
	if withNode {
		text += fmt.Sprintf("\n%d closed sessions of our accounts listed at the node.", s.Listed)
		if s.NotListed != "" {
			text += " Not listed: " + printable(s.NotListed) + "."
		}
	}
	if olderThan > 0 {
		text += fmt.Sprintf("\nWhat is younger than %s was left alone (--older-than).", olderThan)
	}
	if err := p.print(s, text); err != nil {
		return err
	}
	if !s.OK {
		return fmt.Errorf("%d findings are left; see \"What reconcile finds\" in deploy/RUNBOOK.md", s.Found-s.Repaired)
	}
	return nil
}

func (f discrepancy) text() string {
	text := f.Kind + "  session " + f.Session.Token()
	if f.Outcome > 0 {
		text += fmt.Sprintf("  OUTCOMES/%d", f.Outcome)
	}
	if f.Sequence > 0 {
		text += fmt.Sprintf("  entry %d", f.Sequence)
	}
	text += "\n    " + printable(f.Problem)
	switch {
	case f.Requeued > 0:
		text += fmt.Sprintf("\n    published again as OUTCOMES/%d", f.Requeued)
	case f.Repair != "":
		text += "\n    --repair publishes it again"
	}
	return text
}
