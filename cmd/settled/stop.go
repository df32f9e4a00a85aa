package main

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"settled/cmd/settled/internal/host"
	"settled/cmd/settled/internal/terminal"
	"settled/consumer/operations"
)

// operationFlags are the reason and the operator.
type operationFlags struct{ reason, as string }

func (f *operationFlags) addFlags(c *cobra.Command) {
	c.Flags().StringVar(&f.reason, "reason", "", "reason, which is recorded; required")
	addOperatorFlag(c, &f.as)
}

func addOperatorFlag(c *cobra.Command, as *string) {
	c.Flags().StringVar(as, "as", "", "operator to record; user@host if not given")
}

func (p *program) stopCommand() *cobra.Command {
	var f operationFlags
	c := &cobra.Command{
		Use: "stop --reason TEXT", Short: "Stop all sending, on every replica, until resume",
		Long: "Stops all sending to the ClearNode: every replica continues to read, records what it finds, and lets outcomes\nwait. A request that is being sent is not interrupted. settled does the same by itself when a node paid out more of\na session than was deposited.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withOperations(cmd, f, func(ctx context.Context, o *operations.Log) error {
				op, err := o.Stop(ctx, f.reason)
				if err != nil {
					return err
				}
				return p.Print(stopResult{Stopped: true, Stop: newStopInfo(&op)}, "All sending is stopped. `settled resume --reason …` resumes sending.")
			})
		},
	}
	f.addFlags(c)
	return c
}

func (p *program) resumeCommand() *cobra.Command {
	var f operationFlags
	c := &cobra.Command{
		Use: "resume --reason TEXT", Short: "Resume sending after a stop",
		Long: "Lifts the last stop, and prints who stopped, when and why. Find the cause first: see `overpaid` in\ndeploy/RUNBOOK.md. Waiting outcomes are retried within consumer.backoff.max.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withOperations(cmd, f, func(ctx context.Context, o *operations.Log) error {
				stop, err := o.Resume(ctx, f.reason)
				if err != nil {
					return err
				}
				if stop == nil {
					return p.Print(resumeResult{}, "Nothing is stopped.")
				}
				return p.Print(resumeResult{Resumed: true, Stop: newStopInfo(stop)}, host.StopText(stop)+"\nSending resumes. Waiting outcomes are retried within consumer.backoff.max (2 minutes by default).")
			})
		},
	}
	f.addFlags(c)
	return c
}

// withOperations connects and calls do.
func (p *program) withOperations(cmd *cobra.Command, f operationFlags, do func(context.Context, *operations.Log) error) error {
	if strings.TrimSpace(f.reason) == "" {
		return terminal.UsageError(errors.New("--reason is not given: say why; it is recorded"))
	}
	cfg, nc, err := p.connect(cmd, "settled "+cmd.Name())
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

// stopResult and resumeResult are what `settled stop` and `settled resume` print.
type stopResult struct {
	Stopped bool      `json:"stopped"`
	Stop    *stopInfo `json:"stop"`
}

type resumeResult struct {
	Resumed bool      `json:"resumed"`
	Stop    *stopInfo `json:"stop"` // that was lifted; null where none was in force
}

// stopInfo is a stop with its sequence in the stream.
type stopInfo struct {
	operations.Record
	Sequence uint64 `json:"sequence"`
}

func newStopInfo(op *operations.Record) *stopInfo { return &stopInfo{*op, op.Sequence} }
