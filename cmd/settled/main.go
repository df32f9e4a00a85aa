// Command settled is the settlement engine for ClearNode app sessions: it takes
// outcome events from NATS JetStream, closes each session at its ClearNode with
// the right final allocation, exactly once, and records the result in a ledger.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"settled/cmd/settled/internal/status"
	"settled/cmd/settled/internal/terminal"
)

// Exit statuses.
const (
	exitDone = iota
	exitFailed
	exitMisused
	exitWaiting  // publish --wait and status: no result yet
	exitNotFound // status: no such outcome
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	go exitOnSecondSignal(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// exitOnSecondSignal restores the default effect of the signals once the first has begun a
// graceful stop, so that the second one ends the process.
func exitOnSecondSignal(ctx context.Context, stop func()) {
	<-ctx.Done()
	stop()
}

// run executes one command line and returns its exit status.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	out := terminal.New(stdin, stdout, stderr)
	root := newRoot(out)
	root.SetArgs(args)
	err := runBounded(ctx, stopBound, func() error { return root.ExecuteContext(ctx) })
	if failed := out.WriteError(); err == nil && failed != nil {
		err = fmt.Errorf("the result could not be written: %w", failed)
	}
	if err == nil {
		return exitDone
	}
	_, _ = fmt.Fprintf(stderr, "settled: %s\n", terminal.PrintableLines(err.Error()))
	switch {
	case terminal.IsUsageError(err):
		return exitMisused
	case errors.Is(err, errStillWaiting):
		return exitWaiting
	case errors.Is(err, status.ErrNotFound):
		return exitNotFound
	default:
		return exitFailed
	}
}

// stopBound is the time after a signal at which a command ends at the latest. The bounds of
// a service's parts add up to less; this one covers an unbounded wait, as in a library.
const stopBound = 14500 * time.Millisecond

// errStopBound says that something did not end in time.
var errStopBound = fmt.Errorf("not everything ended within %s of the signal to stop: outcomes in progress are delivered again after consumer.ack_wait", stopBound)

// runBounded runs a command, and waits for it at most the given time once ctx has ended.
func runBounded(ctx context.Context, most time.Duration, command func() error) error {
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
