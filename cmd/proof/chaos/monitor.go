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

// monitor reads the state of the streams, as the user settled.
type monitor struct {
	nc *nats.Conn
	js jetstream.JetStream

	mu     sync.Mutex
	latest streamState
}

// streamState is how far settled is.
type streamState struct {
	entries      uint64 // last sequence in the ledger
	stored       uint64 // last sequence in OUTCOMES
	acknowledged uint64 // the sequence up to which every message is acknowledged
	undelivered  uint64
	unanswered   int // delivered but not acknowledged
}

func (s streamState) String() string {
	return fmt.Sprintf("%d messages stored, %d not delivered, %d not acknowledged, all acknowledged up to %d", s.stored, s.undelivered, s.unanswered, s.acknowledged)
}

func (m *monitor) read(ctx context.Context) (s streamState, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	entries, err := m.js.Stream(ctx, ledger.StreamName(""))
	if err != nil {
		return s, err
	}
	outcomes, err := m.js.Stream(ctx, consumer.OutcomesStream(""))
	if err != nil {
		return s, err
	}
	c, err := outcomes.Consumer(ctx, "settled")
	if err != nil {
		return s, err
	}
	info := c.CachedInfo()
	s = streamState{
		entries: entries.CachedInfo().State.LastSeq, stored: outcomes.CachedInfo().State.LastSeq,
		acknowledged: info.AckFloor.Stream, undelivered: info.NumPending, unanswered: info.NumAckPending,
	}
	if info.Delivered.Stream == 0 {
		s.acknowledged = 0
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.latest = s
	return s, nil
}

// run reads the state once a second.
func (m *monitor) run(ctx context.Context) {
	for process.Sleep(ctx, time.Second) {
		_, _ = m.read(ctx) // the servers may be down
	}
}

func (m *monitor) last() streamState {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.latest
}

// waitAnswered waits until every stored message is acknowledged.
func (m *monitor) waitAnswered(ctx context.Context, within time.Duration) error {
	var s streamState
	var err error
	for deadline := time.Now().Add(within); time.Now().Before(deadline); {
		if s, err = m.read(ctx); err == nil && s.undelivered == 0 && s.unanswered == 0 && s.acknowledged == s.stored {
			return nil
		}
		if !process.Sleep(ctx, 250*time.Millisecond) {
			return ctx.Err()
		}
	}
	if err == nil {
		err = errors.New(s.String())
	}
	return fmt.Errorf("not all settled within %s of the last fault: %w", within, err)
}

// waitLeader waits until the servers have elected a leader.
func (m *monitor) waitLeader(ctx context.Context, within time.Duration) error {
	err := errors.New("timeout")
	for deadline := time.Now().Add(within); err != nil && time.Now().Before(deadline); {
		attempt, cancel := context.WithTimeout(ctx, time.Second)
		_, err = m.js.AccountInfo(attempt)
		cancel()
		if !process.Sleep(ctx, 100*time.Millisecond) {
			return ctx.Err()
		}
	}
	if err != nil {
		return fmt.Errorf("the NATS servers elected no leader within %s: %w", within, err)
	}
	return nil
}
