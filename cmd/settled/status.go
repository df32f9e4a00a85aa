package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"settled/cmd/settled/internal/natsconn"
	"settled/cmd/settled/internal/status"
	"settled/cmd/settled/internal/terminal"
)

// statusFlags are the flags of `settled status`.
type statusFlags struct {
	source, id string
	last       uint64
}

func (p *program) statusCommand() *cobra.Command {
	var f statusFlags
	c := &cobra.Command{
		Use: "status [SEQUENCE | SESSION | --source SOURCE --id ID]", Short: "Tell what became of an outcome", Args: cobra.MaximumNArgs(1),
		Example: "  settled status 17\n  settled status 0xcaeb…\n  settled status --source /shop --id order-4711",
		Long: `Tells what became of an outcome: waiting (why, and since when), closing (until when a request may take effect), closed (who
got what), failed (why, and what to do), or lost (acknowledged without a result). The outcome is named by the sequence of its
message in OUTCOMES, which ` + "`settled publish`" + ` and the answer to every publish state, by its session, or by its source and id.

It reads what NATS has stored; neither the node nor ` + "`settled serve`" + ` has to run. Why an outcome waits that a replica has
tried, only that replica knows: GET /api/outcome of the replica tells it.

Exits with 0 if the outcome is closed, 1 if it failed or is lost, 3 if it has no result yet, and 4 if there is no such outcome.`,
		RunE: func(cmd *cobra.Command, args []string) error { return p.status(cmd, args, f) },
	}
	c.Flags().StringVar(&f.source, "source", "", "CloudEvents source of the outcome, with --id")
	c.Flags().StringVar(&f.id, "id", "", "CloudEvents id of the outcome, with --source")
	c.Flags().Uint64Var(&f.last, "last", 100_000, "with --id, how many of the newest messages are searched; 0: all")
	return c
}

// errNoResult says that an outcome has failed or is lost; the answer says why.
var errNoResult = errors.New("the session was not closed by this outcome")

func (p *program) status(cmd *cobra.Command, args []string, f statusFlags) error {
	ask, err := f.question(args)
	if err != nil {
		return terminal.UsageError(err)
	}
	cfg, _, err := p.load(cmd)
	if err != nil {
		return err
	}
	nc, err := natsconn.Connect(natsconn.AsOperator(&cfg), "settled status", false)
	if err != nil {
		return err
	}
	defer nc.Shutdown()
	bar := p.Progress("outcomes")
	r := &status.Reader{JS: nc.JS, Consumer: cfg.Consumer(), Policies: cfg.Policies, ProgressFunc: func(done, all uint64) { bar.Update(done, all, "") }}
	answer, err := ask(cmd.Context(), r)
	bar.Clear()
	if err != nil {
		return err
	}
	if err := p.Print(answer, answer.Text()); err != nil {
		return err
	}
	switch answer.State {
	case status.Closed:
		return nil
	case status.Failed:
		return fmt.Errorf("%w: it failed with %s", errNoResult, answer.Code)
	case status.Lost:
		return fmt.Errorf("%w: %s", errNoResult, answer.Message)
	default:
		return fmt.Errorf("%w: the outcome is %s", errStillWaiting, answer.State)
	}
}

// question returns the request that the arguments state.
func (f statusFlags) question(args []string) (func(context.Context, *status.Reader) (status.Answer, error), error) {
	byID := f.source != "" || f.id != ""
	switch {
	case byID == (len(args) > 0), byID && (f.source == "" || f.id == ""):
		return nil, errors.New("name one outcome: by the SEQUENCE of its message, by its SESSION, or by --source and --id")
	case byID:
		return func(ctx context.Context, r *status.Reader) (status.Answer, error) {
			return r.ByID(ctx, f.source, f.id, f.last)
		}, nil
	}
	if sequence, err := strconv.ParseUint(args[0], 10, 64); err == nil && sequence > 0 {
		return func(ctx context.Context, r *status.Reader) (status.Answer, error) { return r.BySequence(ctx, sequence) }, nil
	}
	session, err := sessionArgument(args[0])
	if err != nil || session == "" {
		return nil, fmt.Errorf("%q is neither the sequence of a message in OUTCOMES nor a session id (0x and 64 hex digits)", args[0])
	}
	return func(ctx context.Context, r *status.Reader) (status.Answer, error) { return r.BySession(ctx, session) }, nil
}
