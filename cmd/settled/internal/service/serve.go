package service

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"settled/clearnode"
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
	"settled/settlement"
)

// consumerConfig is the configuration with the service's parts wired in.
func (s *Service) consumerConfig() consumer.Config {
	cfg := s.Cfg.Consumer()
	cfg.Ready, cfg.Changed = s.mayFetch, s.Node.Changed
	cfg.Log, cfg.ResultFunc, cfg.BeginFunc = s.Metrics.Log, s.Metrics.Result, s.Metrics.Begin(cfg.Durable)
	cfg.TrustFunc = s.Cfg.TrustFunc()
	cfg.ForeignFunc = func(f consumer.Foreign) { s.Metrics.Foreign.Found(f.Stream, f.Sequence, f) }
	letters := deadletter.New(s.Nats.JS, cfg)
	letters.Who = "settled, " + letters.Who
	cfg.RequeueFunc = func(ctx context.Context, sequence uint64, reason string) (uint64, error) {
		r, err := letters.Requeue(ctx, sequence, reason)
		return r.Sequence, err
	}
	return cfg
}

// mayFetch is nil where an outcome that is fetched now could be settled, as far as the node,
// the limits and an embedded server's store go.
func (s *Service) mayFetch() error {
	if err := s.Node.Ready(); err != nil {
		return err
	}
	if err := s.store.problem(); err != nil {
		return err
	}
	return s.assets.Problem()
}

// Service is `settled serve` while it runs.
type Service struct {
	Cfg     *config.Config
	Log     zerolog.Logger
	Metrics *telemetry.Metrics
	Nats    *natsconn.Link
	Node    *clearnode.Client
	own     []settlement.Address // the accounts that it signs for
	assets  *host.LimitAssets
	Http    *host.HTTPServer
	Hold    *SendHold
	tails   *tailFiles
	store   *storeWatch // of the embedded server; nil without one
	Rights  *natsconn.RightsWatch

	doubt    string // why the embedded server's store may have been set back
	doubtOld bool   // only its age speaks for it

	Mu       sync.Mutex
	Consumer *consumer.Consumer // nil until the streams are there
	Ledger   *ledger.Ledger
	brake    *operations.EmergencyStop
	settings *consumer.SettingsMonitor
	Books    *ledgerWatch
	waits    error // why the streams are not there yet, as the last try told
}

// Serve runs the configured service until ctx ends. Where the connection to NATS was
// closed for good it starts again on a new one.
func Serve(ctx context.Context, cfg *config.Config, log zerolog.Logger) error {
	if _, err := Check(cfg); err != nil {
		return err
	}
	return host.KeepRunning(ctx, log, func() error { return serveOnce(ctx, cfg, log) })
}

func serveOnce(ctx context.Context, cfg *config.Config, log zerolog.Logger) error {
	s := &Service{Cfg: cfg, Log: log, Metrics: telemetry.New(log)}
	s.Remember()
	log.Info().Str("version", telemetry.Build().Version).Msg("settled is starting")
	defer s.Metrics.StartTracing(ctx)()
	node, err := cfg.Node()
	if err != nil {
		return err
	}
	s.Metrics.ObserveNode(&node)
	host.LogKeys(cfg, node, log)
	if err := s.connect(ctx); err != nil || s.Nats == nil {
		return err
	}
	if cfg.Embedded {
		defer s.keepStoreRecord()() // after the server has ended
	}
	defer s.Nats.Shutdown()
	if err := s.UseNode(node); err != nil {
		return err
	}
	if s.Http, err = s.ListenHTTP(); err != nil {
		return err
	}
	defer s.Http.Close()
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

// Run settles until ctx ends, then stops from the front to the back: no new
// outcomes, those in hand finished, then the node's connections.
func (s *Service) Run(ctx context.Context) error {
	s.Remember()
	return host.WithNode(ctx, s.Node, s.settle)
}

// UseNode makes the client for the node. Where our keys don't reach a session's
// quorum, the others' are asked for over this service's NATS.
func (s *Service) UseNode(cfg clearnode.Config) error {
	for _, signer := range cfg.Signers {
		s.own = append(s.own, signer.Address())
	}
	if s.Cfg.CosignEnabled {
		cfg.Cosigners = &cosigner.Cosigners{Nc: s.Nats.Conn, Prefix: s.Cfg.NATSPrefix, Log: s.Log, Asked: s.Metrics.Asked, Hold: cosigner.NewCosignHold(s.Cfg)}
	}
	var err error
	if s.Node, err = clearnode.New(cfg); err != nil {
		return err
	}
	s.assets = host.NewLimitAssets(s.Cfg.Limits, s.Node.Assets, s.Log)
	return nil
}

// connect connects to NATS. A disk that is too full for the embedded server to start is
// waited for; where ctx ends meanwhile there is no connection, and no error.
func (s *Service) connect(ctx context.Context) error {
	var told consumer.Reminder
	for {
		err := s.ConnectOnce()
		if !s.Cfg.Embedded || !natsconn.DiskFull(err) {
			return err
		}
		if told.Due(err.Error(), time.Now()) {
			s.Log.Error().Err(err).Msg("waiting for space on the disk of embedded.store_dir")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

func (s *Service) ConnectOnce() error {
	options := natsconn.Notices(s.Log, func(*nats.Conn) { s.reconnected() }, func(_ *nats.Subscription, err error) { s.WriteRights().Failed(err) })
	var err error
	if s.Cfg.Embedded {
		s.doubt, s.doubtOld = StoreDoubt(s.Cfg.EmbeddedStoreDir, time.Now())
		s.Nats, err = natsconn.ConnectEmbedded(s.Cfg, "settled", true, options...)
	} else {
		s.Nats, err = natsconn.Connect(s.Cfg, "settled", true, options...)
	}
	if err == nil && s.Cfg.Embedded {
		s.store = newStoreWatch(s.Nats.Embedded, s.Cfg.EmbeddedStoreDir, s.Log)
		s.Log.Info().Str("url", s.Nats.Embedded.ClientURL()).Str("store", s.Cfg.EmbeddedStoreDir).Msg("embedded JetStream is up")
	}
	return err
}

// reconnected makes what is known of the streams count for nothing until it was read
// again: a server restored from an older copy would have lost intents whose requests
// may still land. It runs in the client library's callback, which must not block; the
// reading is done beside it.
func (s *Service) reconnected() {
	s.Mu.Lock()
	l, brake, settings, books, rights := s.Ledger, s.brake, s.settings, s.Books, s.Rights
	s.Mu.Unlock()
	if l == nil {
		return
	}
	rights.Hurry()
	brake.Forget()
	settings.Forget()
	l.Reconnected()
	books.hurry()
}

// WriteRights watches what the service may write; nil before it has a connection.
func (s *Service) WriteRights() *natsconn.RightsWatch {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	return s.Rights
}

// settle makes or verifies the streams and consumes until ctx ends.
func (s *Service) settle(ctx context.Context) error {
	var told consumer.Reminder
	if err := natsconn.Retry(ctx, func() error { return s.Build(ctx) }, func(err error) {
		if told.Due(err.Error(), time.Now()) {
			s.Log.Warn().Err(err).Msg("waiting for NATS and the streams")
		}
		s.Mu.Lock()
		s.waits = err
		s.Mu.Unlock()
	}); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	s.Mu.Lock()
	c, brake, settings, books := s.Consumer, s.brake, s.settings, s.Books
	s.Mu.Unlock()
	// Outcomes in hand ask these two as long as they are, also when ctx has ended.
	defer background.Run(context.WithoutCancel(ctx), brake.Run)()
	defer background.Run(context.WithoutCancel(ctx), func(ctx context.Context) { settings.Run(ctx, books.hurry) })()
	defer background.Run(ctx, books.run)()
	defer background.Run(ctx, s.WriteRights().Run)()
	defer background.Run(ctx, s.assets.Run)()
	defer background.Run(ctx, NewReconciler(s).run)()
	defer background.Run(ctx, func(ctx context.Context) { s.Metrics.Recent.Watch(ctx, s.Node, s.Log) })()
	return c.Run(ctx)
}

func (s *Service) Build(ctx context.Context) error {
	return natsconn.WithLimitAdvice(s.openStreams(ctx))
}

// openStreams makes or verifies the streams, and what works on them.
func (s *Service) openStreams(ctx context.Context) error {
	if s.Consumer != nil {
		return nil
	}
	if err := s.Nats.NotConnected(); err != nil {
		return err // at once: a request would wait for the connection
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cfg := s.consumerConfig()
	// The ledger first: outcomes that are older tell that it was lost.
	entries := s.Cfg.Ledger()
	entries.Tail = s.tails
	entries.ForeignFunc = s.foreignEntry
	l, warnings, err := ledger.Open(ctx, telemetry.TracedJetStream{JetStream: s.Nats.JS}, entries)
	if err != nil {
		return err
	}
	more, err := consumer.EnsureStreams(ctx, s.Nats.JS, cfg)
	if err != nil {
		return err
	}
	warnings = append(warnings, more...)
	_, more, err = consumer.EnsureDurable(ctx, s.Nats.JS, cfg)
	if err != nil {
		return err
	}
	books := NewLedgerWatch(l, s.Log)
	books.look(ctx)
	if err := s.suspect(ctx, l); err != nil {
		return err
	}
	for _, w := range append(warnings, more...) {
		s.Log.Warn().Msg(w)
	}
	brake := operations.NewEmergencyStop(s.Nats.JS, cfg)
	brake.Refresh(ctx)
	fence := s.Cfg.NodeMessageExpiry + s.Cfg.NodeFenceMargin
	settings := consumer.NewSettingsMonitor(s.Nats.JS, cfg, fence)
	_ = settings.Verify(ctx) // it logs what is wrong, and holds sending
	rights := natsconn.NewRightsWatch(s.Nats.JS, s.Cfg, s.Log)
	rights.TryAll(ctx)
	gate := sendGate{brake, settings, l, s.Hold, s.assets, s.store, rights}
	settler := &settlement.Settler{
		Node: s.Node, Ledger: l, DeadLetters: deadletter.New(s.Nats.JS, cfg), EmergencyStop: gate, HoldFunc: gate.complete,
		Policies: s.Cfg.Policies, Limits: s.Cfg.Limits, MaxAttempts: s.Cfg.ConsumerMaxAttempts, FenceMargin: s.Cfg.NodeFenceMargin,
		TrustFunc: s.Cfg.TrustFunc(), ReplayFunc: deadletter.NewApprovals(s.Nats.JS, cfg).Approved,
	}
	s.Metrics.Expect(s.Cfg.Scenarios())
	s.Metrics.Foreign.Expect(s.Cfg.NATSPrefix)
	c, err := consumer.New(s.Nats.JS, s.Metrics.Observed(settler), cfg)
	if err != nil {
		return err
	}
	s.Mu.Lock()
	s.Consumer, s.Ledger, s.brake, s.settings, s.Books, s.Rights = c, l, brake, settings, books, rights
	s.Mu.Unlock()
	s.Metrics.Watch(telemetry.GaugeSources{
		Ready: s.Ready, Stopped: s.brake.Stopped, HeldCauses: heldCauses(), Held: s.Held, NatsConnected: s.Nats.IsConnected, Consumer: s.Consumer.Status,
		LedgerRemembered: s.Ledger.CachedBytes, Node: s.Node, Fence: s.Cfg.NodeMessageExpiry + s.Cfg.NodeFenceMargin, Js: s.Nats.JS, Prefix: s.Cfg.NATSPrefix,
	})
	s.noticeOutcomesSetBack(ctx)
	s.Metrics.Recent.Know(telemetry.LastClosed(ctx, s.Nats.JS, s.Cfg.NATSPrefix))
	s.Log.Info().Strs("scenarios", s.Cfg.Scenarios()).Int("limits", len(s.Cfg.Limits)).Int("outcome_signers", len(s.Cfg.TrustOutcomeSigners)).Str("node", config.WithoutPassword(s.Cfg.NodeURL)).Int("workers", s.Cfg.ConsumerWorkers).Msg("settling outcomes")
	return nil
}

// Ready says what is missing before outcomes can be settled; nil when an outcome that
// is published now would settle, as far as the last minute shows.
func (s *Service) Ready() error {
	s.Mu.Lock()
	c, brake, settings, books, waits := s.Consumer, s.brake, s.settings, s.Books, s.waits
	s.Mu.Unlock()
	switch {
	case !s.Nats.IsConnected():
		return s.Nats.NotConnected()
	case c == nil:
		if waits != nil {
			return fmt.Errorf("the streams are not verified yet: %w", waits)
		}
		return errors.New("the streams are not verified yet")
	}
	if err := s.store.problem(); err != nil {
		return err
	}
	if err := s.Node.Ready(); err != nil {
		return fmt.Errorf("ClearNode: %w", err)
	}
	if err := s.assets.Problem(); err != nil {
		return err
	}
	if err := books.ready(s.Node.Versioned()); err != nil {
		return err
	}
	if err := s.Hold.Err(); err != nil {
		return err
	}
	if err := settings.Problem(); err != nil {
		return err
	}
	if err := s.WriteRights().Problem(); err != nil {
		return err
	}
	if stop, err := brake.Active(); stop == nil && err != nil {
		return err
	}
	if err := c.Status().Err(); err != nil {
		return err
	}
	count, _ := s.Metrics.Waiting.Ages(time.Now())
	return s.Metrics.Recent.Problem(count, time.Now())
}

// standstill is after what time a loop that goes on every second counts as stuck.
const standstill = time.Minute

// alive is an error where the process cannot recover by itself and has to be
// restarted. What passes by itself is no reason.
func (s *Service) alive() error {
	s.Mu.Lock()
	c := s.Consumer
	s.Mu.Unlock()
	if c == nil {
		return nil
	}
	if beat := c.Status().Beat; !beat.IsZero() && time.Since(beat) > standstill {
		return fmt.Errorf("the loop that takes outcomes has stood still since %s: restart settled, and report this", beat.UTC().Format(time.RFC3339))
	}
	return nil
}

// Stopped is why nothing is sent although all is well: empty where nobody stopped it.
func (s *Service) Stopped() string {
	s.Mu.Lock()
	brake := s.brake
	s.Mu.Unlock()
	if brake == nil {
		return ""
	}
	stop, _ := brake.Active()
	if stop == nil {
		return ""
	}
	return host.StopText(stop)
}

// foreignEntry counts a message of the ledger that is not an entry.
func (s *Service) foreignEntry(f ledger.Foreign) {
	s.Metrics.Foreign.Found(ledger.StreamName(s.Cfg.NATSPrefix), f.Sequence, f)
}
