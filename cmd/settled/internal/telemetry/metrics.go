package telemetry

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/trace"

	"settled/clearnode"
	"settled/consumer"
	"settled/ledger/streamreader"
	"settled/settlement"
)

// Metrics counts what happens. No label has an id as its value, or a text that an
// outcome's publisher chooses.
type Metrics struct {
	Registry *prometheus.Registry
	Log      zerolog.Logger
	Waiting  *WaitingOutcomes
	Health   Health
	Tracer   trace.Tracer // of the spans of stages; does nothing unless tracing is on
	Foreign  *ForeignMessages

	otherPolicies *prometheus.CounterVec
	warnings      *prometheus.CounterVec

	scenarios   []string // those with a policy
	outcomes    *prometheus.CounterVec
	duration    *prometheus.HistogramVec
	settlements *prometheus.CounterVec
	seconds     *prometheus.HistogramVec
	attempts    *prometheus.HistogramVec
	recovered   prometheus.Counter

	calls        *prometheus.CounterVec
	callSeconds  *prometheus.HistogramVec
	unknown      *prometheus.CounterVec // errors of the node that are in no table
	stageSeconds *prometheus.HistogramVec
	appends      *prometheus.CounterVec

	Asked         *prometheus.CounterVec // co-signatures asked of other parties
	Cosigns       *prometheus.CounterVec // co-signatures that other parties asked for
	CosignSeconds *prometheus.HistogramVec
}

// New returns the metrics of a service. Those that only `settled serve` has are added by
// RegisterGauges and NewReconciliationGauges.
func New(log zerolog.Logger) *Metrics {
	registry := prometheus.NewRegistry()
	metrics := promauto.With(registry)
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return metrics.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	histogram := func(name, help string, buckets []float64, label string) *prometheus.HistogramVec {
		return metrics.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, []string{label})
	}
	log = log.Hook(traceHook{})
	m := &Metrics{
		Registry: registry, Log: log, Waiting: NewWaitingOutcomes(log), Tracer: NoTracer(),

		outcomes:    counter("settled_outcomes_total", "Outcome messages answered, by scenario, disposition (ack, term, nak) and the code or reason.", "scenario", "disposition", "reason"),
		duration:    histogram("settled_settle_duration_seconds", "Time from taking an outcome message to answering it.", prometheus.ExponentialBuckets(0.001, 2, 16), "disposition"),
		settlements: counter("settled_settlements_total", "Outcomes that got their result, by scenario, state (closed, failed) and, where it failed, the code.", "scenario", "state", "code"),
		seconds:     histogram("settled_settlement_duration_seconds", "Time from the stream's storing an outcome to its result, however many deliveries that took, by state (closed, failed).", prometheus.ExponentialBuckets(0.01, 2.5, 14), "state"),
		attempts:    histogram("settled_settlement_attempts", "Closes that were recorded and sent for an outcome until it had its result, by state.", []float64{0, 1, 2, 3, 4, 6, 8, 16}, "state"),
		recovered: metrics.NewCounter(prometheus.CounterOpts{
			Name: "settled_recovered_total", Help: "Closes that were found done at the node instead of being answered: what lost answers and killed processes left behind.",
		}),

		calls:        counter("settled_node_calls_total", "Calls to the ClearNode, by method and class of answer.", "method", "class"),
		callSeconds:  histogram("settled_node_call_duration_seconds", "Time a call to the ClearNode took.", prometheus.ExponentialBuckets(0.001, 2, 15), "method"),
		unknown:      counter("settled_node_unknown_errors_total", "Errors of the ClearNode about a request that changes a session, by method, whose text settled does not know. Each counts as in doubt; the log has the text.", "method"),
		stageSeconds: histogram("settled_stage_duration_seconds", "Time of each stage of settling: wait (in the stream, first deliveries), ledger_read, read, plan, permit (waiting until a close may be in flight), prepare, append, send, dead_letter, answer.", prometheus.ExponentialBuckets(0.0005, 2.5, 14), "stage"),
		appends:      counter("settled_ledger_appends_total", "Entries appended to the ledger, by state (closing, closed, failed) and result: stored, moved (another entry came first), held, unknown (not known to be stored). A stored closing is an attempt.", "state", "result"),

		Asked:         counter("settled_cosigners_asked_total", "Co-signatures asked of other parties, by result: signed, refused, waiting, useless, away, held (not asked yet, for what was signed may still take effect), or not needed any more.", "result"),
		Cosigns:       counter("settled_cosign_requests_total", "Requests for our co-signature, by answer (signed, refused, waiting) and the code or reason.", "answer", "reason"),
		CosignSeconds: histogram("settled_cosign_duration_seconds", "Time from taking a request for our co-signature to answering it.", prometheus.ExponentialBuckets(0.001, 2, 13), "answer"),
	}
	m.warnings = counter("settled_outcome_warnings_total", "Warnings about outcomes that have a result: what they state has no effect. The log has them, and settled status.", "scenario")
	m.otherPolicies = counter("settled_other_policies_total", "Entries that other replicas made since this one was started by another policy than it has for their scenario: give all replicas the same policies.", "scenario")
	m.Foreign = newForeignMessages(log, counter("settled_foreign_messages_total", "Messages found in SETTLEMENTS, DEADLETTERS or OPERATIONS that are not entries, dead letters or records. They have no effect; somebody can write there who must not.", "stream"))
	build := Build()
	metrics.NewGaugeVec(prometheus.GaugeOpts{Name: "settled_build_info", Help: "Always 1; the labels say what is running."}, []string{"version", "go"}).WithLabelValues(build.Version, build.Go).Set(1)
	// The live heap after the last garbage collection shows a leak.
	liveHeap := collectors.GoRuntimeMetricsRule{Matcher: regexp.MustCompile(`^/gc/heap/live:bytes$`)}
	registry.MustRegister(m.Waiting, collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(liveHeap)))
	m.initStages()
	return m
}

// Metrics that are read from the service at each scrape.
var (
	waitingCount      = prometheus.NewDesc("settled_waiting_outcomes", "Outcomes that this process returned and that have no result yet, by reason; and as not_ready those that no replica takes while the node is not ready.", []string{"reason"}, nil)
	waitingOldest     = prometheus.NewDesc("settled_waiting_oldest_seconds", "Age of the oldest of them since it was published, by reason. Alert on it.", []string{"reason"}, nil)
	waitingLongest    = prometheus.NewDesc("settled_waiting_longest_seconds", "How long one of them was seen to wait for its present reason, the longest, by reason.", []string{"reason"}, nil)
	deadLettersCount  = prometheus.NewDesc("settled_dead_letters", "Dead letters that wait for somebody to replay or discard them. Every replica tells the same number.", nil, nil)
	deadLettersOldest = prometheus.NewDesc("settled_dead_letters_oldest_seconds", "Age of the oldest of them; 0 where there is none.", nil, nil)
)

// GaugeSources is what the gauges of a service read.
type GaugeSources struct {
	Ready            func() error
	Stopped          func(context.Context) error
	HeldCauses       []string
	Held             func(cause string) bool
	NATSConnected    func() bool
	Consumer         func() consumer.Status
	LedgerRemembered func() (bytes, most int)
	Node             *clearnode.Client
	Fence            time.Duration
	DeadLetters      *streamreader.Reader
}

// RegisterGauges adds the metrics that are read from the running service at each scrape.
func (m *Metrics) RegisterGauges(s GaugeSources) {
	metrics := promauto.With(m.Registry)
	gauge := func(name, help string, read func() float64) {
		metrics.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, read)
	}
	oneIf := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	gauge("settled_ready", "1 when outcomes can be settled.", func() float64 { return oneIf(s.Ready() == nil) })
	m.Waiting.SetPaused(func() int { return Undelivered(s.Consumer()) })
	gauge("settled_nats_connected", "1 while NATS is connected.", func() float64 { return oneIf(s.NATSConnected()) })
	gauge("settled_paused", "1 while nothing is fetched because the node is away.", func() float64 { return oneIf(s.Consumer().Paused) })
	gauge("settled_stopped", "1 while all sending is stopped, by an operator or by a session that was paid twice, or while that is not known. Alert on it.", func() float64 { return oneIf(s.Stopped(context.Background()) != nil) })
	for _, cause := range s.HeldCauses {
		metrics.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "settled_sending_held", Help: "1 while this replica sends nothing although nobody stopped it, by cause: settings (of a stream or of the consumer were changed), entries_lost (by the ledger), set_back (the ledger may be an older copy, or --after-restore was given), rights (NATS refuses to let settled publish what it must). Alert on it.",
			ConstLabels: prometheus.Labels{"cause": cause},
		}, func() float64 { return oneIf(s.Held(cause)) })
	}
	gauge("settled_in_hand", "Outcomes being settled now.", func() float64 { return float64(s.Consumer().InHand) })
	gauge("settled_pending", "Outcomes in the stream that nobody took yet, of all replicas together, as last looked (every few seconds).", func() float64 { return float64(s.Consumer().Pending) })
	gauge("settled_unanswered", "Outcomes that were taken and have no final answer yet, those returned with a delay included, of all replicas together, as last looked.", func() float64 { return float64(s.Consumer().Unanswered) })
	metrics.NewCounterFunc(prometheus.CounterOpts{
		Name: "settled_panics_total", Help: "Deliveries whose processing panicked: each is a bug, and its outcome was returned to the stream.",
	}, func() float64 { return float64(s.Consumer().Panics) })
	gauge("settled_node_probed", "1 while the node's message expiry is known to be as configured; nothing is sent until it is.", func() float64 { return oneIf(s.Node.Probed() == nil) })
	gauge("settled_fence_seconds", "How long a request of ours may take effect after it was signed, at most: message_expiry and fence_margin as configured.", func() float64 { return s.Fence.Seconds() })
	_, most := s.LedgerRemembered()
	gauge("settled_ledger_remembered_bytes", fmt.Sprintf("About what the long histories of sessions take that are kept in memory, %d at most: those of sessions that many outcomes name.", most), func() float64 {
		bytes, _ := s.LedgerRemembered()
		return float64(bytes)
	})
	gauge("settled_node_connections", "Connections to the ClearNode that are up, signed in or not.", func() float64 { return float64(s.Node.Connected()) })
	gauge("settled_node_limit", "Closes that may be in flight at the ClearNode: fixed by clearnode.connections, or adapted to the node.", func() float64 { limit, _, _ := s.Node.Limit(); return float64(limit) })
	gauge("settled_node_in_flight", "Closes that are being made, recorded or sent, or wait for their answer: as many can be in doubt after a crash.", func() float64 { _, inFlight, _ := s.Node.Limit(); return float64(inFlight) })
	gauge("settled_node_queue", "Closes that wait for one of these to end.", func() float64 { _, _, queue := s.Node.Limit(); return float64(queue) })
	m.Registry.MustRegister(deadLetterGauges{s.NATSConnected, s.DeadLetters})
}

// deadLetterGauges reads the stream of dead letters at each scrape. Without an answer in
// time it leaves the gauges out: a stale number is indistinguishable from a current one.
type deadLetterGauges struct {
	connected func() bool
	stream    *streamreader.Reader
}

// deadLetterTimeout is less than the ten seconds that a scrape may take.
const deadLetterTimeout = 2 * time.Second

// Describe implements prometheus.Collector.
func (deadLetterGauges) Describe(ch chan<- *prometheus.Desc) {
	ch <- deadLettersCount
	ch <- deadLettersOldest
}

// Collect implements prometheus.Collector.
func (g deadLetterGauges) Collect(ch chan<- prometheus.Metric) {
	if !g.connected() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadLetterTimeout)
	defer cancel()
	info, err := g.stream.Info(ctx)
	if err != nil {
		return
	}
	var age float64
	if info.State.Msgs > 0 {
		age = max(0, time.Since(info.State.FirstTime).Seconds()) // the server's clock may be ahead
	}
	ch <- prometheus.MustNewConstMetric(deadLettersCount, prometheus.GaugeValue, float64(info.State.Msgs))
	ch <- prometheus.MustNewConstMetric(deadLettersOldest, prometheus.GaugeValue, age)
}

// ReconciliationGauges are the gauges of the periodic reconciliation. Each replica shows
// them from the shared checkpoint, whichever replica ran it.
type ReconciliationGauges struct {
	Findings   *prometheus.GaugeVec // by kind
	LastRun    prometheus.Gauge
	Checkpoint prometheus.Gauge
	Position   *prometheus.GaugeVec // by what was read
	Behind     prometheus.Gauge
	NotCarried prometheus.Gauge
}

// NewReconciliationGauges adds the gauges of the periodic reconciliation.
func (m *Metrics) NewReconciliationGauges() ReconciliationGauges {
	metrics := promauto.With(m.Registry)
	gauge := func(name, help string) prometheus.Gauge {
		return metrics.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	vec := func(name, help, label string) *prometheus.GaugeVec {
		return metrics.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{label})
	}
	return ReconciliationGauges{
		Findings:   vec("settled_reconciliation_findings", "What the last reconciliation of outcomes, ledger and node found, or found earlier and still finds, by kind. One replica reconciles for all, and every replica shows the same.", "kind"),
		LastRun:    gauge("settled_reconciliation_last_run_timestamp_seconds", "When the last reconciliation was finished, in Unix time; 0 before the first."),
		Checkpoint: gauge("settled_reconciliation_checkpoint_timestamp_seconds", "When its checkpoint was stored last, in Unix time; 0 if there is none."),
		Position:   vec("settled_reconciliation_position", "The sequence up to which it has read the ledger and OUTCOMES, and up to which the ledger was compared with the node, by of (ledger, outcomes, node).", "of"),
		Behind:     gauge("settled_reconciliation_behind_entries", "Entries of the ledger that the last run could not compare with the node within its hour; 0 if it kept up."),
		NotCarried: gauge("settled_reconciliation_findings_not_carried", "Findings beyond the bound of the checkpoint, which the next run does not look at again: settled reconcile finds them."),
	}
}

// otherScenario is the label of every scenario without a policy: publishers choose those
// names, and the number of a label's values must stay small.
const otherScenario = "other"

// CountOtherPolicy counts an entry that another replica made by another policy.
func (m *Metrics) CountOtherPolicy(scenario string) {
	m.otherPolicies.WithLabelValues(m.scenarioLabel(scenario)).Inc()
}

func (m *Metrics) scenarioLabel(scenario string) string {
	if slices.Contains(m.scenarios, scenario) {
		return scenario
	}
	return otherScenario
}

// CountWarnings counts warnings about an outcome.
func (m *Metrics) CountWarnings(scenario settlement.Scenario, n int) {
	m.warnings.WithLabelValues(m.scenarioLabel(string(scenario))).Add(float64(n))
}

// InitResults creates every series of results at zero: Prometheus sees no increase in a
// series that begins with 1, so the first failure of a kind would raise no alert.
func (m *Metrics) InitResults(scenarios []string) {
	m.scenarios = scenarios
	for _, scenario := range append([]string{otherScenario}, scenarios...) {
		m.otherPolicies.WithLabelValues(scenario)
		m.warnings.WithLabelValues(scenario)
		m.settlements.WithLabelValues(scenario, string(settlement.EntryClosed), "")
		for _, code := range settlement.Codes() {
			m.settlements.WithLabelValues(scenario, string(settlement.EntryFailed), string(code))
		}
	}
	for _, state := range []settlement.EntryState{settlement.EntryClosed, settlement.EntryFailed} {
		m.seconds.WithLabelValues(string(state))
		m.attempts.WithLabelValues(string(state))
	}
}

// RecordResult records the result of one delivery, and of the outcome where it ended with
// this delivery.
func (m *Metrics) RecordResult(r consumer.Result) {
	now := time.Now()
	scenario := otherScenario
	if slices.Contains(m.scenarios, string(r.Outcome.Scenario)) {
		scenario = string(r.Outcome.Scenario)
	}
	m.outcomes.WithLabelValues(scenario, string(r.Disposition), r.Reason).Inc()
	m.duration.WithLabelValues(string(r.Disposition)).Observe(r.Elapsed.Seconds())
	m.stageSeconds.WithLabelValues(stageAnswer).Observe(r.Answering.Seconds())
	if r.Delivered == 1 {
		m.stageSeconds.WithLabelValues(stageWait).Observe(max(0, now.Add(-r.Elapsed).Sub(r.Published).Seconds()))
	}
	m.Waiting.Record(r, now)
	e := r.Settlement.Entry
	if e.State == "" || r.Settlement.Duplicate {
		return
	}
	var code string
	if e.Error != nil {
		code = string(e.Error.Code)
	}
	state := string(e.State)
	m.settlements.WithLabelValues(scenario, state, code).Inc()
	m.seconds.WithLabelValues(state).Observe(max(0, now.Sub(r.Published).Seconds())) // the server's clock may be ahead
	m.attempts.WithLabelValues(state).Observe(float64(e.Attempt))
	if e.Recovered != nil && *e.Recovered {
		m.recovered.Inc()
	}
}

// ObserveNode makes the client log to m.Log and count its calls in m.
func (m *Metrics) ObserveNode(cfg *clearnode.Config) {
	cfg.Log = m.Log
	cfg.CallFunc = func(ctx context.Context, method, class string, elapsed time.Duration) {
		m.calls.WithLabelValues(method, class).Inc()
		m.callSeconds.WithLabelValues(method).Observe(elapsed.Seconds())
		m.traceCall(ctx, method, class, elapsed)
	}
	cfg.UnknownErrorFunc = func(method, _ string) { m.unknown.WithLabelValues(method).Inc() }
}
