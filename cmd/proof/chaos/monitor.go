package main

import (
	"context"
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

// whyNotAnswered returns what is missing until every stored message is acknowledged.
func (m *monitor) whyNotAnswered(ctx context.Context) string {
	s, err := m.read(ctx)
	switch {
	case err != nil:
		return err.Error()
	case s.undelivered == 0 && s.unanswered == 0 && s.acknowledged == s.stored:
		return ""
	}
	return fmt.Sprintf("%d messages stored, %d not delivered, %d not acknowledged, all acknowledged up to %d", s.stored, s.undelivered, s.unanswered, s.acknowledged)
}

// whyNoLeader returns "" once the servers have elected a leader.
func (m *monitor) whyNoLeader(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if _, err := m.js.AccountInfo(ctx); err != nil {
		return "the NATS servers have no leader: " + err.Error()
	}
	return ""
}
