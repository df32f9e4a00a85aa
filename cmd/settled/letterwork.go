package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/time/rate"

	"settled/cmd/settled/internal/terminal"
	"settled/consumer/deadletter"
)

// letterTime bounds the work on one letter.
const letterTime = 30 * time.Second

// letterWork does something with each letter that the arguments or the filters name.
type letterWork struct {
	*program
	flags letterFlags
	args  []string
	limit *rate.Limiter // nil: none
	// do answers with a value for programs and a text for people.
	do func(ctx context.Context, d *letterRoom, sequence uint64) (v any, text string, err error)
}

// run works through all of them. One that fails is told, and does not keep the others
// from it. A stop finishes the one in hand; what is done is done, so that the same
// command goes on where it was.
func (w letterWork) run(cmd *cobra.Command) error {
	if err := w.flags.check(w.args); err != nil {
		return err
	}
	return w.withLetters(cmd, w.flags.as, func(ctx context.Context, d *letterRoom) error {
		sequences, err := w.chosen(ctx, w.flags, w.args, d)
		if err != nil {
			return err
		}
		if len(sequences) == 0 && !w.JSON() {
			return w.PrintLine("No dead letter fits.")
		}
		return w.each(ctx, d, sequences)
	})
}

func (w letterWork) each(ctx context.Context, d *letterRoom, sequences []uint64) error {
	bar := w.Progress("dead letters")
	defer bar.End()
	failed := 0
	for done, sequence := range sequences {
		if ctx.Err() != nil || w.limit != nil && w.limit.Wait(ctx) != nil {
			return fmt.Errorf("stopped after %d of %d dead letters: run the same command again to go on", done, len(sequences))
		}
		left, err := w.one(ctx, d, sequence, bar)
		if err != nil {
			return err
		}
		if left {
			failed++
		}
		w.tell(bar, done+1, len(sequences), failed)
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d dead letters were left as they are", failed, len(sequences))
	}
	return nil
}

// tell says how far it is, where that is of interest.
func (w letterWork) tell(bar *terminal.Progress, done, of, failed int) {
	more := ""
	if failed > 0 {
		more = fmt.Sprintf("%d failed", failed)
	}
	if of > 1 {
		bar.At(uint64(done), uint64(of), more) // #nosec G115 -- counts
	}
}

// one works on a letter whatever becomes of ctx. The error is one of our output.
func (w letterWork) one(ctx context.Context, d *letterRoom, sequence uint64, bar *terminal.Progress) (failed bool, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), letterTime)
	defer cancel()
	v, text, err := w.do(ctx, d, sequence)
	if w.flags.all && errors.Is(err, deadletter.ErrNotFound) {
		return false, nil // another terminal came first
	}
	bar.End() // what follows begins on a line of its own
	if err != nil {
		_, _ = fmt.Fprintf(w.Err, "settled: %s\n", terminal.Printable(err.Error()))
		return true, nil
	}
	return false, w.Print(v, text)
}
