package main

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"settled/consumer"
	"settled/ledger"
)

// mostForeign bounds of how many foreign messages of a stream it is remembered that they
// were counted. Beyond it only those after the last one that was counted are new.
const mostForeign = 10_000

// foreignMessages counts the messages in settled's streams that neither settled nor an
// operator stored there. Each is met by many reads, and counted and logged once.
type foreignMessages struct {
	total *prometheus.CounterVec
	log   zerolog.Logger

	mu   sync.Mutex
	seen map[string]map[uint64]bool
	last map[string]uint64
}

func newForeignMessages(log zerolog.Logger) *foreignMessages {
	return &foreignMessages{
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "settled_foreign_messages_total", Help: "Messages found in SETTLEMENTS, DEADLETTERS or OPERATIONS that are not entries, dead letters or records. They have no effect; somebody can write there who must not.",
		}, []string{"stream"}),
		log: log, seen: map[string]map[uint64]bool{}, last: map[string]uint64{},
	}
}

// expect makes the streams' counters, so that an increase from 0 shows.
func (f *foreignMessages) expect(prefix string) {
	for _, stream := range []string{ledger.StreamName(prefix), consumer.DeadLettersStream(prefix), consumer.OperationsStream(prefix)} {
		f.total.WithLabelValues(stream)
	}
}

func (f *foreignMessages) found(stream string, sequence uint64, what error) {
	if !f.isNew(stream, sequence) {
		return
	}
	f.total.WithLabelValues(stream).Inc()
	f.log.Error().Str("stream", stream).Uint64("sequence", sequence).Err(what).
		Msg("foreign message: somebody can write to this stream who must not; it has no effect")
}

func (f *foreignMessages) isNew(stream string, sequence uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	seen := f.seen[stream]
	if seen == nil {
		seen = map[uint64]bool{}
		f.seen[stream] = seen
	}
	full := len(seen) >= mostForeign
	if seen[sequence] || full && sequence <= f.last[stream] {
		return false
	}
	if !full {
		seen[sequence] = true
	}
	f.last[stream] = max(f.last[stream], sequence)
	return true
}

// foreignEntry counts a message of the ledger that is not an entry.
func (s *service) foreignEntry(f ledger.Foreign) {
	s.metrics.foreign.found(ledger.StreamName(s.cfg.natsPrefix), f.Sequence, f)
}
