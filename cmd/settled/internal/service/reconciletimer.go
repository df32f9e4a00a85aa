package service

import (
	"context"
	"io"
	"math/rand/v2"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"settled/cmd/settled/internal/audit"
	"settled/cmd/settled/internal/terminal"
	"settled/settlement"
)

const (
	// reconcileEvery is how often a service reconciles, and reconcileFirst after
	// what time at the earliest: the node comes first.
	reconcileEvery = time.Hour
	reconcileFirst = 5 * time.Minute
	// reconcileRate is how many sessions it reads a second: the node is for settling.
	reconcileRate = 5
	// reconcileMost is how many of those that were closed since it reads at most, and
	// of those that disagreed before: a run must be over before the next one begins,
	// however much is settled.
	reconcileMost = 3000
)

// reconciler reconciles while a service runs, and shows what it finds.
type reconciler struct {
	s        *Service
	findings *prometheus.GaugeVec
	lastRun  prometheus.Gauge
	Since    time.Time                     // sessions closed before were compared already
	again    map[settlement.SessionID]bool // of these, where the node disagreed: they are compared until it doesn't
	Unasked  *audit.UnaskedSearch
}

func NewReconciler(s *Service) *reconciler {
	r := &reconciler{
		s: s,
		findings: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "settled_reconciliation_findings", Help: "What the last reconciliation of outcomes, ledger and node found, by kind; at the node it looks at the sessions closed since the one before, at 3,000 of them drawn at random where they are more, and at those where it disagreed.",
		}, []string{"kind"}),
		lastRun: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "settled_reconciliation_last_run_timestamp_seconds", Help: "When the last reconciliation was finished, in Unix time; 0 before the first.",
		}),
		Since: time.Now().Add(-reconcileEvery),
	}
	r.Unasked = audit.SearchUnasked(s.Cfg, s.own, audit.MostPagesServing)
	s.Metrics.Registry.MustRegister(r.findings, r.lastRun)
	return r
}

// run reconciles until ctx ends. Replicas don't start in step.
func (r *reconciler) run(ctx context.Context) {
	wait := reconcileFirst + rand.N(reconcileFirst) // #nosec G404 -- not a secret
	for {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		if err := r.Once(ctx, audit.MinAge); err != nil && ctx.Err() == nil {
			r.s.Log.Warn().Err(err).Msg("outcomes, ledger and node could not be compared; trying again in an hour")
		}
		wait = reconcileEvery
	}
}

// Once reconciles, and shows what it found. A run that failed shows nothing new: its
// age is what to alert on.
func (r *reconciler) Once(ctx context.Context, olderThan time.Duration) error {
	now := time.Now()
	nodes := &audit.NodeReader{Node: r.s.Node, Lists: r.s.Node, Limit: terminal.Limiter(reconcileRate), Why: r.s.Node.Ready}
	r.Unasked.Begin(nodes, r.Since.Add(-audit.MinAge)) // by the node's clock, which may be behind
	check := audit.Reconciliation{
		Js: r.s.Nats.JS, Prefix: r.s.Cfg.NATSPrefix, Durable: r.s.Cfg.ConsumerDurable, OlderThan: olderThan, Now: now, ClosedSince: r.Since, Again: r.again, Most: reconcileMost, Nodes: nodes, Unasked: r.Unasked,
		Bar: &terminal.Progress{W: io.Discard, Every: time.Hour, Shown: now},
	}
	out, err := check.Run(ctx)
	if err != nil {
		return err
	}
	r.Since, r.again = now.Add(-time.Minute), map[settlement.SessionID]bool{} // a minute, for writers whose clock is behind ours
	for _, f := range out.Findings {
		r.again[f.Session] = true
	}
	summary := audit.Summarize(out)
	for _, kind := range audit.FindingKinds() {
		r.findings.WithLabelValues(kind).Set(float64(summary.Findings[kind]))
	}
	r.lastRun.Set(float64(time.Now().Unix()))
	if out.Undrawn > 0 {
		r.s.Log.Info().Uint64("compared", out.Compared).Uint64("left", out.Undrawn).Msg("more sessions were closed than are compared with the node every hour: settled ledger verify compares all")
	}
	if out.Unlisted != "" {
		r.s.Log.Info().Str("why", out.Unlisted).Msg("not everything was looked through for sessions that others closed")
	}
	for _, f := range out.Findings {
		if f.Kind != audit.OutcomeWaiting { // waiting outcomes are reported while they wait
			r.s.Log.Error().Str("finding", f.Kind).Str("session", f.Session.Token()).Uint64("outcome", f.Outcome).Uint64("entry", f.Sequence).Str("problem", f.Problem).Msg("outcomes, ledger and node don't agree: run settled reconcile")
		}
	}
	return nil
}
