package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"settled/cmd/proof/process"
	"settled/consumer"
	"settled/ledger"
)

const durable = "settled"

// watch looks at the streams, as the user of settled, who may see all of it.
type watch struct {
	nc *nats.Conn
	js jetstream.JetStream

	mu      sync.Mutex
	running sync.WaitGroup
	last    standing
}

// standing is how far everything is.
type standing struct {
	Entries    uint64 // in the ledger
	Stored     uint64 // the last sequence in OUTCOMES
	Floor      uint64 // up to which every message is answered for good
	Pending    uint64 // not delivered yet
	Unanswered int    // delivered, and without a final answer
	Seen       time.Time
}

func (s standing) done() bool {
	return s.Pending == 0 && s.Unanswered == 0 && s.Floor == s.Stored
}

func (s standing) String() string {
	return fmt.Sprintf("%d messages stored, %d not delivered, %d without a final answer, all answered up to %d", s.Stored, s.Pending, s.Unanswered, s.Floor)
}

// look asks the servers.
func (w *watch) look(ctx context.Context) (s standing, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	entries, err := w.js.Stream(ctx, ledger.StreamName(""))
	if err != nil {
		return s, err
	}
	outcomes, err := w.js.Stream(ctx, consumer.OutcomesStream(""))
	if err != nil {
		return s, err
	}
	c, err := outcomes.Consumer(ctx, durable)
	if err != nil {
		return s, err
	}
	info := c.CachedInfo()
	s = standing{
		Entries: entries.CachedInfo().State.LastSeq, Stored: outcomes.CachedInfo().State.LastSeq,
		Floor: info.AckFloor.Stream, Pending: info.NumPending, Unanswered: info.NumAckPending, Seen: time.Now(),
	}
	if info.Delivered.Stream == 0 {
		s.Floor = 0
	}
	w.mu.Lock()
	w.last = s
	w.mu.Unlock()
	return s, nil
}

// glance is the last that was seen; it looks again beside the caller.
func (w *watch) glance(ctx context.Context) standing {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running.Go(func() { _, _ = w.look(ctx) })
	return w.last
}

// stepDown asks a leader to step down. Where there is none now nothing happens.
func (w *watch) stepDown(ctx context.Context, subject string) {
	w.running.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		_, _ = w.nc.RequestWithContext(ctx, "$JS.API."+subject, nil)
	})
}

// done waits until every message that is stored has its final answer, and says
// what is left where that takes too long.
func (w *watch) done(ctx context.Context, within time.Duration) error {
	var s standing
	var err error
	for deadline := time.Now().Add(within); time.Now().Before(deadline); {
		if s, err = w.look(ctx); err == nil && s.done() {
			return nil
		}
		if !process.Pause(ctx, 250*time.Millisecond) {
			return ctx.Err()
		}
	}
	if err != nil {
		return fmt.Errorf("not all settled within %s of the last fault: %w", within, err)
	}
	return fmt.Errorf("not all settled within %s of the last fault: %s", within, s)
}

// up waits until the servers have chosen who leads them.
func (w *watch) up(ctx context.Context, within time.Duration) error {
	err := errors.New("never asked")
	for deadline := time.Now().Add(within); err != nil && time.Now().Before(deadline); {
		attempt, cancel := context.WithTimeout(ctx, time.Second)
		_, err = w.js.AccountInfo(attempt)
		cancel()
		if !process.Pause(ctx, 100*time.Millisecond) {
			return ctx.Err()
		}
	}
	return err
}
