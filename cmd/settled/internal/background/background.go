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

// Wake interrupts a Wait. The zero value interrupts nothing.
type Wake chan struct{}

func NewWake() Wake { return make(Wake, 1) }

// Now ends the present Wait, or else the next one. It doesn't block.
func (w Wake) Now() {
	select {
	case w <- struct{}{}:
	default: // requested already
	}
}

// Wait waits until Now is called, at most the given time. It reports false once ctx has
// ended.
func (w Wake) Wait(ctx context.Context, most time.Duration) bool {
	select {
	case <-ctx.Done():
	case <-w:
	case <-time.After(most):
	}
	return ctx.Err() == nil
}

// Sleep waits for the given time. It reports false once ctx has ended.
func Sleep(ctx context.Context, d time.Duration) bool { return Wake(nil).Wait(ctx, d) }

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
