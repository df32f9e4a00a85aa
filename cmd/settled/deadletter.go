package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/time/rate"

	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/natsconn"
	"settled/cmd/settled/internal/terminal"
	"settled/consumer/deadletter"
	"settled/settlement"
)

// deadLetterFlags select dead letters, by sequence or by their content.
type deadLetterFlags struct {
	all                            bool
	code, class, scenario, session string
	since, before                  string
	limit                          int
	after                          uint64
	as                             string
}

func (p *program) deadletterCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "deadletter", Short: "List, show, replay and discard dead letters",
		Long: "Outcomes that failed are dead letters until somebody replays or discards them. Begin with `list`, then `show`\none: it shows what happened, the present state of its session, and what to do.",
	}
	c.AddCommand(p.deadletterList(), p.deadletterShow(), p.deadletterReplay(), p.deadletterDiscard())
	return c
}

func (f *deadLetterFlags) addFilterFlags(c *cobra.Command) {
	c.Flags().StringVar(&f.code, "code", "", "only this error code")
	c.Flags().StringVar(&f.class, "class", "", "only rejected, conflict or exhausted")
	c.Flags().StringVar(&f.scenario, "scenario", "", "only this scenario; unknown: could not be read")
	c.Flags().StringVar(&f.session, "session", "", "only this session")
	c.Flags().StringVar(&f.since, "since", "", "only failed since: a time (2026-11-22T03:00:00Z) or a duration before now (2h)")
	c.Flags().StringVar(&f.before, "before", "", "only failed before: the same")
	c.Flags().IntVar(&f.limit, "limit", 0, "at most this many; 0 is all")
	c.Flags().Uint64Var(&f.after, "after", 0, "only after this sequence: the next page")
}

func (f *deadLetterFlags) addActionFlags(c *cobra.Command) {
	f.addFilterFlags(c)
	c.Flags().BoolVar(&f.all, "all", false, "all that match the filters")
	addOperatorFlag(c, &f.as)
}

// filter returns the filter that the flags describe.
func (f deadLetterFlags) filter() (deadletter.Filter, error) {
	filter := deadletter.Filter{
		Code: settlement.Code(f.code), Class: settlement.Class(f.class), Scenario: settlement.Scenario(f.scenario), Limit: f.limit, From: f.after + 1,
	}
	if f.code != "" && !slices.Contains(settlement.Codes(), filter.Code) {
		return filter, terminal.UsageError(fmt.Errorf("--code %q is unknown: want one of %v", f.code, settlement.Codes()))
	}
	if classes := []settlement.Class{"", settlement.Rejected, settlement.Conflict, settlement.Exhausted}; !slices.Contains(classes, filter.Class) {
		return filter, terminal.UsageError(fmt.Errorf("--class %q is unknown: want one of %v", f.class, classes[1:]))
	}
	if f.limit < 0 {
		return filter, terminal.UsageError(fmt.Errorf("--limit %d: want 1 or more, or 0 for all", f.limit))
	}
	if f.session != "" {
		id, err := settlement.ParseSessionID(f.session)
		if err != nil {
			return filter, terminal.UsageError(fmt.Errorf("--session: %w", err))
		}
		filter.Session = id
	}
	var err error
	if filter.Since, err = timeFlag("since", f.since, time.Now()); err == nil {
		filter.Before, err = timeFlag("before", f.before, time.Now())
	}
	return filter, err
}

// timeFlag parses a time, or a duration before now.
func timeFlag(name, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(text); err == nil {
		return now.Add(-ago), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		at, err = time.Parse(terminal.TimeLayout, text) // as lists show it
	}
	if err != nil {
		return at, terminal.UsageError(fmt.Errorf("--%s %q: want a time such as 2026-11-22T03:00:00Z, or how long ago, such as 2h", name, text))
	}
	return at, nil
}

func sequenceArguments(args []string) ([]uint64, error) {
	var sequences []uint64
	for _, arg := range args {
		n, err := strconv.ParseUint(arg, 10, 64)
		if err != nil || n == 0 {
			return nil, terminal.UsageError(fmt.Errorf("%q is no sequence: `settled deadletter list` shows them", arg))
		}
		sequences = append(sequences, n)
	}
	return sequences, nil
}

// deadLetterClient is what the commands work with.
type deadLetterClient struct {
	*deadletter.Queue
	cfg  *config.Config
	nats *natsconn.Link
}

// withDeadLetters connects and calls do. operator is who acts; empty: user@host.
func (p *program) withDeadLetters(cmd *cobra.Command, operator string, do func(context.Context, *deadLetterClient) error) error {
	cfg, nc, err := p.connect(cmd, "settled deadletter")
	if err != nil {
		return err
	}
	defer nc.Shutdown()
	d := &deadLetterClient{deadletter.New(nc.JS, cfg.Consumer()), cfg, nc}
	if operator != "" {
		d.Who = operator
	}
	return do(cmd.Context(), d)
}

// discardResult is what `settled deadletter discard` prints for each.
type discardResult struct {
	DeadLetter uint64 `json:"dead_letter"`
	Discarded  bool   `json:"discarded"`
}

func (p *program) deadletterDiscard() *cobra.Command {
	var f deadLetterFlags
	var reason string
	c := &cobra.Command{
		Use: "discard SEQUENCE… | --all --reason TEXT", Short: "Remove dead letters for good", Args: cobra.ArbitraryArgs,
		Long: "Removes dead letters: these outcomes will never be settled. Who, when and why is recorded in OPERATIONS. The\noutcome itself stays in its stream, and its failure in the ledger.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if strings.TrimSpace(reason) == "" {
				return terminal.UsageError(errors.New("--reason is not given: say why it will never be settled; it is recorded"))
			}
			batch := deadLetterBatch{program: p, flags: f, args: args, processFunc: func(ctx context.Context, d *deadLetterClient, sequence uint64) (any, string, error) {
				err := d.Discard(ctx, sequence, reason)
				return discardResult{sequence, err == nil}, fmt.Sprintf("Dead letter %d is discarded.", sequence), err
			}}
			return batch.run(cmd)
		},
	}
	f.addActionFlags(c)
	c.Flags().StringVar(&reason, "reason", "", "why; it is recorded")
	return c
}

// deadLetterTimeout bounds the work on one dead letter.
const deadLetterTimeout = 30 * time.Second

// deadLetterBatch processes each dead letter that the arguments or the filters name.
type deadLetterBatch struct {
	*program
	flags deadLetterFlags
	args  []string
	limit *rate.Limiter // nil: none
	// processFunc returns a value for JSON and a text for people.
	processFunc func(ctx context.Context, d *deadLetterClient, sequence uint64) (v any, text string, err error)
}

// run processes all of them. One that fails is reported, and the others are processed. A
// signal ends it after the current one; the same command continues from there.
func (b deadLetterBatch) run(cmd *cobra.Command) error {
	sequences, err := sequenceArguments(b.args)
	if err != nil {
		return err
	}
	if (len(sequences) > 0) == b.flags.all {
		return terminal.UsageError(errors.New("name the sequences of dead letters, or --all with filters"))
	}
	filter, err := b.flags.filter()
	if err != nil {
		return err
	}
	return b.withDeadLetters(cmd, b.flags.as, func(ctx context.Context, d *deadLetterClient) error {
		if b.flags.all {
			letters, err := d.List(ctx, filter)
			if err != nil {
				return err
			}
			for _, l := range letters {
				sequences = append(sequences, l.Sequence)
			}
		}
		if len(sequences) == 0 && !b.JSON() {
			return b.PrintLine("No dead letter fits.")
		}
		return b.processAll(ctx, d, sequences)
	})
}

func (b deadLetterBatch) processAll(ctx context.Context, d *deadLetterClient, sequences []uint64) error {
	bar := b.Progress("dead letters")
	defer bar.Clear()
	failed, more := 0, ""
	for done, sequence := range sequences {
		if ctx.Err() != nil || b.limit != nil && b.limit.Wait(ctx) != nil {
			return fmt.Errorf("stopped after %d of %d dead letters: run the same command again to go on", done, len(sequences))
		}
		working, cancel := context.WithTimeout(context.WithoutCancel(ctx), deadLetterTimeout)
		v, text, err := b.processFunc(working, d, sequence)
		cancel()
		if !b.flags.all || !errors.Is(err, deadletter.ErrNotFound) { // else another operator was faster
			bar.Clear() // so that the output begins on a line of its own
			if err != nil {
				failed++
				more = fmt.Sprintf("%d failed", failed)
				_, _ = fmt.Fprintf(b.Err, "settled: %s\n", terminal.Printable(err.Error()))
			} else if err := b.Print(v, text); err != nil {
				return err
			}
		}
		if len(sequences) > 1 {
			bar.Update(uint64(done+1), uint64(len(sequences)), more) // #nosec G115 -- counts
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d dead letters were left as they are", failed, len(sequences))
	}
	return nil
}
