package telemetry

import (
	"context"
	"fmt"
	"regexp"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/trace"

	"settled/clearnode"
	"settled/consumer"
)

// Metrics counts what happens. No label ever holds an id, or a text that an
// outcome's publisher chooses.
type Metrics struct {
	Registry *prometheus.Registry
	Log      zerolog.Logger
	Waiting  *Waiting
	Recent   Recent
	Tracer   trace.Tracer // draws the stages as spans, where that is asked for
	results

	outcomes    *prometheus.CounterVec
	duration    *prometheus.HistogramVec
	calls       *prometheus.CounterVec
	callSeconds *prometheus.HistogramVec
	unknown     *prometheus.CounterVec // errors of the node in no table

	stageSeconds *prometheus.HistogramVec
	appends      *prometheus.CounterVec
	Foreign      *ForeignMessages

	Asked         *prometheus.CounterVec // co-signatures, of others
	Cosigns       *prometheus.CounterVec // co-signatures, of us
	CosignSeconds *prometheus.HistogramVec
}

func New(log zerolog.Logger) *Metrics {
	log = log.Hook(traceHook{})
	m := &Metrics{
		Registry: prometheus.NewRegistry(), Log: log, Waiting: NewWaiting(log), Tracer: NoTracer(), results: newResults(),
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
		unknown: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "settled_node_unknown_errors_total", Help: "Errors of the ClearNode about a request that changes a session, by method, whose text settled does not know. Each counts as in doubt; the log has the text.",
		}, []string{"method"}),
		stageSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "settled_stage_duration_seconds", Help: "Time of each stage of settling: wait (in the stream, first deliveries), ledger_read, read, plan, prepare, append, send, dead_letter, answer.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2.5, 14),
		}, []string{"stage"}),
		appends: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "settled_ledger_appends_total", Help: "Entries appended to the ledger, by state (closing, closed, failed) and result: stored, moved (another entry came first), held, unknown (not known to be stored). A stored closing is an attempt.",
		}, []string{"state", "result"}),
		Asked: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "settled_cosigners_asked_total", Help: "Co-signatures asked of other parties, by result: signed, refused, waiting, useless, away, held (not asked yet, for what was signed may still land), or not needed any more.",
		}, []string{"result"}),
		Cosigns: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "settled_cosign_requests_total", Help: "Requests for our co-signature, by answer (signed, refused, waiting) and the code or reason.",
		}, []string{"answer", "reason"}),
		CosignSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "settled_cosign_duration_seconds", Help: "Time from taking a request for our co-signature to answering it.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 13),
		}, []string{"answer"}),
	}
	m.Foreign = NewForeignMessages(log)
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "settled_build_info", Help: "Always 1; the labels say what is running."}, []string{"version", "go"})
	b := Build()
	info.WithLabelValues(b.Version, b.Go).Set(1)
	m.Registry.MustRegister(m.results.collectors()...)
	m.Registry.MustRegister(m.outcomes, m.duration, m.calls, m.callSeconds, m.unknown, m.stageSeconds, m.appends, m.Foreign.Total, m.Asked, m.Cosigns, m.CosignSeconds, info, m.Waiting,
		goCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.expectStages()
	return m
}

// goCollector also says what the last collection of garbage found alive: the one
// figure by which a leak shows.
func goCollector() prometheus.Collector {
	return collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(collectors.GoRuntimeMetricsRule{Matcher: regexp.MustCompile(`^/gc/heap/live:bytes$`)}))
}

// GaugeSources is what the gauges of a service read.
type GaugeSources struct {
	Ready            func() error
	Stopped          func(context.Context) error
	HeldCauses       []string
	Held             func(cause string) bool
	NatsConnected    func() bool
	Consumer         func() consumer.Status
	LedgerRemembered func() (bytes, most int)
	Node             *clearnode.Client
	Fence            time.Duration
	Js               jetstream.JetStream
	Prefix           string
}

// Watch adds what is read from the running service when it is asked for.
func (m *Metrics) Watch(s GaugeSources) {
	gauge := func(name, help string, read func() float64) {
		m.Registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, read))
	}
	gauge("settled_ready", "1 when outcomes can be settled.", func() float64 { return oneIf(s.Ready() == nil) })
	m.Waiting.SetPaused(func() int { return Undelivered(s.Consumer()) })
	gauge("settled_nats_connected", "1 while NATS is connected.", func() float64 { return oneIf(s.NatsConnected()) })
	gauge("settled_paused", "1 while nothing is fetched because the node is away.", func() float64 { return oneIf(s.Consumer().Paused) })
	gauge("settled_stopped", "1 while all sending is stopped, by an operator or by a session that was paid twice, or while that is not known. Alert on it.", func() float64 { return oneIf(s.Stopped(context.Background()) != nil) })
	for _, cause := range s.HeldCauses {
		m.Registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "settled_sending_held", Help: "1 while this replica sends nothing although nobody stopped it, by cause: settings (of a stream or of the consumer were changed), entries_lost (by the ledger), set_back (the ledger may be an older copy, or --after-restore was given), rights (NATS refuses to let settled publish what it must). Alert on it.",
			ConstLabels: prometheus.Labels{"cause": cause},
		}, func() float64 { return oneIf(s.Held(cause)) }))
	}
	gauge("settled_in_hand", "Outcomes being settled now.", func() float64 { return float64(s.Consumer().InHand) })
	gauge("settled_pending", "Outcomes in the stream that nobody took yet, of all replicas together, as last looked (every few seconds).", func() float64 { return float64(s.Consumer().Pending) })
	gauge("settled_unanswered", "Outcomes that were taken and have no final answer yet, those given back with a delay included, of all replicas together, as last looked.", func() float64 { return float64(s.Consumer().Unanswered) })
	m.Registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "settled_panics_total", Help: "Settle calls that panicked: each is a bug, and its outcome was given back.",
	}, func() float64 { return float64(s.Consumer().Panics) }))
	gauge("settled_node_probed", "1 while the node's message expiry is known to be as configured; nothing is sent until it is.", func() float64 { return oneIf(s.Node.Probed() == nil) })
	gauge("settled_fence_seconds", "How long a request of ours may still land at most: message_expiry and fence_margin as configured.", func() float64 { return s.Fence.Seconds() })
	_, most := s.LedgerRemembered()
	gauge("settled_ledger_remembered_bytes", fmt.Sprintf("About what the long histories of sessions take that are kept in memory, %d at most: those of sessions that many outcomes name.", most), func() float64 {
		bytes, _ := s.LedgerRemembered()
		return float64(bytes)
	})
	m.watchLetters(s.Js, s.Prefix)
	gauge("settled_node_connections", "Connections to the ClearNode that are up and signed in.", func() float64 { return float64(s.Node.Connected()) })
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Result takes what came of one delivery.
func (m *Metrics) Result(r consumer.Result) {
	now := time.Now()
	m.outcomes.WithLabelValues(m.scenario(r.Outcome), string(r.Disposition), r.Reason).Inc()
	m.duration.WithLabelValues(string(r.Disposition)).Observe(r.Elapsed.Seconds())
	m.stageSeconds.WithLabelValues(stageAnswer).Observe(r.Answering.Seconds())
	if r.Delivered == 1 {
		m.stageSeconds.WithLabelValues(stageWait).Observe(max(0, now.Add(-r.Elapsed).Sub(r.Published).Seconds()))
	}
	m.results.count(r, now)
	m.Waiting.Note(r, now)
}

func (m *Metrics) nodeCall(ctx context.Context, method, class string, elapsed time.Duration) {
	m.calls.WithLabelValues(method, class).Inc()
	m.callSeconds.WithLabelValues(method).Observe(elapsed.Seconds())
	m.drawCall(ctx, method, class, elapsed)
}

// ObserveNode has a client for the node log and count its calls.
func (m *Metrics) ObserveNode(cfg *clearnode.Config) {
	cfg.Log, cfg.CallFunc = m.Log, m.nodeCall
	cfg.UnknownErrorFunc = func(method, _ string) { m.unknown.WithLabelValues(method).Inc() }
}
