package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"settled/cmd/settled/internal/audit"
	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/natsconn"
	"settled/cmd/settled/internal/policies"
	"settled/cmd/settled/internal/terminal"
	"settled/consumer"
	"settled/consumer/cloudevent"
	"settled/ledger"
	"settled/ledger/streamreader"
	"settled/settlement"
)

// backtestFlags are the flags of `settled policy backtest`.
type backtestFlags struct {
	entryFilter
	against string
	noNode  bool
	rate    float64
}

func (p *program) policyBacktestCommand() *cobra.Command {
	f := backtestFlags{entryFilter: entryFilter{state: string(settlement.EntryClosed)}}
	c := &cobra.Command{
		Use: "backtest --against FILE", Short: "Show what other policies would have paid of the sessions that are closed",
		Example: "  settled policy backtest -c settled.yaml --against proposed.yaml --since 2026-11-01",
		Long: `Applies the policies and limits of another configuration file to every closed session of the ledger, by the code that
pays, and lists the sessions of which somebody would have received something else, with the difference for each participant
and asset, and the totals of each asset. Participants and balance are those that the ledger recorded; the outcome is
read from OUTCOMES. Where the other policy pays funders, the session is read at the node, which alone knows who funded it;
with --no-node such sessions are listed as not comparable. It changes nothing. Exits 0 also if there are differences.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.against == "" {
				return terminal.UsageError(errors.New("--against is not given: name the configuration file with the policies to compare with"))
			}
			if err := f.parse(time.Now()); err != nil {
				return err
			}
			return p.policyBacktest(cmd, &f)
		},
	}
	c.Flags().StringVar(&f.against, "against", "", "configuration file (YAML) whose policies and limits are applied")
	c.Flags().StringVar(&f.scenario, "scenario", "", "only this scenario")
	c.Flags().StringVar(&f.since, "since", "", "only sessions closed since: a day (2026-11-01, UTC), a time (2026-11-22T03:00:00Z) or a duration before now (2h)")
	c.Flags().StringVar(&f.before, "before", "", "only sessions closed before: the same")
	c.Flags().BoolVar(&f.noNode, "no-node", false, "don't read sessions at the node")
	c.Flags().Float64Var(&f.rate, "rate", auditRate, "sessions read a second at the node; 0: no limit of our own")
	return c
}

func (p *program) policyBacktest(cmd *cobra.Command, f *backtestFlags) error {
	var b policies.Backtest
	var err error
	if b.Policies, b.Limits, err = config.LoadPolicies(f.against); err != nil {
		return fmt.Errorf("--against: %w", err)
	}
	cfg, nc, err := p.connect(cmd, "settled policy")
	if err != nil {
		return err
	}
	defer nc.Shutdown()
	b.OutcomeFunc = outcomeReader(nc, cfg.NATSPrefix)
	if !f.noNode {
		if cfg.NodeURL == "" {
			return terminal.UsageError(errors.New("clearnode.url is not set: name the node that knows who funded the sessions, or say --no-node"))
		}
		node, err := audit.OpenNode(cfg, f.rate)
		if err != nil {
			return err
		}
		defer node.Close()
		b.SessionFunc = node.Session
	}
	last, err := audit.LastEntry(cmd.Context(), nc.JS, cfg.NATSPrefix)
	if err != nil {
		return err
	}
	bar := p.Progress("backtest")
	defer bar.Clear()
	totals := policies.Totals{Kind: policies.KindSummary, Assets: []policies.AssetTotals{}}
	show := func(c policies.Comparison) error {
		totals.Add(c)
		bar.Update(c.Sequence, last, fmt.Sprintf("%d differ", totals.Different))
		if c.Kind == "" {
			return nil
		}
		bar.Clear()
		return p.Print(c, terminal.PrintableLines(c.Text()))
	}
	err = compareInOrder(cmd.Context(), b.Compare, show, func(ctx context.Context, compare func(settlement.Entry) error) error {
		return p.eachEntry(ctx, &f.entryFilter, nc.JS, cfg.NATSPrefix, nil, func(s ledger.Stored) error {
			if s.Err != nil {
				return fmt.Errorf("entry %d can't be read: %w: run `settled ledger verify`", s.Sequence, s.Err)
			}
			return compare(s.Entry)
		})
	})
	if err != nil {
		return err
	}
	bar.Clear()
	return p.Print(totals, terminal.PrintableLines(totals.Text()))
}

// outcomeReader returns a function that reads outcomes from OUTCOMES by their sequence.
func outcomeReader(nc *natsconn.Link, prefix string) func(context.Context, uint64) (settlement.Outcome, error) {
	stream := consumer.OutcomesStream(prefix)
	reader := streamreader.New(nc.JS, stream)
	return func(ctx context.Context, sequence uint64) (settlement.Outcome, error) {
		m, err := streamreader.Retry(ctx, reader, func(ctx context.Context) (*jetstream.RawStreamMsg, error) { return reader.Get(ctx, sequence) })
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return settlement.Outcome{}, policies.ErrGone
		}
		if err != nil {
			return settlement.Outcome{}, err
		}
		o, _ := settlement.ParseOutcome(cloudevent.Read(m.Subject, m.Header, m.Data, stream, m.Sequence, prefix)) // an invalid one fails
		return o, nil
	}
}

// compareWidth is the number of entries that are compared at the same time.
const compareWidth = 64

// compareInOrder compares the entries that each passes, several at once, and shows the results
// in the order of the entries.
func compareInOrder(ctx context.Context, compare func(context.Context, settlement.Entry) (policies.Comparison, error), show func(policies.Comparison) error, each func(context.Context, func(settlement.Entry) error) error) error {
	type result struct {
		policies.Comparison
		err error
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	queue := make(chan chan result, compareWidth)
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		for next := range queue {
			r := <-next
			if r.err == nil && ctx.Err() == nil {
				r.err = show(r.Comparison)
			}
			if r.err != nil {
				cancel(r.err) // the first one counts
			}
		}
	}()
	err := each(ctx, func(e settlement.Entry) error {
		next := make(chan result, 1)
		queue <- next
		go func() {
			c, err := compare(ctx, e)
			next <- result{c, err}
		}()
		return context.Cause(ctx)
	})
	close(queue)
	<-shown
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}
