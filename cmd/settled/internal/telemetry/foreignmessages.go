package telemetry

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"settled/consumer"
	"settled/ledger"
)

// MaxForeign bounds the sequences that are remembered of each stream. Beyond it a message
// counts as new only if it comes after the last one that was counted.
const MaxForeign = 10_000

// ForeignMessages counts the messages in settled's streams that neither settled nor an
// operator stored there. Many reads meet each; it is counted and logged once.
type ForeignMessages struct {
	Total *prometheus.CounterVec
	log   zerolog.Logger

	mu   sync.Mutex
	seen map[string]map[uint64]bool // by stream and sequence
	last map[string]uint64
}

func newForeignMessages(log zerolog.Logger, total *prometheus.CounterVec) *ForeignMessages {
	return &ForeignMessages{Total: total, log: log, seen: map[string]map[uint64]bool{}, last: map[string]uint64{}}
}

// Init creates the streams' counters, so that an increase from 0 shows.
func (f *ForeignMessages) Init(prefix string) {
	for _, stream := range []string{ledger.StreamName(prefix), consumer.DeadLettersStream(prefix), consumer.OperationsStream(prefix)} {
		f.Total.WithLabelValues(stream)
	}
}

// Record counts and logs a foreign message, unless it was recorded before.
func (f *ForeignMessages) Record(stream string, sequence uint64, err error) {
	if !f.isNew(stream, sequence) {
		return
	}
	f.Total.WithLabelValues(stream).Inc()
	f.log.Error().Str("stream", stream).Uint64("sequence", sequence).Err(err).
		Msg("foreign message: somebody can write to this stream who must not; it has no effect")
}

func (f *ForeignMessages) isNew(stream string, sequence uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	seen := f.seen[stream]
	if seen == nil {
		seen = map[uint64]bool{}
		f.seen[stream] = seen
	}
	full := len(seen) >= MaxForeign
	if seen[sequence] || full && sequence <= f.last[stream] {
		return false
	}
	if !full {
		seen[sequence] = true
	}
	f.last[stream] = max(f.last[stream], sequence)
	return true
}
