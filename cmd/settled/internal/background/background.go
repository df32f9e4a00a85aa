package background

import (
	"context"
	"time"
)

// Run runs a function in a goroutine, until ctx ends or stop is called, which waits for it.
func Run(ctx context.Context, run func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		run(ctx)
	}()
	return func() { cancel(); <-done }
}

// Within calls stop and reports whether it returned in time.
func Within(most time.Duration, stop func()) bool {
	done := make(chan struct{})
	go func() {
		defer close(done)
		stop()
	}()
	select {
	case <-done:
		return true
	case <-time.After(most):
		return false
	}
}
