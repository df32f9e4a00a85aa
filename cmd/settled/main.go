// Command settled is the settlement engine for ClearNode app sessions: it takes
// outcome events from NATS JetStream, closes each session at its ClearNode with
// the right final allocation, exactly once, and records the result in a ledger.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
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

// resultWriter keeps the first error of writing a command's result, so that no command
// succeeds whose result was lost.
type resultWriter struct {
	to     io.Writer
	mu     sync.Mutex
	failed error
}

func (w *resultWriter) Write(p []byte) (int, error) {
	n, err := w.to.Write(p)
	if err != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.failed = cmp.Or(w.failed, err)
	}
	return n, err
}

func (w *resultWriter) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failed
}

// run executes one command line and returns its exit status.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	out := &resultWriter{to: stdout}
	root := newRoot(stdin, out, stderr)
	root.SetArgs(args)
	err := bounded(ctx, stopBound, func() error { return root.ExecuteContext(ctx) })
	if failed := out.failure(); err == nil && failed != nil {
		err = fmt.Errorf("the result could not be written: %w", failed)
	}
	var wrong misuse
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &wrong):
		_, _ = fmt.Fprintf(stderr, "settled: %s\n", printableLines(err.Error()))
		return exitMisused
	default:
		_, _ = fmt.Fprintf(stderr, "settled: %s\n", printableLines(err.Error()))
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
