package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"settled/clearnode"
	"settled/consumer"
	"settled/ledger"
	"settled/settlement"
)

func (p *program) serveCommand() *cobra.Command {
	var embedded, afterRestore bool
	c := &cobra.Command{
		Use: "serve", Short: "Settle outcomes until stopped",
		Long: "Takes outcomes from NATS JetStream, closes their sessions at the ClearNode, and records the results.\nAny number of replicas share the work. SIGTERM or Ctrl-C finishes what is in hand and stops within 15 s;\na second one stops at once.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.runService(cmd, "settled", func(cfg *config, log zerolog.Logger) error {
				cfg.embedded, cfg.afterRestore = cfg.embedded || embedded, afterRestore
				return serve(cmd.Context(), cfg, log)
			})
		},
	}
	c.Flags().BoolVar(&embedded, "embedded", false, "run on a JetStream server inside this process (embedded.enabled)")
	c.Flags().BoolVar(&afterRestore, "after-restore", false, "NATS was restored from a copy: send nothing for message_expiry plus fence_margin, until what the copy doesn't know of has expired")
	return c
}

// consumerConfig is the configuration of the consumer and of the streams it
// makes; with a service's parts wired in where there is one.
func (c *config) consumerConfig(s *service) consumer.Config {
	cfg := consumer.Config{
		Prefix: c.natsPrefix, Replicas: c.natsReplicas, ManageStreams: c.natsManageStreams,
		MaxBytes: consumer.MaxBytes{
			Outcomes: int64(c.natsMaxBytes.outcomes), DeadLetters: int64(c.natsMaxBytes.deadletters), Operations: int64(c.natsMaxBytes.operations),
		},
		Durable: c.consumerDurable, Workers: c.consumerWorkers, AckWait: c.consumerAckWait,
		BackoffInitial: c.consumerBackoff, BackoffMax: c.consumerBackoffM,
	}
	if s != nil {
		cfg.Ready, cfg.Changed = s.mayFetch, s.node.Changed
		cfg.Log, cfg.ResultFunc, cfg.BeginFunc = s.metrics.log, s.metrics.result, s.metrics.begin(cfg.Durable)
		cfg.TrustFunc = c.trust()
		cfg.ForeignFunc = func(f consumer.Foreign) { s.metrics.foreign.found(f.Stream, f.Sequence, f) }
	}
	return cfg
}

// mayFetch is nil where an outcome that is fetched now could be settled, as far as the node,
// the limits and an embedded server's store go.
func (s *service) mayFetch() error {
	if err := s.node.Ready(); err != nil {
		return err
	}
	if err := s.store.problem(); err != nil {
		return err
	}
	return s.assets.problem()
}

func (c *config) ledgerConfig() ledger.Config {
	return ledger.Config{Prefix: c.natsPrefix, Replicas: c.natsReplicas, Create: c.natsManageStreams, MaxBytes: int64(c.natsMaxBytes.settlements), Fence: c.nodeExpiry + c.nodeMargin}
}

// service is `settled serve` while it runs.
type service struct {
	cfg     *config
	log     zerolog.Logger
	metrics *metrics
	nats    *natsLink
	node    *clearnode.Client
	own     []settlement.Address // the accounts that it signs for
	assets  *limitAssets
	http    *httpServer
	hold    *sendHold
	tails   *tailFiles
	store   *storeWatch // of the embedded server; nil without one
	rights  *rightsWatch

	doubt    string // why the embedded server's store may have been set back
	doubtOld bool   // only its age speaks for it

	mu       sync.Mutex
	consumer *consumer.Consumer // nil until the streams are there
	ledger   *ledger.Ledger
	brake    *consumer.Brake
	settings *consumer.Settings
	books    *ledgerWatch
	waits    error // why the streams are not there yet, as the last try told
}

// runService runs a command that goes on until it is stopped, and logs how it ended:
// at level error where it could not start or go on.
func (p *program) runService(cmd *cobra.Command, name string, run func(*config, zerolog.Logger) error) error {
	cfg, warnings, err := p.load(cmd)
	log, logErr := cfg.newLog(p.stderr)
	if logErr != nil {
		cfg.logLevel = "info" // the error is to be logged all the same
		log, _ = cfg.newLog(p.stderr)
	}
	for _, w := range warnings {
		log.Warn().Msg(w)
	}
	if err = cmp.Or(err, logErr); err == nil {
		err = run(&cfg, log)
	}
	if err != nil {
		log.Error().Err(err).Msg(name + " ends with an error")
		return err
	}
	log.Info().Msg(name + " has stopped")
	return nil
}

// serve runs the configured service until ctx ends. Where the connection to NATS was
// closed for good it starts again on a new one.
func serve(ctx context.Context, cfg *config, log zerolog.Logger) error {
	if _, err := cfg.checkService(); err != nil {
		return err
	}
	return again(ctx, log, func() error { return serveOnce(ctx, cfg, log) })
}

// againAfter is after what time a service whose connection was closed starts again.
const againAfter = time.Second

// again runs a service until it ends for another reason than that the connection to
// NATS was closed for good, or that the embedded server has to be started again. The client library does that for errors of the server
// that it doesn't know, and for commands that are too long. All that stands on the
// connection is made again with it, as by a restart of the process.
func again(ctx context.Context, log zerolog.Logger, run func() error) error {
	for {
		err := run()
		if ctx.Err() != nil || !errors.Is(err, consumer.ErrClosed) && !errors.Is(err, errStoreFailed) {
			return err
		}
		log.Error().Err(err).Msg("starting again on a new connection to NATS")
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(againAfter):
		}
	}
}

func serveOnce(ctx context.Context, cfg *config, log zerolog.Logger) error {
	s := &service{cfg: cfg, log: log, metrics: newMetrics(log)}
	s.remember()
	log.Info().Str("version", buildInfo().Version).Msg("settled is starting")
	defer s.metrics.startTracing(ctx)()
	node, err := cfg.nodeConfig(s.metrics)
	if err != nil {
		return err
	}
	cfg.logKeys(node, log)
	if err := s.connect(ctx); err != nil || s.nats == nil {
		return err
	}
	if cfg.embedded {
		defer s.keepStoreRecord()() // after the server has ended
	}
	defer s.nats.close()
	if err := s.useNode(node); err != nil {
		return err
	}
	if s.http, err = s.listenHTTP(); err != nil {
		return err
	}
	defer s.http.close()
	if !cfg.embedded {
		return s.run(ctx)
	}
	running, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	defer beside(running, func(ctx context.Context) { s.store.run(ctx, fail) })()
	err = s.run(running)
	if cause := context.Cause(running); errors.Is(cause, errStoreFailed) {
		return cause
	}
	return err
}

// run settles until ctx ends, then stops from the front to the back: no new
// outcomes, those in hand finished, then the node's connections.
func (s *service) run(ctx context.Context) error {
	s.remember()
	return besideNode(ctx, s.node, s.settle)
}

// useNode makes the client for the node. Where our keys don't reach a session's
// quorum, the others' are asked for over this service's NATS.
func (s *service) useNode(cfg clearnode.Config) error {
	for _, signer := range cfg.Signers {
		s.own = append(s.own, signer.Address())
	}
	if s.cfg.cosignEnabled {
		cfg.Cosigners = &cosigners{nc: s.nats.Conn, prefix: s.cfg.natsPrefix, log: s.log, asked: s.metrics.asked, hold: newCosignHold(s.cfg)}
	}
	var err error
	if s.node, err = clearnode.New(cfg); err != nil {
		return err
	}
	s.assets = newLimitAssets(s.cfg.limits, s.node.Assets, s.log)
	return nil
}

// connect connects to NATS. A disk that is too full for the embedded server to start is
// waited for; where ctx ends meanwhile there is no connection, and no error.
func (s *service) connect(ctx context.Context) error {
	var told consumer.Reminder
	for {
		err := s.connectOnce()
		if !s.cfg.embedded || !diskFull(err) {
			return err
		}
		if told.Due(err.Error(), time.Now()) {
			s.log.Error().Err(err).Msg("waiting for space on the disk of embedded.store_dir")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

func (s *service) connectOnce() error {
	options := natsNotices(s.log, func(*nats.Conn) { s.reconnected() }, func(_ *nats.Subscription, err error) { s.writeRights().failed(err) })
	var err error
	if s.cfg.embedded {
		s.doubt, s.doubtOld = storeDoubt(s.cfg.embeddedStoreDir, time.Now())
		s.nats, err = s.cfg.connectEmbedded("settled", true, options...)
	} else {
		s.nats, err = s.cfg.connect("settled", true, options...)
	}
	if err == nil && s.cfg.embedded {
		s.store = newStoreWatch(s.nats.embedded, s.cfg.embeddedStoreDir, s.log)
		s.log.Info().Str("url", s.nats.embedded.ClientURL()).Str("store", s.cfg.embeddedStoreDir).Msg("embedded JetStream is up")
	}
	return err
}

// reconnected makes what is known of the streams count for nothing until it was read
// again: a server restored from an older copy would have lost intents whose requests
// may still land. It runs in the client library's callback, which must not block; the
// reading is done beside it.
func (s *service) reconnected() {
	s.mu.Lock()
	l, brake, settings, books, rights := s.ledger, s.brake, s.settings, s.books, s.rights
	s.mu.Unlock()
	if l == nil {
		return
	}
	rights.hurry()
	brake.Forget()
	settings.Forget()
	l.Reconnected()
	books.hurry()
}

// writeRights watches what the service may write; nil before it has a connection.
func (s *service) writeRights() *rightsWatch {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rights
}

// settle makes or verifies the streams and consumes until ctx ends.
func (s *service) settle(ctx context.Context) error {
	var told consumer.Reminder
	if err := retry(ctx, func() error { return s.build(ctx) }, func(err error) {
		if told.Due(err.Error(), time.Now()) {
			s.log.Warn().Err(err).Msg("waiting for NATS and the streams")
		}
		s.mu.Lock()
		s.waits = err
		s.mu.Unlock()
	}); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	s.mu.Lock()
	c, brake, settings, books := s.consumer, s.brake, s.settings, s.books
	s.mu.Unlock()
	// Outcomes in hand ask these two as long as they are, also when ctx has ended.
	defer beside(context.WithoutCancel(ctx), brake.Run)()
	defer beside(context.WithoutCancel(ctx), func(ctx context.Context) { settings.Run(ctx, books.hurry) })()
	defer beside(ctx, books.run)()
	defer beside(ctx, s.writeRights().run)()
	defer beside(ctx, s.assets.run)()
	defer beside(ctx, newReconciler(s).run)()
	defer beside(ctx, func(ctx context.Context) { s.metrics.recent.watch(ctx, s.node, s.log) })()
	return c.Run(ctx)
}

// beside runs something in a goroutine of its own, until ctx ends or stop is called,
// which waits for it.
func beside(ctx context.Context, run func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		run(ctx)
	}()
	return func() { cancel(); <-done }
}

// within calls stop and reports whether it returned in time.
func within(most time.Duration, stop func()) bool {
	done := make(chan struct{})
	go func() {
		defer close(done)
		stop()
	}()
	select {
	case <-done:
		return true
	case <-time.After(most):
		return false
	}
}

func (s *service) build(ctx context.Context) error { return withLimitAdvice(s.openStreams(ctx)) }

// openStreams makes or verifies the streams, and what works on them.
func (s *service) openStreams(ctx context.Context) error {
	if s.consumer != nil {
		return nil
	}
	if err := s.nats.notConnected(); err != nil {
		return err // at once: a request would wait for the connection
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cfg := s.cfg.consumerConfig(s)
	// The ledger first: outcomes that are older tell that it was lost.
	entries := s.cfg.ledgerConfig()
	entries.Tail = s.tails
	entries.ForeignFunc = s.foreignEntry
	l, warnings, err := ledger.Open(ctx, tracedJetStream{s.nats.js}, entries)
	if err != nil {
		return err
	}
	more, err := consumer.EnsureStreams(ctx, s.nats.js, cfg)
	if err != nil {
		return err
	}
	warnings = append(warnings, more...)
	_, more, err = consumer.EnsureDurable(ctx, s.nats.js, cfg)
	if err != nil {
		return err
	}
	books := newLedgerWatch(l, s.log)
	books.look(ctx)
	if err := s.suspect(ctx, l); err != nil {
		return err
	}
	for _, w := range append(warnings, more...) {
		s.log.Warn().Msg(w)
	}
	brake := consumer.NewBrake(s.nats.js, cfg)
	brake.Look(ctx)
	fence := s.cfg.nodeExpiry + s.cfg.nodeMargin
	settings := consumer.NewSettings(s.nats.js, cfg, fence)
	_ = settings.Verify(ctx) // it logs what is wrong, and holds sending
	rights := newRightsWatch(s.nats.js, s.cfg, s.log)
	rights.tryAll(ctx)
	gate := sendGate{brake, settings, l, s.hold, s.assets, s.store, rights}
	settler := &settlement.Settler{
		Node: s.node, Ledger: l, DeadLetters: consumer.NewDeadLetters(s.nats.js, cfg), Brake: gate, HoldFunc: gate.complete,
		Policies: s.cfg.policies, Limits: s.cfg.limits, MaxAttempts: s.cfg.consumerMaxAttempts, FenceMargin: s.cfg.nodeMargin,
		TrustFunc: s.cfg.trust(), ReplayFunc: consumer.NewApprovals(s.nats.js, cfg).Approved,
	}
	s.metrics.expect(s.cfg.scenarios())
	s.metrics.foreign.expect(s.cfg.natsPrefix)
	c, err := consumer.New(s.nats.js, s.metrics.observed(settler), cfg)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.consumer, s.ledger, s.brake, s.settings, s.books, s.rights = c, l, brake, settings, books, rights
	s.mu.Unlock()
	s.metrics.watch(s)
	s.noticeOutcomesSetBack(ctx)
	s.metrics.recent.know(lastClosed(ctx, s.nats.js, s.cfg.natsPrefix))
	s.log.Info().Strs("scenarios", s.cfg.scenarios()).Int("limits", len(s.cfg.limits)).Int("outcome_signers", len(s.cfg.trustSigners)).Str("node", withoutPassword(s.cfg.nodeURL)).Int("workers", s.cfg.consumerWorkers).Msg("settling outcomes")
	return nil
}

// ready says what is missing before outcomes can be settled; nil when an outcome that
// is published now would settle, as far as the last minute shows.
func (s *service) ready() error {
	s.mu.Lock()
	c, brake, settings, books, waits := s.consumer, s.brake, s.settings, s.books, s.waits
	s.mu.Unlock()
	switch {
	case !s.nats.IsConnected():
		return s.nats.notConnected()
	case c == nil:
		if waits != nil {
			return fmt.Errorf("the streams are not verified yet: %w", waits)
		}
		return errors.New("the streams are not verified yet")
	}
	if err := s.store.problem(); err != nil {
		return err
	}
	if err := s.node.Ready(); err != nil {
		return fmt.Errorf("ClearNode: %w", err)
	}
	if err := s.assets.problem(); err != nil {
		return err
	}
	if err := books.ready(s.node.Versioned()); err != nil {
		return err
	}
	if err := s.hold.err(); err != nil {
		return err
	}
	if err := settings.Problem(); err != nil {
		return err
	}
	if err := s.writeRights().problem(); err != nil {
		return err
	}
	if stop, err := brake.Standing(); stop == nil && err != nil {
		return err
	}
	if err := c.Status().Err(); err != nil {
		return err
	}
	count, _ := s.metrics.waiting.ages(time.Now())
	return s.metrics.recent.problem(count, time.Now())
}

// standstill is after what time a loop that goes on every second counts as stuck.
const standstill = time.Minute

// alive is an error where the process cannot recover by itself and has to be
// restarted. What passes by itself is no reason.
func (s *service) alive() error {
	s.mu.Lock()
	c := s.consumer
	s.mu.Unlock()
	if c == nil {
		return nil
	}
	if beat := c.Status().Beat; !beat.IsZero() && time.Since(beat) > standstill {
		return fmt.Errorf("the loop that takes outcomes has stood still since %s: restart settled, and report this", beat.UTC().Format(time.RFC3339))
	}
	return nil
}

// stopped is why nothing is sent although all is well: empty where nobody stopped it.
func (s *service) stopped() string {
	s.mu.Lock()
	brake := s.brake
	s.mu.Unlock()
	if brake == nil {
		return ""
	}
	stop, _ := brake.Standing()
	if stop == nil {
		return ""
	}
	return stopText(stop)
}
