package telemetry

import (
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"settled/cmd/settled/internal/status"
	"settled/consumer"
	"settled/settlement"
)

// When outcomes that wait are reported.
const (
	firstWarning = time.Minute     // age of the first warning; each later one comes at twice the age
	forgetAfter  = 5 * time.Minute // longer than the longest backoff: another replica has the outcome
)

// WaitingOutcomes keeps the outcomes that this process returned to the stream and that have no
// result yet, with their age.
type WaitingOutcomes struct {
	log zerolog.Logger

	mu   sync.Mutex
	open map[uint64]*waitingOutcome // by OUTCOMES sequence

	paused func() int // counts outcomes while fetching is paused; nil: none
}

type waitingOutcome struct {
	reason    string
	err       string    // why, shortened
	next      time.Time // when it is delivered again
	published time.Time
	since     time.Time // when it began to wait for this reason
	seen      time.Time
	warnAt    time.Duration // age of the next warning
}

func NewWaitingOutcomes(log zerolog.Logger) *WaitingOutcomes {
	return &WaitingOutcomes{log: log, open: map[uint64]*waitingOutcome{}}
}

// Record records the result of one delivery.
func (w *WaitingOutcomes) Record(r consumer.Result, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	sequence := r.Outcome.Ref.Sequence
	if r.Disposition != consumer.Returned {
		delete(w.open, sequence)
		return
	}
	o := w.open[sequence]
	if o == nil {
		o = &waitingOutcome{published: r.Published, warnAt: firstWarning}
		w.open[sequence] = o
	}
	if o.reason != r.Reason {
		o.since = now
	}
	o.reason, o.err, o.seen, o.next = r.Reason, shortText(r.Err), now, now.Add(r.Delay)
	age := now.Sub(o.published)
	if age < o.warnAt {
		return
	}
	o.warnAt = 2 * age
	w.log.Warn().Uint64("sequence", sequence).Str("session", r.Outcome.Session.Token()).Str("scenario", string(r.Outcome.Scenario)).
		Str("reason", r.Reason).Dur("age", age).AnErr("error", r.Err).Msg("an outcome has waited for long: see Waiting in deploy/RUNBOOK.md")
}

// maxErrorText is the length of a kept error, in bytes.
const maxErrorText = 500

func shortText(err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	if len(text) > maxErrorText {
		text = strings.ToValidUTF8(text[:maxErrorText], "") + "…"
	}
	return text
}

// Of returns what is known of an outcome, by the sequence of its message; false: this
// process has not returned it to the stream, or another replica has it.
func (w *WaitingOutcomes) Of(sequence uint64, now time.Time) (status.Progress, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := w.open[sequence]
	if o == nil || now.Sub(o.seen) > forgetAfter {
		return status.Progress{}, false
	}
	return status.Progress{Reason: o.reason, Error: o.err, Since: o.since, Next: o.next}, true
}

// Ages returns the number of waiting outcomes and the age of the oldest, by reason.
func (w *WaitingOutcomes) Ages(now time.Time) (count map[string]int, oldest map[string]time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	count, oldest = map[string]int{}, map[string]time.Duration{}
	for sequence, o := range w.open {
		if now.Sub(o.seen) > forgetAfter {
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

// SetPaused sets the function that counts outcomes that no replica fetches.
func (w *WaitingOutcomes) SetPaused(count func() int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.paused = count
}

// Undelivered returns how many outcomes wait because fetching is paused.
func Undelivered(s consumer.Status) int {
	if !s.Paused {
		return 0
	}
	return max(0, int(s.Pending)+s.Unanswered-s.InHand) // #nosec G115 -- messages of one stream
}

// LongestWaits returns the longest observed wait by present reason. It grows only while the
// outcome is delivered to this process, since another replica may have settled it.
func (w *WaitingOutcomes) LongestWaits() map[string]time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	longest := map[string]time.Duration{}
	for _, o := range w.open {
		longest[o.reason] = max(longest[o.reason], o.seen.Sub(o.since))
	}
	return longest
}

// Describe and Collect make it a prometheus.Collector.
func (w *WaitingOutcomes) Describe(ch chan<- *prometheus.Desc) {
	ch <- waitingCount
	ch <- waitingOldest
	ch <- waitingLongest
}

// Collect sends the gauges.
func (w *WaitingOutcomes) Collect(ch chan<- prometheus.Metric) {
	count, oldest := w.Ages(time.Now())
	longest := w.LongestWaits()
	for reason, n := range count {
		ch <- prometheus.MustNewConstMetric(waitingCount, prometheus.GaugeValue, float64(n), reason)
		ch <- prometheus.MustNewConstMetric(waitingOldest, prometheus.GaugeValue, oldest[reason].Seconds(), reason)
		ch <- prometheus.MustNewConstMetric(waitingLongest, prometheus.GaugeValue, longest[reason].Seconds(), reason)
	}
}
