package telemetry

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"settled/consumer"
	"settled/ledger"
)

// MostForeign bounds of how many foreign messages of a stream it is remembered that they
// were counted. Beyond it only those after the last one that was counted are new.
const MostForeign = 10_000

// ForeignMessages counts the messages in settled's streams that neither settled nor an
// operator stored there. Each is met by many reads, and counted and logged once.
type ForeignMessages struct {
	Total *prometheus.CounterVec
	log   zerolog.Logger

	mu   sync.Mutex
	seen map[string]map[uint64]bool
	last map[string]uint64
}

func NewForeignMessages(log zerolog.Logger) *ForeignMessages {
	return &ForeignMessages{
		Total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "settled_foreign_messages_total", Help: "Messages found in SETTLEMENTS, DEADLETTERS or OPERATIONS that are not entries, dead letters or records. They have no effect; somebody can write there who must not.",
		}, []string{"stream"}),
		log: log, seen: map[string]map[uint64]bool{}, last: map[string]uint64{},
	}
}

// Expect makes the streams' counters, so that an increase from 0 shows.
func (f *ForeignMessages) Expect(prefix string) {
	for _, stream := range []string{ledger.StreamName(prefix), consumer.DeadLettersStream(prefix), consumer.OperationsStream(prefix)} {
		f.Total.WithLabelValues(stream)
	}
}

func (f *ForeignMessages) Found(stream string, sequence uint64, what error) {
	if !f.isNew(stream, sequence) {
		return
	}
	f.Total.WithLabelValues(stream).Inc()
	f.log.Error().Str("stream", stream).Uint64("sequence", sequence).Err(what).
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
	full := len(seen) >= MostForeign
	if seen[sequence] || full && sequence <= f.last[stream] {
		return false
	}
	if !full {
		seen[sequence] = true
	}
	f.last[stream] = max(f.last[stream], sequence)
	return true
}
