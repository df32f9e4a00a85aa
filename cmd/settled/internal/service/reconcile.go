package service

import (
	"context"
	"io"
	"math/rand/v2"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"settled/cmd/settled/internal/audit"
	"settled/cmd/settled/internal/background"
	"settled/cmd/settled/internal/terminal"
	"settled/settlement"
)

const (
	// reconcileEvery is how often a service reconciles, and reconcileFirst the least delay of
	// the first run.
	reconcileEvery = time.Hour
	reconcileFirst = 5 * time.Minute
	// reconcileRate is how many sessions it reads a second at the node.
	reconcileRate = 5
	// reconcileMost bounds the sessions that a run reads, so that it ends before the next
	// one begins.
	reconcileMost = 3000
)

// reconciler reconciles periodically and publishes its findings.
type reconciler struct {
	s           *Service
	findings    *prometheus.GaugeVec
	lastRun     prometheus.Gauge
	Since       time.Time                     // earlier closes were compared already
	disagreed   map[settlement.SessionID]bool // sessions to compare again until the node agrees
	Unrequested *audit.UnrequestedSearch
}

func NewReconciler(s *Service) *reconciler {
	r := &reconciler{s: s, Since: time.Now().Add(-reconcileEvery), Unrequested: audit.NewUnrequestedSearch(s.Cfg, s.accounts, audit.MaxPagesPeriodic)}
	r.findings, r.lastRun = s.Metrics.NewReconciliationGauges()
	return r
}

// run reconciles until ctx ends. The first delay is random, so that replicas run at
// different times.
func (r *reconciler) run(ctx context.Context) {
	wait := reconcileFirst + rand.N(reconcileFirst) // #nosec G404 -- not a secret
	for ; background.Sleep(ctx, wait); wait = reconcileEvery {
		if err := r.RunOnce(ctx, audit.MinAge); err != nil && ctx.Err() == nil {
			r.s.Log.Warn().Err(err).Msg("outcomes, ledger and node could not be compared; trying again in an hour")
		}
	}
}

// RunOnce reconciles and publishes its findings. After a failed run the gauges keep the
// values of the last one; alerts go by its age.
func (r *reconciler) RunOnce(ctx context.Context, olderThan time.Duration) error {
	now := time.Now()
	nodes := &audit.NodeReader{Node: r.s.Node, Lists: r.s.Node, Limit: terminal.NewLimiter(reconcileRate), ReadyFunc: r.s.Node.Ready}
	r.Unrequested.Begin(nodes, r.Since.Add(-audit.MinAge)) // the node's clock may be behind
	check := audit.Reconciliation{
		JS: r.s.NATS.JS, Prefix: r.s.Cfg.NATSPrefix, Durable: r.s.Cfg.ConsumerDurable, OlderThan: olderThan, Now: now, ClosedSince: r.Since, Again: r.disagreed, Most: reconcileMost, Nodes: nodes, Unrequested: r.Unrequested,
		Bar: &terminal.Progress{W: io.Discard, Every: time.Hour, Shown: now},
	}
	out, err := check.Run(ctx)
	if err != nil {
		return err
	}
	r.Since, r.disagreed = now.Add(-time.Minute), map[settlement.SessionID]bool{} // other writers' clocks may be behind
	for _, f := range out.Findings {
		r.disagreed[f.Session] = true
	}
	summary := audit.Summarize(out)
	for _, kind := range audit.FindingKinds() {
		r.findings.WithLabelValues(kind).Set(float64(summary.Findings[kind]))
	}
	r.lastRun.Set(float64(time.Now().Unix()))
	if out.NotSampled > 0 {
		r.s.Log.Info().Uint64("compared", out.Compared).Uint64("left", out.NotSampled).Msg("more sessions were closed than are compared with the node every hour: settled ledger verify compares all")
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
