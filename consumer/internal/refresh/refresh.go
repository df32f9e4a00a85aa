// Package refresh repeats a read, periodically and when something changed.
package refresh

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
)

// Loop repeats a read. New makes one.
type Loop chan struct{}

// New returns a Loop.
func New() Loop { return make(Loop, 1) }

// Soon asks Run for a read now, and returns at once.
func (l Loop) Soon() {
	select {
	case l <- struct{}{}:
	default:
	}
}

// Run reads after the wait and again after each wait that read returns, or as soon as Soon
// is called, until ctx ends.
func (l Loop) Run(ctx context.Context, wait time.Duration, read func(context.Context) (wait time.Duration)) {
	for {
		timer := time.NewTimer(wait)
		select {
		case <-l:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
		wait = read(ctx)
	}
}

// Subscribe calls changed for each message on the subject. If that is not possible it calls
// failed: changes are then found by the next periodic read.
func Subscribe(nc *nats.Conn, subject string, changed func(), failed func(error)) (unsubscribe func()) {
	sub, err := nc.Subscribe(subject, func(*nats.Msg) { changed() })
	if err != nil {
		failed(err)
		return func() {}
	}
	return func() { _ = sub.Unsubscribe() }
}
