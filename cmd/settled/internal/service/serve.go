package service

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"settled/clearnode"
	"settled/cmd/settled/internal/audit"
	"settled/cmd/settled/internal/background"
	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/cosigner"
	"settled/cmd/settled/internal/host"
	"settled/cmd/settled/internal/natsconn"
	"settled/cmd/settled/internal/telemetry"
	"settled/consumer"
	"settled/consumer/deadletter"
	"settled/consumer/operations"
	"settled/ledger"
	"settled/ledger/streamreader"
	"settled/settlement"
)

// consumerConfig is the configuration with the service's parts wired in.
func (s *Service) consumerConfig() consumer.Config {
	cfg := s.Cfg.Consumer()
	cfg.Ready, cfg.Changed = s.readyToFetch, s.Node.Changed
	cfg.LimitFunc = func() int {
		limit, _, _ := s.Node.Limit()
		return limit
	}
	cfg.Log, cfg.ResultFunc, cfg.BeginFunc = s.Metrics.Log, s.recordResult, s.Metrics.StartDelivery(cfg.Durable)
	cfg.TrustFunc = s.Cfg.TrustFunc()
	cfg.ForeignFunc = func(f consumer.Foreign) { s.Metrics.Foreign.Record(f.Stream, f.Sequence, f) }
	letters := deadletter.New(s.NATS.JS, cfg)
	letters.Who = "settled, " + letters.Who
	cfg.RequeueFunc = func(ctx context.Context, sequence uint64, reason string) (uint64, error) {
		r, err := letters.Requeue(ctx, sequence, reason)
		return r.Sequence, err
	}
	return cfg
}

// recordResult records the result of a delivery. If the outcome has its result, it logs what had
// no effect.
func (s *Service) recordResult(r consumer.Result) {
	s.Metrics.RecordResult(r)
	if r.Disposition != consumer.Acked && r.Disposition != consumer.Terminated {
		return
	}
	if warnings := s.Cfg.Policies.Warnings(r.Outcome); len(warnings) > 0 {
		s.Metrics.CountWarnings(r.Outcome.Scenario, len(warnings))
		s.Log.Warn().Uint64("sequence", r.Outcome.Ref.Sequence).Str("session", r.Outcome.Session.Token()).Str("scenario", string(r.Outcome.Scenario)).
			Strs("warnings", warnings).Msg("parts of an outcome have no effect")
	}
}

// readyToFetch returns nil if an outcome that is fetched now can be settled, by the state of the
// node, the limits and an embedded server's store.
func (s *Service) readyToFetch() error {
	return cmp.Or(s.Node.Ready(), s.store.problem(), s.assets.Problem())
}

// Service is `settled serve` while it runs.
type Service struct {
	Cfg      *config.Config
	Log      zerolog.Logger
	Metrics  *telemetry.Metrics
	NATS     *natsconn.Link
	Node     *clearnode.Client
	HTTP     *host.HTTPServer
	accounts []settlement.Address // that it signs for
	assets   *host.LimitAssets
	hold     *sendHold
	tails    *tailFiles
	recent   ledger.Recent
	store    *storeWatch             // of the embedded server; nil without one
	opened   atomic.Pointer[streams] // nil until the streams are verified

	mu               sync.Mutex
	startupErr       error  // of the last attempt to verify the streams
	restoreSuspicion string // why the embedded server's store may have been restored from a copy; empty: it was not
	suspicionByAge   bool   // only its age indicates it
}

// streams is what works with the streams, once they are verified.
type streams struct {
	consumer      *consumer.Consumer
	ledger        *ledger.Ledger
	emergencyStop *operations.EmergencyStop
	settings      *consumer.SettingsMonitor
	watch         *ledgerWatch
	permissions   *natsconn.PermissionWatch
}

// New returns a service without connections.
func New(cfg *config.Config, log zerolog.Logger) *Service {
	s := &Service{Cfg: cfg, Log: log, Metrics: telemetry.New(log)}
	s.initSendHold()
	return s
}

// Serve runs the configured service until ctx ends. If the connection to NATS is closed for
// good, it restarts on a new one.
func Serve(ctx context.Context, cfg *config.Config, log zerolog.Logger) error {
	if _, err := Check(cfg); err != nil {
		return err
	}
	return host.KeepRunning(ctx, log, func() error { return serveOnce(ctx, cfg, log) })
}

func serveOnce(ctx context.Context, cfg *config.Config, log zerolog.Logger) error {
	s := New(cfg, log)
	log.Info().Str("version", telemetry.Build().Version).Msg("settled is starting")
	defer s.Metrics.StartTracing(ctx)()
	if err := s.connect(ctx); err != nil || s.NATS == nil {
		return err
	}
	if cfg.Embedded {
		defer s.keepStoreRecord()() // after the server has ended
	}
	defer s.NATS.Shutdown()
	if err := s.OpenNode(); err != nil {
		return err
	}
	var err error
	if s.HTTP, err = s.ListenHTTP(); err != nil {
		return err
	}
	defer s.HTTP.Close()
	if !cfg.Embedded {
		return s.Run(ctx)
	}
	running, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	defer background.Run(running, func(ctx context.Context) { s.store.run(ctx, fail) })()
	err = s.Run(running)
	if cause := context.Cause(running); errors.Is(cause, host.ErrStoreFailed) {
		return cause
	}
	return err
}

// Run settles until ctx ends. Then it fetches no more outcomes, finishes those in progress,
// and closes the node's connections.
func (s *Service) Run(ctx context.Context) error {
	return host.WithNode(ctx, s.Node, s.settle)
}

// OpenNode creates the client for the node, which Run runs. If our keys don't reach a
// session's quorum, it asks other parties for signatures over NATS.
func (s *Service) OpenNode() error {
	cfg, err := s.Cfg.Node()
	if err != nil {
		return err
	}
	s.Metrics.ObserveNode(&cfg)
	host.LogKeys(s.Cfg, cfg, s.Log)
	for _, signer := range cfg.Signers {
		s.accounts = append(s.accounts, signer.Address())
	}
	if s.Cfg.CosignEnabled {
		cfg.Cosigners = &cosigner.Client{NC: s.NATS.Conn, Prefix: s.Cfg.NATSPrefix, Log: s.Log, Asked: s.Metrics.Asked, Hold: cosigner.NewCosignHold(s.Cfg)}
	}
	if s.Node, err = clearnode.New(cfg); err != nil {
		return err
	}
	s.assets = host.NewLimitAssets(s.Cfg.Limits, s.Node.Assets, s.Log)
	return nil
}

// connect connects to NATS. While the disk is too full for the embedded server to start, it
// retries; if ctx ends meanwhile, there is neither a connection nor an error.
func (s *Service) connect(ctx context.Context) error {
	var reminder consumer.Reminder
	for {
		err := s.connectOnce()
		if !s.Cfg.Embedded || !natsconn.IsDiskFull(err) {
			return err
		}
		if reminder.Due(err.Error(), time.Now()) {
			s.Log.Error().Err(err).Msg("waiting for space on the disk of embedded.store_dir")
		}
		if !background.Sleep(ctx, time.Second) {
			return nil
		}
	}
}

func (s *Service) connectOnce() error {
	options := natsconn.Notices(s.Log, func(*nats.Conn) { s.reconnected() }, func(_ *nats.Subscription, err error) { s.PermissionWatch().HandleError(err) })
	var err error
	if s.Cfg.Embedded {
		s.restoreSuspicion, s.suspicionByAge = storeSuspicion(s.Cfg.EmbeddedStoreDir, time.Now())
		s.NATS, err = natsconn.ConnectEmbedded(s.Cfg, "settled", true, options...)
	} else {
		s.NATS, err = natsconn.Connect(s.Cfg, "settled", true, options...)
	}
	if err == nil && s.Cfg.Embedded {
		s.store = newStoreWatch(s.NATS.Embedded, s.Cfg.EmbeddedStoreDir, s.Log)
		s.Log.Info().Str("url", s.NATS.Embedded.ClientURL()).Str("store", s.Cfg.EmbeddedStoreDir).Msg("embedded JetStream is up")
	}
	return err
}

// reconnected discards what is known about the streams, so that it is read again: a server
// restored from an older copy may have lost intents whose requests can still take effect.
// It runs in a callback of the client library, which must not block, so other goroutines do
// the reading.
func (s *Service) reconnected() {
	if o := s.opened.Load(); o != nil {
		o.permissions.CheckSoon()
		o.emergencyStop.Forget()
		o.settings.Forget()
		o.ledger.Reconnected()
		o.watch.checkNow.Now()
	}
}

// PermissionWatch returns the watch of the service's permissions; nil until the streams are
// verified.
func (s *Service) PermissionWatch() *natsconn.PermissionWatch {
	if o := s.opened.Load(); o != nil {
		return o.permissions
	}
	return nil
}

// Ledger returns the ledger; it may be called once OpenStreams has succeeded.
func (s *Service) Ledger() *ledger.Ledger { return s.opened.Load().ledger }

// settle creates or verifies the streams and consumes outcomes until ctx ends.
func (s *Service) settle(ctx context.Context) error {
	var reminder consumer.Reminder
	if err := natsconn.Retry(ctx, func() error { return s.OpenStreams(ctx) }, func(err error) {
		if reminder.Due(err.Error(), time.Now()) {
			s.Log.Warn().Err(err).Msg("waiting for NATS and the streams")
		}
		s.mu.Lock()
		s.startupErr = err
		s.mu.Unlock()
	}); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	o := s.opened.Load()
	// Outcomes in progress need these two after ctx has ended.
	defer background.Run(context.WithoutCancel(ctx), o.emergencyStop.Run)()
	defer background.Run(context.WithoutCancel(ctx), func(ctx context.Context) { o.settings.Run(ctx, o.watch.checkNow.Now) })()
	defer background.Run(ctx, o.watch.run)()
	defer background.Run(ctx, o.permissions.Run)()
	defer background.Run(ctx, s.assets.Run)()
	defer background.Run(ctx, NewReconciler(s).run)()
	defer background.Run(ctx, s.runMicro)()
	defer background.Run(ctx, func(ctx context.Context) { s.Metrics.Health.Probe(ctx, s.Node, s.Log) })()
	return o.consumer.Run(ctx)
}

// OpenStreams creates or verifies the streams, unless it did before.
func (s *Service) OpenStreams(ctx context.Context) error {
	return natsconn.WithLimitAdvice(s.openStreamsOnce(ctx))
}

func (s *Service) openStreamsOnce(ctx context.Context) error {
	if s.opened.Load() != nil {
		return nil
	}
	if err := s.NATS.ConnectionError(); err != nil {
		return err // a request would wait for the connection
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cfg := s.consumerConfig()
	// The ledger comes first: outcomes that are older show that it was lost.
	entries := s.Cfg.Ledger()
	entries.Tail = s.tails
	entries.ForeignFunc = s.foreignEntry
	entries.Recent = &s.recent
	l, warnings, err := ledger.Open(ctx, telemetry.TracedJetStream{JetStream: s.NATS.JS}, entries)
	if err != nil {
		return err
	}
	more, err := consumer.EnsureStreams(ctx, s.NATS.JS, cfg)
	if err != nil {
		return err
	}
	warnings = append(warnings, more...)
	_, more, err = consumer.EnsureDurable(ctx, s.NATS.JS, cfg)
	if err != nil {
		return err
	}
	watch := newLedgerWatch(l, s.Log)
	watch.check(ctx)
	if err := s.holdIfRestored(ctx, l); err != nil {
		return err
	}
	for _, w := range append(warnings, more...) {
		s.Log.Warn().Msg(w)
	}
	emergencyStop := operations.NewEmergencyStop(s.NATS.JS, cfg)
	emergencyStop.Refresh(ctx)
	fence := s.Cfg.NodeMessageExpiry + s.Cfg.NodeFenceMargin
	settings := consumer.NewSettingsMonitor(s.NATS.JS, cfg, fence)
	_ = settings.Verify(ctx) // which logs errors and holds sending
	rights := natsconn.NewPermissionWatch(s.NATS.JS, s.Cfg, s.Log)
	rights.CheckAll(ctx)
	gate := sendGate{emergencyStop, settings, l, s.hold, s.assets, s.store, rights}
	settler := &settlement.Settler{
		Node: s.Node, Permits: s.Node, Ledger: l, DeadLetters: deadletter.New(s.NATS.JS, cfg), EmergencyStop: gate, HoldFunc: gate.ledgerComplete,
		Policies: s.Cfg.Policies, Limits: s.Cfg.Limits, MaxAttempts: s.Cfg.ConsumerMaxAttempts, FenceMargin: s.Cfg.NodeFenceMargin,
		TrustFunc: s.Cfg.TrustFunc(), ReplayFunc: deadletter.NewApprovals(s.NATS.JS, cfg).Approved,
	}
	s.Metrics.InitResults(s.Cfg.Scenarios())
	s.Metrics.Foreign.Init(s.Cfg.NATSPrefix)
	c, err := consumer.New(s.NATS.JS, s.Metrics.Instrument(settler), cfg)
	if err != nil {
		return err
	}
	s.opened.Store(&streams{c, l, emergencyStop, settings, watch, rights})
	s.Metrics.RegisterGauges(telemetry.GaugeSources{
		Ready: s.Ready, Stopped: emergencyStop.Stopped, HeldCauses: heldCauses(), Held: s.Held, NATSConnected: s.NATS.IsConnected, Consumer: c.Status,
		LedgerRemembered: l.CachedBytes, Node: s.Node, Fence: fence,
		DeadLetters: streamreader.New(s.NATS.JS, consumer.DeadLettersStream(s.Cfg.NATSPrefix)),
	})
	s.logOutcomesRestored(ctx)
	s.Metrics.Health.SetKnownSession(s.lastClosedSession(ctx))
	s.Log.Info().Strs("scenarios", s.Cfg.Scenarios()).Int("limits", len(s.Cfg.Limits)).Int("outcome_signers", len(s.Cfg.TrustOutcomeSigners)).Str("node", config.RedactURL(s.Cfg.NodeURL)).Int("workers", s.Cfg.ConsumerWorkers).Msg("settling outcomes")
	return nil
}

// Ready returns why an outcome that is published now would not settle; nil: it would, by
// the results of the last minute.
func (s *Service) Ready() error {
	if !s.NATS.IsConnected() {
		return s.NATS.ConnectionError()
	}
	o := s.opened.Load()
	if o == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.startupErr != nil {
			return fmt.Errorf("the streams are not verified yet: %w", s.startupErr)
		}
		return errors.New("the streams are not verified yet")
	}
	nodeErr := s.Node.Ready()
	if nodeErr != nil {
		nodeErr = fmt.Errorf("ClearNode: %w", nodeErr)
	}
	stop, stopErr := o.emergencyStop.Active()
	if stop != nil {
		stopErr = nil // a stop is intended
	}
	count, _ := s.Metrics.Waiting.Ages(time.Now())
	return cmp.Or(
		s.store.problem(), nodeErr, s.assets.Problem(), o.watch.ready(s.Node.Versioned()), s.hold.Err(), o.settings.Problem(),
		o.permissions.Problem(), stopErr, o.consumer.Status().Err(), s.Metrics.Health.Problem(count, time.Now()))
}

// stuckAfter is the time after which a loop that runs every second counts as stuck.
const stuckAfter = time.Minute

// alive returns an error if the process can't recover and must be restarted.
func (s *Service) alive() error {
	o := s.opened.Load()
	if o == nil {
		return nil
	}
	if beat := o.consumer.Status().Beat; !beat.IsZero() && time.Since(beat) > stuckAfter {
		return fmt.Errorf("the loop that fetches outcomes has not run since %s: restart settled, and report this as a bug", beat.UTC().Format(time.RFC3339))
	}
	return nil
}

// Stopped describes the stop in force; empty: there is none.
func (s *Service) Stopped() string {
	if o := s.opened.Load(); o != nil {
		if stop, _ := o.emergencyStop.Active(); stop != nil {
			return host.StopText(stop)
		}
	}
	return ""
}

// foreignEntry counts a message of the ledger that is not an entry.
func (s *Service) foreignEntry(f ledger.Foreign) {
	s.Metrics.Foreign.Record(ledger.StreamName(s.Cfg.NATSPrefix), f.Sequence, f)
}

// lastClosedSession returns the session of the newest closed entry, genuine or not; empty
// if there is none or it can't be read.
func (s *Service) lastClosedSession(ctx context.Context) settlement.SessionID {
	m, err := audit.LedgerReader(s.NATS.JS, s.Cfg.NATSPrefix).Last(ctx, ledger.Subject(s.Cfg.NATSPrefix, settlement.EntryClosed, "*"))
	if err != nil {
		return ""
	}
	session, _ := settlement.ParseSessionID(m.Subject[strings.LastIndexByte(m.Subject, '.')+1:])
	return session
}
