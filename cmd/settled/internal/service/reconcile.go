package service

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"settled/cmd/settled/internal/audit"
	"settled/cmd/settled/internal/background"
	"settled/cmd/settled/internal/telemetry"
	"settled/cmd/settled/internal/terminal"
	"settled/consumer/operations"
)

const (
	// reconcileEvery is how often one replica reconciles for all, reconcileFirst the least
	// delay of the first run, and reconcilePoll how often a replica looks whether one is due.
	reconcileEvery = time.Hour
	reconcileFirst = 5 * time.Minute
	reconcilePoll  = 5 * time.Minute
	// reconcileLease is how long a replica that reconciles may be silent before another one
	// takes over, and reconcileSave how often it stores the checkpoint.
	reconcileLease = 30 * time.Minute
	reconcileSave  = 10 * time.Minute
	// reconcileRate is how many sessions it reads a second at the node before it compares
	// those closed since, which it spreads over reconcileShare of the period, but for
	// reconcileSlowest a second.
	reconcileRate    = 5
	reconcileShare   = 0.9
	reconcileSlowest = 1
	// reconcilePerConnection is how many sessions it reads a second on each connection at
	// most: a nitronode accepts 10 frames, and the rest is left to settling.
	reconcilePerConnection = 2.5
)

// reconciler reconciles periodically, if no other replica does, and publishes the findings
// of the last run of any replica. Two replicas that reconcile at the same time only do the
// work twice: the checkpoint of one of them is not stored.
type reconciler struct {
	s           *Service
	gauges      telemetry.ReconciliationGauges
	checkpoint  *operations.Document
	Lease       *operations.Lease
	Unrequested *audit.UnrequestedSearch
	Nodes       *audit.NodeReader
	Period      time.Duration
	MinRate     float64 // of sessions that are read at the node, a second
	MaxRate     float64
}

func NewReconciler(s *Service) *reconciler {
	return &reconciler{
		s: s, gauges: s.Metrics.NewReconciliationGauges(),
		checkpoint:  operations.NewDocument(s.NATS.JS, s.Cfg.NATSPrefix, operations.ReconcileCheckpoint),
		Lease:       operations.NewLease(s.NATS.JS, s.Cfg.NATSPrefix, operations.ReconcileLease, reconcileLease),
		Unrequested: audit.NewUnrequestedSearch(s.Cfg, s.accounts, audit.MaxPagesPeriodic),
		Nodes:       &audit.NodeReader{Node: s.Node, Lists: s.Node, Limit: terminal.NewLimiter(reconcileRate), ReadyFunc: s.Node.Ready},
		Period:      reconcileEvery, MinRate: reconcileSlowest, MaxRate: reconcilePerConnection * float64(max(1, s.Cfg.NodeConnections)),
	}
}

// run reconciles until ctx ends. The first delay is random, so that replicas look at
// different times.
func (r *reconciler) run(ctx context.Context) {
	wait := reconcileFirst + rand.N(reconcileFirst) // #nosec G404 -- not a secret
	for background.Sleep(ctx, wait) {
		wait = reconcilePoll
		if err := r.RunIfDue(ctx); err != nil && ctx.Err() == nil {
			r.s.Log.Warn().Err(err).Msg("outcomes, ledger and node could not be compared; trying again in an hour")
			wait = reconcileEvery
		}
	}
}

// RunIfDue reconciles if the last run of any replica is old enough, or was not finished.
func (r *reconciler) RunIfDue(ctx context.Context) error {
	last, err := r.load(ctx)
	if err != nil {
		return err
	}
	if last != nil && last.Node == last.Ledger.Sequence && time.Since(last.RunAt) < r.Period {
		return nil
	}
	return r.RunOnce(ctx, audit.MinAge)
}

// RunOnce reconciles, unless another replica holds the lease, and publishes the findings.
// After a failed run the gauges keep the values of the last one; alerts go by its age.
func (r *reconciler) RunOnce(ctx context.Context, olderThan time.Duration) error {
	began := time.Now()
	holder, now, err := r.Lease.Acquire(ctx)
	if err != nil {
		return err
	}
	last, err := r.load(ctx)
	if err != nil || holder.Replica != r.Lease.Self.Replica {
		return err
	}
	running, lost := context.WithCancelCause(ctx)
	defer lost(nil)
	defer background.Run(running, func(ctx context.Context) { r.renewLease(ctx, lost) })()
	if err := r.runHeld(running, began, now, last, olderThan); err != nil {
		return cmp.Or(context.Cause(running), err)
	}
	return nil
}

// renewLease renews the lease until ctx ends, and calls lost if another replica has it.
func (r *reconciler) renewLease(ctx context.Context, lost func(error)) {
	for background.Sleep(ctx, r.Lease.Duration/3) {
		if holder, _, err := r.Lease.Acquire(ctx); err == nil && holder.Replica != r.Lease.Self.Replica {
			lost(fmt.Errorf("%s reconciles now", holder))
		}
	}
}

// runHeld reconciles after the last checkpoint, which may be nil.
func (r *reconciler) runHeld(ctx context.Context, began, now time.Time, last *audit.Checkpoint, olderThan time.Duration) (err error) {
	check := audit.Reconciliation{
		JS: r.s.NATS.JS, Prefix: r.s.Cfg.NATSPrefix, Durable: r.s.Cfg.ConsumerDurable, OlderThan: olderThan, Now: now, ClosedSince: now.Add(-reconcileEvery), Nodes: r.Nodes, Unrequested: r.Unrequested,
		Bar: &terminal.Progress{W: io.Discard, Every: time.Hour, Shown: now},
	}
	r.Nodes.Limit = terminal.NewLimiter(reconcileRate)
	if last, err = r.verified(ctx, last); err != nil {
		return err
	}
	if last == nil {
		r.Unrequested.Continue(r.Nodes, check.ClosedSince.Add(-audit.MinAge), nil)
	} else {
		check.ClosedSince = last.RunAt.Add(-time.Minute) // other writers' clocks may be behind
		r.Unrequested.Continue(r.Nodes, last.ListSince, last.Unrequested)
	}
	run, err := check.Continue(ctx, last)
	if err == nil {
		err = run.CompareAgain(ctx)
	}
	if err == nil {
		err = r.compareNext(ctx, run, began.Add(r.Period))
	}
	if err != nil {
		return err
	}
	run.Next.Finished, run.Next.Behind = time.Now(), run.Left()
	if err := r.save(ctx, run.Next); err != nil {
		return err
	}
	r.report(run)
	return nil
}

// verified returns the checkpoint, or if it doesn't belong to these streams, one after which
// everything is read.
func (r *reconciler) verified(ctx context.Context, last *audit.Checkpoint) (*audit.Checkpoint, error) {
	if last == nil {
		r.s.Log.Info().Msg("there is no checkpoint of a reconciliation: ledger and outcomes are read from their beginning")
		return nil, nil
	}
	problem, err := last.Verify(ctx, r.s.NATS.JS, r.s.Cfg.NATSPrefix)
	if problem != "" {
		r.s.Log.Warn().Str("problem", problem).Msg("a stream was restored or replaced since the last reconciliation: ledger and outcomes are read from their beginning")
		return last.Restart(), nil
	}
	return last, err
}

// compareNext compares the sessions closed since with the node, spread over the period.
func (r *reconciler) compareNext(ctx context.Context, run *audit.PeriodicRun, end time.Time) error {
	if err := r.save(ctx, run.Next); err != nil {
		return err
	}
	spread := float64(run.Left()) / (reconcileShare * r.Period.Seconds())
	r.Nodes.Limit = terminal.NewLimiter(min(max(spread, r.MinRate), r.MaxRate))
	for saved := time.Now(); run.Left() > 0 && time.Now().Before(end); {
		if err := run.CompareNext(ctx); err != nil {
			return err
		}
		if time.Since(saved) < reconcileSave {
			continue
		}
		if err := r.save(ctx, run.Next); err != nil {
			return err
		}
		saved = time.Now()
	}
	return nil
}

// load reads the checkpoint of the last run of any replica, and shows it. One that can't be
// read is ignored.
func (r *reconciler) load(ctx context.Context) (*audit.Checkpoint, error) {
	data, stored, err := r.checkpoint.Load(ctx)
	if err != nil || data == nil {
		return nil, err
	}
	c, err := audit.ParseCheckpoint(data)
	if err != nil {
		r.s.Log.Warn().Err(err).Msg("the checkpoint of the last reconciliation can't be read and is ignored")
		return nil, nil
	}
	r.show(c, stored)
	return c, nil
}

// save stores the checkpoint, and shows it.
func (r *reconciler) save(ctx context.Context, c *audit.Checkpoint) error {
	data, err := json.Marshal(c)
	if err == nil {
		err = r.checkpoint.Store(ctx, data)
	}
	if err == nil {
		r.show(c, time.Now())
	}
	return err
}

// show publishes what a checkpoint says.
func (r *reconciler) show(c *audit.Checkpoint, stored time.Time) {
	for _, kind := range audit.FindingKinds() {
		r.gauges.Findings.WithLabelValues(kind).Set(float64(c.Counts[kind]))
	}
	if !c.Finished.IsZero() {
		r.gauges.LastRun.Set(float64(c.Finished.Unix()))
	}
	r.gauges.Checkpoint.Set(float64(stored.Unix()))
	for of, sequence := range map[string]uint64{"ledger": c.Ledger.Sequence, "outcomes": c.Outcomes.Sequence, "node": c.Node} {
		r.gauges.Position.WithLabelValues(of).Set(float64(sequence))
	}
	r.gauges.Behind.Set(float64(c.Behind))
	r.gauges.NotCarried.Set(float64(c.NotCarried))
}

// report logs what a run found and what it left out.
func (r *reconciler) report(run *audit.PeriodicRun) {
	if left := run.Next.Behind; left > 0 {
		r.s.Log.Warn().Uint64("compared", run.Compared).Uint64("left", left).Msg("more sessions were closed than can be compared with the node in time: the next run continues where this one ended")
	}
	if n := run.Next.NotCarried; n > 0 {
		r.s.Log.Warn().Uint64("findings", n).Msg("there are more findings than are looked at again: run settled reconcile")
	}
	if run.Unlisted != "" {
		r.s.Log.Info().Str("why", run.Unlisted).Msg("not everything was looked through for sessions that others closed")
	}
	for _, f := range run.Findings {
		if f.Kind != audit.OutcomeWaiting { // waiting outcomes are reported while they wait
			r.s.Log.Error().Str("finding", f.Kind).Str("session", f.Session.Token()).Uint64("outcome", f.Outcome).Uint64("entry", f.Sequence).Str("problem", f.Problem).Msg("outcomes, ledger and node don't agree: run settled reconcile")
		}
	}
}
