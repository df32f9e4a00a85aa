// Command settled is the settlement engine for ClearNode app sessions: it takes
// outcome events from NATS JetStream, closes each session at its ClearNode with
// the right final allocation, exactly once, and records the result in a ledger.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"settled/cmd/settled/internal/terminal"
)

// Exit statuses, as the command line's contract names them.
const (
	exitDone = iota
	exitFailed
	exitMisused
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	go exitOnSecondSignal(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// exitOnSecondSignal gives the signals back their usual effect once the first has
// begun a graceful stop: the second one ends the process at once.
func exitOnSecondSignal(ctx context.Context, stop func()) {
	<-ctx.Done()
	stop()
}

// run executes one command line and returns its exit status.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	out := terminal.New(stdin, stdout, stderr)
	root := newRoot(out)
	root.SetArgs(args)
	err := bounded(ctx, stopBound, func() error { return root.ExecuteContext(ctx) })
	if failed := out.Failed(); err == nil && failed != nil {
		err = fmt.Errorf("the result could not be written: %w", failed)
	}
	switch {
	case err == nil:
		return exitDone
	case terminal.IsUsageError(err):
		_, _ = fmt.Fprintf(stderr, "settled: %s\n", terminal.PrintableLines(err.Error()))
		return exitMisused
	default:
		_, _ = fmt.Fprintf(stderr, "settled: %s\n", terminal.PrintableLines(err.Error()))
		return exitFailed
	}
}

// stopBound is how long after a signal a command ends at the latest. Each part of a
// service has bounds of its own, which together are less: this one is for a wait that
// has none, in a library perhaps.
const stopBound = 14500 * time.Millisecond

// errStopBound says that something did not end in time. What was in hand is
// delivered again, as after a crash.
var errStopBound = fmt.Errorf("not everything ended within %s of the signal to stop: what was in hand is delivered again after the acknowledgement wait", stopBound)

// bounded runs a command, and waits for it no longer than most once ctx has ended.
func bounded(ctx context.Context, most time.Duration, command func() error) error {
	done := make(chan error, 1)
	go func() { done <- command() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	bound := time.NewTimer(most)
	defer bound.Stop()
	select {
	case err := <-done:
		return err
	case <-bound.C:
		return errStopBound
	}
}
