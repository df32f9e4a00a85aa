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

// misuse is an error in how a command was called.
type misuse struct{ error }

// run executes one command line and returns its exit status.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot(stdin, stdout, stderr)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var wrong misuse
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &wrong):
		_, _ = fmt.Fprintf(stderr, "settled: %s\n", err)
		return exitMisused
	default:
		_, _ = fmt.Fprintf(stderr, "settled: %s\n", err)
		return exitFailed
	}
}
