package telemetry

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"settled/consumer"
	"settled/settlement"
)

// How outcomes that wait are told of.
const (
	longWait  = time.Minute     // an outcome that waits longer is warned of, and again each time it has waited twice as long
	forgotten = 5 * time.Minute // not seen for so long, more than the longest backoff: another replica has it
)

// Waiting remembers the outcomes that this process gave back, for as long as they
// have no result: an alert by age needs their age.
type Waiting struct {
	log zerolog.Logger

	mu   sync.Mutex
	open map[uint64]*waitingOutcome // by OUTCOMES sequence

	paused func() int // outcomes that nobody took while fetching is paused; nil: none
}

type waitingOutcome struct {
	reason    string
	published time.Time
	since     time.Time // when it was first seen to wait for this reason
	seen      time.Time
	warnAt    time.Duration // the age at which it is warned of next
}

func NewWaiting(log zerolog.Logger) *Waiting {
	return &Waiting{log: log, open: map[uint64]*waitingOutcome{}}
}

// Note takes what became of one delivery.
func (w *Waiting) Note(r consumer.Result, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	sequence := r.Outcome.Ref.Sequence
	if r.Disposition != consumer.Requeued {
		delete(w.open, sequence)
		return
	}
	o := w.open[sequence]
	if o == nil {
		o = &waitingOutcome{published: r.Published, warnAt: longWait}
		w.open[sequence] = o
	}
	if o.reason != r.Reason {
		o.since = now
	}
	o.reason, o.seen = r.Reason, now
	age := now.Sub(o.published)
	if age < o.warnAt {
		return
	}
	o.warnAt = 2 * age
	w.log.Warn().Uint64("sequence", sequence).Str("session", r.Outcome.Session.Token()).Str("scenario", string(r.Outcome.Scenario)).
		Str("reason", r.Reason).Dur("age", age).AnErr("error", r.Err).Msg("an outcome has waited for long: see Waiting in deploy/RUNBOOK.md")
}

// Ages are the number of waiting outcomes and the age of the oldest, by reason.
func (w *Waiting) Ages(now time.Time) (count map[string]int, oldest map[string]time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	count, oldest = map[string]int{}, map[string]time.Duration{}
	for sequence, o := range w.open {
		if now.Sub(o.seen) > forgotten {
			delete(w.open, sequence)
			continue
		}
		count[o.reason]++
		oldest[o.reason] = max(oldest[o.reason], now.Sub(o.published))
	}
	if w.paused != nil {
		if n := w.paused() - len(w.open); n > 0 {
			count[string(settlement.NotReady)] += n
		}
	}
	return count, oldest
}

// SetPaused has the outcomes counted that nobody takes.
func (w *Waiting) SetPaused(count func() int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.paused = count
}

// Undelivered is how many outcomes wait, taken or not, because fetching is paused.
func Undelivered(s consumer.Status) int {
	if !s.Paused {
		return 0
	}
	return max(0, int(s.Pending)+s.Unanswered-s.InHand) // #nosec G115 -- messages of one stream
}

// Witnessed is how long the outcome that waits longest was seen to wait for its
// present reason. It grows only while the outcome comes back to this process: what
// another replica has settled since must not look like a long wait.
func (w *Waiting) Witnessed() map[string]time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	longest := map[string]time.Duration{}
	for _, o := range w.open {
		longest[o.reason] = max(longest[o.reason], o.seen.Sub(o.since))
	}
	return longest
}

var (
	waitingCount   = prometheus.NewDesc("settled_waiting_outcomes", "Outcomes that this process gave back and that have no result yet, by reason; and as not_ready those that no replica takes while the node is not ready.", []string{"reason"}, nil)
	waitingOldest  = prometheus.NewDesc("settled_waiting_oldest_seconds", "Age of the oldest of them since it was published, by reason. Alert on it.", []string{"reason"}, nil)
	waitingLongest = prometheus.NewDesc("settled_waiting_longest_seconds", "How long one of them was seen to wait for its present reason, the longest, by reason.", []string{"reason"}, nil)
)

// Describe and Collect make it a prometheus.Collector.
func (w *Waiting) Describe(ch chan<- *prometheus.Desc) {
	ch <- waitingCount
	ch <- waitingOldest
	ch <- waitingLongest
}

// Collect sends the gauges.
func (w *Waiting) Collect(ch chan<- prometheus.Metric) {
	count, oldest := w.Ages(time.Now())
	longest := w.Witnessed()
	for reason, n := range count {
		ch <- prometheus.MustNewConstMetric(waitingCount, prometheus.GaugeValue, float64(n), reason)
		ch <- prometheus.MustNewConstMetric(waitingOldest, prometheus.GaugeValue, oldest[reason].Seconds(), reason)
		ch <- prometheus.MustNewConstMetric(waitingLongest, prometheus.GaugeValue, longest[reason].Seconds(), reason)
	}
}
