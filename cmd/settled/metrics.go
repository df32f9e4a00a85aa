package main

import (
	"context"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/rs/zerolog"

	"settled/consumer"
)

// metrics counts what happens. No label ever holds an id, or a text that an
// outcome's publisher chooses.
type metrics struct {
	registry  *prometheus.Registry
	log       zerolog.Logger
	scenarios []string // the scenarios with a policy; others are counted as "other"
	waiting   *waiting

	outcomes    *prometheus.CounterVec
	duration    *prometheus.HistogramVec
	calls       *prometheus.CounterVec
	callSeconds *prometheus.HistogramVec

	asked         *prometheus.CounterVec // co-signatures, of others
	cosigns       *prometheus.CounterVec // co-signatures, of us
	cosignSeconds *prometheus.HistogramVec
}

func newMetrics(log zerolog.Logger) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(), log: log, waiting: newWaiting(log),
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "settled_outcomes_total", Help: "Outcome messages answered, by scenario, disposition (ack, term, nak) and the code or reason.",
		}, []string{"scenario", "disposition", "reason"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "settled_settle_duration_seconds", Help: "Time from taking an outcome message to answering it.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 16),
		}, []string{"disposition"}),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "settled_node_calls_total", Help: "Calls to the ClearNode, by method and class of answer.",
		}, []string{"method", "class"}),
		callSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "settled_node_call_duration_seconds", Help: "Time a call to the ClearNode took.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 15),
		}, []string{"method"}),
		asked: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "settled_cosigners_asked_total", Help: "Co-signatures asked of other parties, by result: signed, refused, waiting, useless, away, held (not asked yet, for what was signed may still land), or not needed any more.",
		}, []string{"result"}),
		cosigns: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "settled_cosign_requests_total", Help: "Requests for our co-signature, by answer (signed, refused, waiting) and the code or reason.",
		}, []string{"answer", "reason"}),
		cosignSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "settled_cosign_duration_seconds", Help: "Time from taking a request for our co-signature to answering it.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 13),
		}, []string{"answer"}),
	}
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "settled_build_info", Help: "Always 1; the labels say what is running."}, []string{"version", "go"})
	b := buildInfo()
	info.WithLabelValues(b.Version, b.Go).Set(1)
	m.registry.MustRegister(m.outcomes, m.duration, m.calls, m.callSeconds, m.asked, m.cosigns, m.cosignSeconds, info, m.waiting,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// watch adds what is read from the running service when it is asked for.
func (m *metrics) watch(s *service) {
	gauge := func(name, help string, read func() float64) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, read))
	}
	gauge("settled_ready", "1 when outcomes can be settled.", func() float64 { return oneIf(s.ready() == nil) })
	gauge("settled_paused", "1 while nothing is fetched because the node is away.", func() float64 { return oneIf(s.consumer.Status().Paused) })
	gauge("settled_stopped", "1 while all sending is stopped, by an operator or by a session that was paid twice, or while that is not known. Alert on it.", func() float64 { return oneIf(s.brake.Stopped(context.Background()) != nil) })
	gauge("settled_in_hand", "Outcomes being settled now.", func() float64 { return float64(s.consumer.Status().InHand) })
	gauge("settled_node_connections", "Connections to the ClearNode that are up and signed in.", func() float64 { return float64(s.node.Connected()) })
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (m *metrics) result(r consumer.Result) {
	scenario := string(r.Outcome.Scenario)
	if !slices.Contains(m.scenarios, scenario) {
		scenario = "other"
	}
	m.outcomes.WithLabelValues(scenario, string(r.Disposition), r.Reason).Inc()
	m.duration.WithLabelValues(string(r.Disposition)).Observe(r.Elapsed.Seconds())
	m.waiting.note(r, time.Now())
}

func (m *metrics) nodeCall(method, class string, elapsed time.Duration) {
	m.calls.WithLabelValues(method, class).Inc()
	m.callSeconds.WithLabelValues(method).Observe(elapsed.Seconds())
}
