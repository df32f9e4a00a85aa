package telemetry

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"settled/consumer"
	"settled/settlement"
)

// otherScenario stands for every scenario without a policy: whoever publishes
// outcomes chooses those names, and a label must not take just any value.
const otherScenario = "other"

// results counts the entries that end an outcome, once each; deliveries are
// counted elsewhere, and an outcome may have many.
type results struct {
	scenarios []string // those with a policy

	settlements *prometheus.CounterVec
	seconds     *prometheus.HistogramVec
	attempts    *prometheus.HistogramVec
	recovered   prometheus.Counter
}

func newResults() results {
	return results{
		settlements: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "settled_settlements_total", Help: "Outcomes that got their result, by scenario, state (closed, failed) and, where it failed, the code.",
		}, []string{"scenario", "state", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "settled_settlement_duration_seconds", Help: "Time from the stream's storing an outcome to its result, however many deliveries that took, by state (closed, failed).",
			Buckets: prometheus.ExponentialBuckets(0.01, 2.5, 14),
		}, []string{"state"}),
		attempts: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "settled_settlement_attempts", Help: "Closes that were recorded and sent for an outcome until it had its result, by state.",
			Buckets: []float64{0, 1, 2, 3, 4, 6, 8, 16},
		}, []string{"state"}),
		recovered: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "settled_recovered_total", Help: "Closes that were found done at the node instead of being answered: what lost answers and killed processes left behind.",
		}),
	}
}

func (r *results) collectors() []prometheus.Collector {
	return []prometheus.Collector{r.settlements, r.seconds, r.attempts, r.recovered}
}

// Expect makes every series that may come, at zero: an increase from nothing is
// none to Prometheus, and the first of a kind would raise no alert.
func (r *results) Expect(scenarios []string) {
	r.scenarios = scenarios
	for _, scenario := range append([]string{otherScenario}, scenarios...) {
		r.settlements.WithLabelValues(scenario, string(settlement.EntryClosed), "")
		for _, code := range settlement.Codes() {
			r.settlements.WithLabelValues(scenario, string(settlement.EntryFailed), string(code))
		}
	}
	for _, state := range []settlement.EntryState{settlement.EntryClosed, settlement.EntryFailed} {
		r.seconds.WithLabelValues(string(state))
		r.attempts.WithLabelValues(string(state))
	}
}

// scenario is its label.
func (r *results) scenario(o settlement.Outcome) string {
	if slices.Contains(r.scenarios, string(o.Scenario)) {
		return string(o.Scenario)
	}
	return otherScenario
}

// count takes one delivery's result, and notices the ones that ended an outcome.
func (r *results) count(got consumer.Result, now time.Time) {
	e := got.Settlement.Entry
	if e.State == "" || got.Settlement.Duplicate {
		return
	}
	var code string
	if e.Error != nil {
		code = string(e.Error.Code)
	}
	state := string(e.State)
	r.settlements.WithLabelValues(r.scenario(got.Outcome), state, code).Inc()
	r.seconds.WithLabelValues(state).Observe(max(0, now.Sub(got.Published).Seconds())) // the server's clock may be ahead
	r.attempts.WithLabelValues(state).Observe(float64(e.Attempt))
	if e.Recovered != nil && *e.Recovered {
		r.recovered.Inc()
	}
}
