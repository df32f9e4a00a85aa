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

	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/natsconn"
	"settled/cmd/settled/internal/terminal"
	"settled/consumer/deadletter"
	"settled/settlement"
)

// letterFlags choose dead letters, by sequence or by what they say.
type letterFlags struct {
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
		Long: "Outcomes that failed are dead letters until somebody replays or discards them. Begin with `list`, then `show`\none: it says what happened, how its session is now, and what to do.",
	}
	c.AddCommand(p.deadletterList(), p.deadletterShow(), p.deadletterReplay(), p.deadletterDiscard())
	return c
}

func (f *letterFlags) filters(c *cobra.Command) {
	c.Flags().StringVar(&f.code, "code", "", "only this error code")
	c.Flags().StringVar(&f.class, "class", "", "only rejected, conflict or exhausted")
	c.Flags().StringVar(&f.scenario, "scenario", "", "only this scenario; unknown: could not be read")
	c.Flags().StringVar(&f.session, "session", "", "only this session")
	c.Flags().StringVar(&f.since, "since", "", "only failed since: a time (2026-11-22T03:00:00Z) or how long ago (2h)")
	c.Flags().StringVar(&f.before, "before", "", "only failed before: likewise")
	c.Flags().IntVar(&f.limit, "limit", 0, "at most this many; 0 is all")
	c.Flags().Uint64Var(&f.after, "after", 0, "only beyond this sequence: the next page")
}

func (f *letterFlags) acts(c *cobra.Command) {
	f.filters(c)
	c.Flags().BoolVar(&f.all, "all", false, "all that the filters leave")
	addWho(c, &f.as)
}

// filter is what the flags choose.
func (f letterFlags) filter() (deadletter.Filter, error) {
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

// timeFlag reads a time, or how long ago.
func timeFlag(name, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(text); err == nil {
		return now.Add(-ago), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		at, err = time.Parse(terminal.ClockLayout, text) // as our own lists show it
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

// letterRoom is what the commands work with: the letters, and how to get at the rest.
type letterRoom struct {
	*deadletter.Queue
	cfg  config.Config
	nats *natsconn.Link
}

// withLetters connects and calls do.
func (p *program) withLetters(cmd *cobra.Command, as string, do func(context.Context, *letterRoom) error) error {
	cfg, _, err := p.load(cmd)
	if err != nil {
		return err
	}
	nc, err := natsconn.Connect(&cfg, "settled deadletter", false)
	if err != nil {
		return err
	}
	defer nc.Shutdown()
	room := &letterRoom{deadletter.New(nc.JS, cfg.Consumer()), cfg, nc}
	if as != "" {
		room.Who = as
	}
	return do(cmd.Context(), room)
}

// chosen are the letters that the arguments or the filters name.
func (p *program) chosen(ctx context.Context, f letterFlags, args []string, d *letterRoom) ([]uint64, error) {
	sequences, err := sequenceArguments(args)
	if err != nil || !f.all {
		return sequences, err
	}
	filter, err := f.filter()
	if err != nil {
		return nil, err
	}
	letters, err := d.List(ctx, filter)
	for _, l := range letters {
		sequences = append(sequences, l.Sequence)
	}
	return sequences, err
}

// check refuses what names nothing, or too much, before anything is connected.
func (f letterFlags) check(args []string) error {
	if sequences, err := sequenceArguments(args); err != nil {
		return err
	} else if (len(sequences) > 0) == f.all {
		return terminal.UsageError(errors.New("name the sequences of dead letters, or --all with filters"))
	}
	_, err := f.filter()
	return err
}

// discarded is what `settled deadletter discard` answers for each.
type discarded struct {
	DeadLetter uint64 `json:"dead_letter"`
	Discarded  bool   `json:"discarded"`
}

func (p *program) deadletterDiscard() *cobra.Command {
	var f letterFlags
	var reason string
	c := &cobra.Command{
		Use: "discard SEQUENCE… | --all --reason TEXT", Short: "Remove dead letters for good", Args: cobra.ArbitraryArgs,
		Long: "Removes dead letters: these outcomes will never be settled. Who, when and why is recorded in OPERATIONS. The\noutcome itself stays in its stream, and its failure in the ledger.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if strings.TrimSpace(reason) == "" {
				return terminal.UsageError(errors.New("--reason is not given: say why it will never be settled; it is recorded"))
			}
			w := letterWork{program: p, flags: f, args: args, do: func(ctx context.Context, d *letterRoom, sequence uint64) (any, string, error) {
				err := d.Discard(ctx, sequence, reason)
				return discarded{sequence, err == nil}, fmt.Sprintf("Dead letter %d is discarded.", sequence), err
			}}
			return w.run(cmd)
		},
	}
	f.acts(c)
	c.Flags().StringVar(&reason, "reason", "", "why; it is recorded")
	return c
}
