package main

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"settled/cmd/settled/internal/host"
	"settled/cmd/settled/internal/natsconn"
	"settled/cmd/settled/internal/terminal"
	"settled/consumer/operations"
)

// operationFlags say why, and who.
type operationFlags struct{ reason, as string }

func (f *operationFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.reason, "reason", "", "why; it is recorded, and needed")
	addWho(c, &f.as)
}

func addWho(c *cobra.Command, as *string) {
	c.Flags().StringVar(as, "as", "", "who acts, as it is recorded; user@host if not given")
}

func (p *program) stopCommand() *cobra.Command {
	var f operationFlags
	c := &cobra.Command{
		Use: "stop --reason TEXT", Short: "Stop all sending, on every replica, until resume",
		Long: "Stops all sending to the ClearNode: every replica goes on reading, records what it finds, and lets outcomes\nwait. What is being sent at this moment still is. settled does the same by itself when it sees a session that\nwas paid more than was in it.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withOperations(cmd, f, func(ctx context.Context, o *operations.Log) error {
				op, err := o.Stop(ctx, f.reason)
				if err != nil {
					return err
				}
				return p.Print(stopped{Stopped: true, Stop: stopOf(&op)}, "All sending is stopped. `settled resume --reason …` lets it go on.")
			})
		},
	}
	f.add(c)
	return c
}

func (p *program) resumeCommand() *cobra.Command {
	var f operationFlags
	c := &cobra.Command{
		Use: "resume --reason TEXT", Short: "Let sending go on after a stop",
		Long: "Lifts the last stop, and says who had stopped, when and why. Look into that first: see `overpaid` in\ndeploy/RUNBOOK.md. Outcomes that wait go on within consumer.backoff.max.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withOperations(cmd, f, func(ctx context.Context, o *operations.Log) error {
				stop, err := o.Resume(ctx, f.reason)
				if err != nil {
					return err
				}
				if stop == nil {
					return p.Print(resumed{}, "Nothing is stopped.")
				}
				return p.Print(resumed{Resumed: true, Stop: stopOf(stop)}, host.StopText(stop)+"\nSending goes on. Outcomes that wait are looked at again within consumer.backoff.max, 2 minutes if not set.")
			})
		},
	}
	f.add(c)
	return c
}

// withOperations connects and calls do.
func (p *program) withOperations(cmd *cobra.Command, f operationFlags, do func(context.Context, *operations.Log) error) error {
	if strings.TrimSpace(f.reason) == "" {
		return terminal.UsageError(errors.New("--reason is not given: say why; it is recorded"))
	}
	cfg, _, err := p.load(cmd)
	if err != nil {
		return err
	}
	nc, err := natsconn.Connect(&cfg, "settled "+cmd.Name(), false)
	if err != nil {
		return err
	}
	defer nc.Shutdown()
	o := operations.New(nc.JS, cfg.Consumer())
	if f.as != "" {
		o.Who = f.as
	}
	return do(cmd.Context(), o)
}

// stopped and resumed are what `settled stop` and `settled resume` answer.
type stopped struct {
	Stopped bool      `json:"stopped"`
	Stop    *stopInfo `json:"stop"`
}

type resumed struct {
	Resumed bool      `json:"resumed"`
	Stop    *stopInfo `json:"stop"` // that was lifted; null where none was in force
}

// stopInfo is a stop with its place in the stream.
type stopInfo struct {
	operations.Record
	Sequence uint64 `json:"sequence"`
}

func stopOf(op *operations.Record) *stopInfo { return &stopInfo{*op, op.Sequence} }
