package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"settled/cmd/settled/internal/terminal"
	"settled/settlement"
)

// replayFlags are the flags of `settled deadletter replay`.
type replayFlags struct {
	letterFlags
	rate         string
	dryRun, edit bool
}

func (p *program) deadletterReplay() *cobra.Command {
	var f replayFlags
	c := &cobra.Command{
		Use: "replay SEQUENCE… | --all", Short: "Publish dead letters again, and remove them", Args: cobra.ArbitraryArgs,
		Long: "Publishes each dead letter's message again under a new sequence, then removes the dead letter. It is safe at\nany time, also twice and from two terminals: settled asks its ledger and the node before it pays. Ctrl-C\nfinishes the letter in hand; the same command again goes on where it was.",
		Example: "  settled deadletter replay 17 --dry-run        # what would become of it now\n  settled deadletter replay 17 --edit           # mend its payload first\n" +
			"  settled deadletter replay --all --code node_rejected --rate 20/s",
		RunE: func(cmd *cobra.Command, args []string) error { return p.replay(cmd, f, args) },
	}
	f.acts(c)
	c.Flags().StringVar(&f.rate, "rate", "", "at most so many, such as 50/s, 600/m or 100/h; no limit if not given")
	c.Flags().BoolVar(&f.dryRun, "dry-run", false, "say what would become of each now, from ledger and node; nothing is published")
	c.Flags().BoolVar(&f.edit, "edit", false, "edit the payload in $EDITOR first; what is no valid outcome is refused. One letter only")
	return c
}

func (p *program) replay(cmd *cobra.Command, f replayFlags, args []string) error {
	limit, err := terminal.Rate(f.rate)
	if err != nil {
		return err
	}
	w := letterWork{program: p, flags: f.letterFlags, args: args, limit: limit}
	switch {
	case f.edit && (f.all || len(args) != 1 || f.dryRun):
		return terminal.UsageError(errors.New("--edit is for one dead letter: name its sequence, and neither --all nor --dry-run"))
	case f.edit:
		return p.replayEdited(cmd, f, args)
	case f.dryRun:
		return p.dryRun(cmd, w)
	}
	w.do = func(ctx context.Context, d *letterRoom, sequence uint64) (any, string, error) {
		r, err := d.Replay(ctx, sequence)
		return r, fmt.Sprintf("Dead letter %d is replayed as %s/%d.", sequence, r.Stream, r.Sequence), err
	}
	return w.run(cmd)
}

// forecast is what would become of a dead letter that is replayed now.
type forecast struct {
	DeadLetter  uint64                  `json:"dead_letter,omitempty"`
	Session     settlement.SessionID    `json:"session_id"`
	Scenario    settlement.Scenario     `json:"scenario"`
	Would       string                  `json:"would"` // close, done (it is closed as planned already), fail or wait; unknown: the node is not asked
	Code        string                  `json:"code"`  // of fail; the reason of wait
	Message     string                  `json:"message"`
	Allocations []settlement.Allocation `json:"allocations"` // of close and done
}

// dryRun says what would become of each letter.
func (p *program) dryRun(cmd *cobra.Command, w letterWork) error {
	var o *outlook
	defer func() {
		if o != nil {
			o.close()
		}
	}()
	w.do = func(ctx context.Context, d *letterRoom, sequence uint64) (any, string, error) {
		if o == nil {
			o = newOutlook(ctx, &d.cfg, d.nats)
		}
		l, err := d.Get(ctx, sequence)
		if err != nil {
			return nil, "", err
		}
		f, err := o.forecast(ctx, d.Outcome(l))
		f.DeadLetter = sequence
		return f, fmt.Sprintf("Dead letter %d: %s", sequence, f.text()), err
	}
	return w.run(cmd)
}

// forecast turns the next move into what a person wants to know.
func (o *outlook) forecast(ctx context.Context, outcome settlement.Outcome) (forecast, error) {
	f := forecast{Session: outcome.Session, Scenario: outcome.Scenario, Allocations: []settlement.Allocation{}}
	decision, err := o.preview(ctx, outcome)
	if err != nil {
		return f, err
	}
	if decision.Plan != nil {
		f.Allocations = decision.Plan.Allocations
	}
	switch decision.Action {
	case settlement.ActionFail:
		f.Would, f.Code, f.Message = "fail", string(decision.Failure.Code), decision.Failure.Message
	case settlement.ActionWait:
		f.Would, f.Code = "wait", string(decision.Waiting.Reason)
		if decision.Waiting.Err != nil {
			f.Message = decision.Waiting.Err.Error()
		}
		if errors.Is(decision.Waiting.Err, errNotAsked) {
			f.Would, f.Code = "unknown", ""
		}
	case settlement.ActionDone:
		f.Would = "done"
	default:
		f.Would = "close"
	}
	return f, nil
}

func (f forecast) text() string {
	switch f.Would {
	case "fail":
		return terminal.Printable(fmt.Sprintf("would fail with %s: %s", f.Code, f.Message))
	case "wait":
		return terminal.Printable(fmt.Sprintf("would wait (%s): %s", f.Code, f.Message))
	case "unknown":
		return terminal.Printable("can't be told: " + f.Message)
	case "done":
		return terminal.Printable("is closed as planned already: " + terminal.AllocationText(f.Allocations))
	default:
		return terminal.Printable("would close its session, where the keys reach the quorum: " + terminal.AllocationText(f.Allocations))
	}
}
