package consumer

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"settled/consumer/internal/refresh"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	checkPeriod      = 3 * time.Second        // between two checks of the durable consumer
	checkPeriodError = 500 * time.Millisecond // the same while something is wrong
	checkTime        = 2 * time.Second        // for one check

	// sequenceGap is how far beyond the last known sequence a stream of outcomes begins
	// that is created again. The ledger compares sequences to tell a redelivery from a
	// replay, and acknowledgements name them: none may be used twice.
	sequenceGap = 1_000_000
)

// durableState is the result of a check of the durable consumer.
type durableState struct {
	err        error  // nil: it exists
	generation uint64 // changes if the stream or the durable is created again
	ackWait    time.Duration
	maxBatch   int // the most messages in one request; 0: no limit
	pending    uint64
	unanswered int
}

// streamMonitor checks that the streams and the durable consumer exist, because the client
// library only logs their deletion. It creates what is missing if that is allowed.
type streamMonitor struct {
	c    *Consumer
	loop refresh.Loop

	last     durableState
	created  [2]time.Time // when the stream and the durable were created
	lastSeq  uint64       // the highest last sequence of the stream at a check
	setBack  bool         // the stream ends below a sequence that was seen in it
	missing  bool         // the stream was missing at the last check
	warnings map[string]bool

	delivered atomic.Uint64 // the highest sequence that was delivered, perhaps before a check saw it
}

func newStreamMonitor(c *Consumer) *streamMonitor {
	return &streamMonitor{c: c, loop: refresh.New(), warnings: map[string]bool{}}
}

// sawSequence records the sequence of a message that was delivered. It is called by one
// goroutine.
func (m *streamMonitor) sawSequence(sequence uint64) {
	m.delivered.Store(max(m.delivered.Load(), sequence))
}

// run checks until ctx ends, and sends the results.
func (m *streamMonitor) run(ctx context.Context, states chan<- durableState) {
	period := func() time.Duration {
		if m.last.err != nil {
			return checkPeriodError
		}
		return checkPeriod
	}
	m.loop.Run(ctx, period(), func(ctx context.Context) time.Duration {
		select {
		case states <- m.check(ctx):
		case <-ctx.Done():
		}
		return period()
	})
}

// check checks once, and creates what is missing.
func (m *streamMonitor) check(ctx context.Context) durableState {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	log := &m.c.cfg.Log
	s, created, err := m.inspect(ctx)
	s.generation = m.last.generation
	switch {
	case err != nil:
		stopped := errors.Is(ctx.Err(), context.Canceled)
		if !stopped && (m.last.err == nil || m.last.err.Error() != err.Error()) {
			log.Error().Err(err).Msg("outcomes can't be fetched")
		}
		s.err, s.ackWait, s.maxBatch = err, m.last.ackWait, m.last.maxBatch
	case created != m.created:
		if s.generation > 0 {
			log.Error().Msg("the stream of outcomes or its durable consumer was deleted and created again: outcomes are delivered again from the first; the ledger has those that are settled")
		}
		s.generation++
		m.created = created
	case m.last.err != nil:
		log.Info().Msg("outcomes can be fetched again")
	}
	m.last = s
	return s
}

var errDisconnected = errors.New("NATS is not connected")

// inspect returns the state of the durable consumer, and when the stream and the durable
// were created.
func (m *streamMonitor) inspect(ctx context.Context) (s durableState, created [2]time.Time, err error) {
	cfg := m.c.cfg
	if !m.c.js.Conn().IsConnected() {
		return s, created, errDisconnected // at once: a request would wait for the connection
	}
	stream, err := m.ensureStream(ctx)
	if err != nil {
		return s, created, err
	}
	highest := max(m.lastSeq, m.delivered.Load())
	setBack := stream.State.LastSeq < highest
	if setBack && !m.setBack {
		cfg.Log.Error().Uint64("was", highest).Uint64("is", stream.State.LastSeq).Msg("the last sequence of the stream of outcomes fell: it was restored from an older copy or created again; outcomes that were published since and have no result must be published again: run settled reconcile")
	}
	m.setBack = setBack
	m.lastSeq = max(m.lastSeq, stream.State.LastSeq)
	info, warnings, err := EnsureDurable(ctx, m.c.js, cfg)
	for _, text := range warnings {
		if !m.warnings[text] {
			m.warnings[text] = true
			cfg.Log.Warn().Msg(text)
		}
	}
	if err != nil {
		return s, created, err
	}
	s = durableState{
		ackWait: shortestAckWait(info.Config), maxBatch: info.Config.MaxRequestBatch,
		pending: info.NumPending, unanswered: info.NumAckPending,
	}
	return s, [2]time.Time{stream.Created, info.Created}, nil
}

// shortestAckWait is the time after which the server delivers again at the earliest: a
// durable consumer that others created may have a backoff.
func shortestAckWait(c jetstream.ConsumerConfig) time.Duration {
	wait := c.AckWait
	for _, b := range c.BackOff {
		wait = min(wait, b)
	}
	return wait
}

// ensureStream returns the stream of outcomes, and creates the streams that are missing if
// that is allowed. The stream of outcomes must be missing twice in a row.
func (m *streamMonitor) ensureStream(ctx context.Context) (*jetstream.StreamInfo, error) {
	cfg, configs := m.c.cfg, StreamConfigs(m.c.cfg)
	if cfg.ManageStreams {
		for _, want := range configs[1:] {
			_, err := m.c.js.Stream(ctx, want.Name)
			if errors.Is(err, jetstream.ErrStreamNotFound) {
				cfg.Log.Error().Str("stream", want.Name).Msg("the stream is missing and is created again, empty")
				_, err = createStream(ctx, m.c.js, want)
			}
			if err != nil {
				return nil, fmt.Errorf("stream %s: %w", want.Name, err)
			}
		}
	}
	want := configs[0]
	s, err := m.c.js.Stream(ctx, want.Name)
	switch missing := errors.Is(err, jetstream.ErrStreamNotFound); {
	case missing && !cfg.ManageStreams:
		return nil, &MissingError{What: "stream " + want.Name, Command: CreateCommand(want)}
	case missing && !m.missing:
		m.missing = true
		return nil, fmt.Errorf("stream %s is missing", want.Name)
	case missing:
		s, err = m.createOutcomes(ctx, want)
		m.missing = err != nil
	default:
		m.missing = false
	}
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", want.Name, err)
	}
	return s.CachedInfo(), nil
}

// createOutcomes creates the stream of outcomes again, beyond all sequences it had.
func (m *streamMonitor) createOutcomes(ctx context.Context, want jetstream.StreamConfig) (jetstream.Stream, error) {
	if last := max(m.lastSeq, m.delivered.Load()); last > 0 {
		want.FirstSeq = last + sequenceGap
	} else { // it was deleted before the first check
		var err error
		if want.FirstSeq, err = firstSequence(ctx, m.c.js, want.Name, m.c.cfg.Prefix); err != nil {
			return nil, err
		}
	}
	s, err := createStream(ctx, m.c.js, want)
	if err == nil {
		m.c.cfg.Log.Error().Str("stream", want.Name).Uint64("first_sequence", want.FirstSeq).
			Msg("the stream of outcomes was deleted and is created again, empty: outcomes in it that had no result are lost, publish them again")
	}
	return s, err
}
