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

	"settled/consumer"
	"settled/settlement"
)

// letterFlags choose dead letters, by sequence or by what they say.
type letterFlags struct {
	all                            bool
	code, class, scenario, session string
	since, before                  string
	limit                          int
	reason                         string
}

func (p *program) deadletterCommand() *cobra.Command {
	c := &cobra.Command{Use: "deadletter", Short: "List, show, replay and discard dead letters"}
	c.AddCommand(p.deadletterList(), p.deadletterShow(), p.deadletterReplay(), p.deadletterDiscard())
	return c
}

func (f *letterFlags) filters(c *cobra.Command) {
	c.Flags().StringVar(&f.code, "code", "", "only this error code")
	c.Flags().StringVar(&f.class, "class", "", "only rejected, conflict or exhausted")
	c.Flags().StringVar(&f.scenario, "scenario", "", "only this scenario")
	c.Flags().StringVar(&f.session, "session", "", "only this session")
	c.Flags().StringVar(&f.since, "since", "", "only failed since: a time (2026-11-22T03:00:00Z) or how long ago (2h)")
	c.Flags().StringVar(&f.before, "before", "", "only failed before: likewise")
}

func (p *program) deadletterList() *cobra.Command {
	var f letterFlags
	c := &cobra.Command{
		Use: "list", Short: "List dead letters, oldest first",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withLetters(cmd, func(ctx context.Context, d *consumer.DeadLetters) error { return p.listLetters(ctx, d, f) })
		},
	}
	f.filters(c)
	c.Flags().IntVar(&f.limit, "limit", 0, "at most this many; 0 is all")
	return c
}

func (p *program) deadletterShow() *cobra.Command {
	return &cobra.Command{
		Use: "show SEQUENCE", Short: "Show one dead letter: why it failed, its headers and its payload", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			sequences, err := sequenceArguments(args)
			if err != nil {
				return err
			}
			return p.withLetters(cmd, func(ctx context.Context, d *consumer.DeadLetters) error {
				return p.showLetter(ctx, d, sequences[0])
			})
		},
	}
}

func (p *program) deadletterReplay() *cobra.Command {
	var f letterFlags
	c := &cobra.Command{
		Use: "replay SEQUENCE… | --all", Short: "Publish dead letters again, and remove them", Args: cobra.ArbitraryArgs,
		Long: "Publishes each dead letter's message again under a new sequence, then removes the dead letter. It is safe at\nany time, also twice: settled asks its ledger and the node before it pays.",
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.eachLetter(cmd, f, args, func(ctx context.Context, d *consumer.DeadLetters, sequence uint64) (any, string, error) {
				r, err := d.Replay(ctx, sequence)
				return r, fmt.Sprintf("Dead letter %d is replayed as %s/%d.", sequence, r.Stream, r.Sequence), err
			})
		},
	}
	f.filters(c)
	c.Flags().BoolVar(&f.all, "all", false, "all that the filters leave")
	return c
}

// discarded is what `settled deadletter discard` answers for each.
type discarded struct {
	DeadLetter uint64 `json:"dead_letter"`
	Discarded  bool   `json:"discarded"`
}

func (p *program) deadletterDiscard() *cobra.Command {
	var f letterFlags
	c := &cobra.Command{
		Use: "discard SEQUENCE… | --all --reason TEXT", Short: "Remove dead letters for good", Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if strings.TrimSpace(f.reason) == "" {
				return misuse{errors.New("--reason is not given: say why it will never be settled; it is recorded")}
			}
			return p.eachLetter(cmd, f, args, func(ctx context.Context, d *consumer.DeadLetters, sequence uint64) (any, string, error) {
				err := d.Discard(ctx, sequence, f.reason)
				return discarded{sequence, err == nil}, fmt.Sprintf("Dead letter %d is discarded.", sequence), err
			})
		},
	}
	f.filters(c)
	c.Flags().BoolVar(&f.all, "all", false, "all that the filters leave")
	c.Flags().StringVar(&f.reason, "reason", "", "why; it is recorded")
	return c
}

// withLetters connects and calls do.
func (p *program) withLetters(cmd *cobra.Command, do func(context.Context, *consumer.DeadLetters) error) error {
	cfg, _, err := p.load(cmd)
	if err != nil {
		return err
	}
	nc, err := cfg.connect("settled deadletter", false)
	if err != nil {
		return err
	}
	defer nc.close()
	return do(cmd.Context(), consumer.NewDeadLetters(nc.js, cfg.consumerConfig(nil)))
}

// eachLetter does something with each letter that the arguments or the filters
// name. One that fails is told and does not keep the others from it.
func (p *program) eachLetter(cmd *cobra.Command, f letterFlags, args []string, do func(context.Context, *consumer.DeadLetters, uint64) (any, string, error)) error {
	sequences, err := sequenceArguments(args)
	if err != nil {
		return err
	}
	if (len(sequences) > 0) == f.all {
		return misuse{errors.New("name the sequences of dead letters, or --all with filters")}
	}
	return p.withLetters(cmd, func(ctx context.Context, d *consumer.DeadLetters) error {
		if f.all {
			letters, err := f.find(ctx, d)
			if err != nil {
				return err
			}
			for _, l := range letters {
				sequences = append(sequences, l.Sequence)
			}
		}
		failed := 0
		for _, sequence := range sequences {
			v, text, err := do(ctx, d, sequence)
			if err != nil {
				failed++
				_, _ = fmt.Fprintf(p.stderr, "settled: %s\n", err)
				continue
			}
			if err := p.print(v, text); err != nil {
				return err
			}
		}
		if failed > 0 {
			return fmt.Errorf("%d of %d dead letters were left as they are", failed, len(sequences))
		}
		if len(sequences) == 0 && !p.json() {
			return p.printLine("No dead letter fits.")
		}
		return nil
	})
}

func sequenceArguments(args []string) ([]uint64, error) {
	var sequences []uint64
	for _, arg := range args {
		n, err := strconv.ParseUint(arg, 10, 64)
		if err != nil || n == 0 {
			return nil, misuse{fmt.Errorf("%q is no sequence: `settled deadletter list` shows them", arg)}
		}
		sequences = append(sequences, n)
	}
	return sequences, nil
}

func (f letterFlags) find(ctx context.Context, d *consumer.DeadLetters) ([]consumer.Letter, error) {
	filter := consumer.Filter{
		Code: settlement.Code(f.code), Class: settlement.Class(f.class), Scenario: settlement.Scenario(f.scenario), Limit: f.limit,
	}
	if f.code != "" && !slices.Contains(settlement.Codes(), filter.Code) {
		return nil, misuse{fmt.Errorf("--code %q is unknown: want one of %v", f.code, settlement.Codes())}
	}
	if f.session != "" {
		id, err := settlement.ParseSessionID(f.session)
		if err != nil {
			return nil, misuse{fmt.Errorf("--session: %w", err)}
		}
		filter.Session = id
	}
	var err error
	if filter.Since, err = timeFlag("since", f.since, time.Now()); err != nil {
		return nil, err
	}
	if filter.Before, err = timeFlag("before", f.before, time.Now()); err != nil {
		return nil, err
	}
	return d.List(ctx, filter)
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
		return at, misuse{fmt.Errorf("--%s %q: want a time such as 2026-11-22T03:00:00Z, or how long ago, such as 2h", name, text)}
	}
	return at, nil
}

func (p *program) listLetters(ctx context.Context, d *consumer.DeadLetters, f letterFlags) error {
	letters, err := f.find(ctx, d)
	if err != nil {
		return err
	}
	if p.json() {
		for _, l := range letters {
			if err := p.printJSON(l); err != nil {
				return err
			}
		}
		return nil
	}
	if len(letters) == 0 {
		return p.printLine("No dead letters.")
	}
	rows := make([][]string, len(letters))
	for i, l := range letters {
		rows[i] = []string{
			strconv.FormatUint(l.Sequence, 10), l.FailedAt.Local().Format(time.DateTime), string(l.Code), string(l.Scenario),
			short(l.Session.Token()), l.Error,
		}
	}
	return p.printTable("SEQUENCE,FAILED AT,CODE,SCENARIO,SESSION,ERROR", rows)
}

// shownLetter is a dead letter with its message.
type shownLetter struct {
	consumer.Letter
	Headers map[string][]string `json:"headers"`
	Payload any                 `json:"payload"` // as JSON where it is JSON, else as text
}

func (p *program) showLetter(ctx context.Context, d *consumer.DeadLetters, sequence uint64) error {
	l, err := d.Get(ctx, sequence)
	if err != nil {
		return err
	}
	if p.json() {
		return p.printJSON(shownLetter{Letter: l, Headers: l.Header, Payload: payload(l.Payload)})
	}
	rows := [][]string{
		{"sequence", strconv.FormatUint(l.Sequence, 10)}, {"failed at", l.FailedAt.Local().Format(time.DateTime)},
		{"code", string(l.Code) + " (" + string(l.Class) + ")"}, {"error", l.Error}, {"scenario", string(l.Scenario)},
		{"session", l.Session.Token()}, {"attempts", strconv.Itoa(l.Attempts)}, {"origin", l.Origin},
	}
	for _, name := range sortedNames(l.Header) {
		rows = append(rows, []string{"header", name + ": " + strings.Join(l.Header[name], ", ")})
	}
	if err := p.printTable("FIELD,VALUE", rows); err != nil {
		return err
	}
	return p.printLine("\n" + printable(string(l.Payload)) + "\n\nWhat to do: deploy/RUNBOOK.md, section " + string(l.Code) + ".")
}

func sortedNames(header map[string][]string) []string {
	names := make([]string, 0, len(header))
	for name := range header {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
