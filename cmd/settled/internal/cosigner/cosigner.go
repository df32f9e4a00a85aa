package cosigner

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"settled/clearnode"
	"settled/cmd/settled/dashboard"
	"settled/cmd/settled/internal/background"
	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/host"
	"settled/cmd/settled/internal/natsconn"
	"settled/cmd/settled/internal/telemetry"
	"settled/settlement"
)

// Cosigner is `settled cosign` while it runs.
type Cosigner struct {
	cfg       *config.Config
	log       zerolog.Logger
	metrics   *telemetry.Metrics
	Nats      *natsconn.Link
	node      *clearnode.Client
	assets    *host.LimitAssets
	Fence     *cosignFence
	approvals approvals
	keys      []settlement.Address
	queue     chan cosignRequest

	answeredMu   sync.Mutex
	AnsweredFunc func(Result) // called with each answer, one at a time; may be nil

	mu           sync.Mutex
	subscribeErr error // why NATS denies a subscription
}

func New(cfg *config.Config, log zerolog.Logger) *Cosigner {
	return &Cosigner{
		cfg: cfg, log: log, metrics: telemetry.New(log), queue: make(chan cosignRequest, cosignQueue), approvals: newApprovals(),
		Fence: NewCosignFence(time.Now(), cfg.NodeMessageExpiry+cfg.NodeFenceMargin),
	}
}

// Serve answers requests until ctx ends.
func (c *Cosigner) Serve(ctx context.Context) error {
	c.log.Info().Str("version", telemetry.Build().Version).Msg("settled cosign is starting")
	if err := c.Open(); err != nil {
		return err
	}
	defer c.Nats.Shutdown()
	http, err := host.ListenHTTP(c.cfg.HTTPListen, dashboard.NewHandler(dashboard.Probes{Ready: c.Ready, Registry: c.metrics.Registry}, nil), c.log)
	if err != nil {
		return err
	}
	defer http.Close()
	return c.Run(ctx)
}

// Open creates the client for the node and the connection to NATS.
func (c *Cosigner) Open() error {
	cfg, err := c.cfg.Node()
	if err != nil {
		return err
	}
	cfg.Connections = c.cfg.MostNodeConnections() // the number adapts to closes, and it sends none
	c.metrics.ObserveNode(&cfg)
	if c.node, err = clearnode.New(cfg); err != nil {
		return err
	}
	c.assets = host.NewLimitAssets(c.cfg.Limits, c.node.Assets, c.log)
	host.LogKeys(c.cfg, cfg, c.log)
	for _, s := range cfg.Signers {
		c.keys = append(c.keys, s.Address())
	}
	c.Nats, err = natsconn.Connect(c.cfg, "settled cosign", true, natsconn.Notices(c.log, func(*nats.Conn) {}, c.handleNATSError)...)
	return err
}

// handleNATSError records that NATS denies a subscription.
func (c *Cosigner) handleNATSError(sub *nats.Subscription, err error) {
	if sub == nil && strings.Contains(strings.ToLower(err.Error()), "subscription") || sub != nil && errors.Is(err, nats.ErrPermissionViolation) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.subscribeErr = err
	}
}

// Run answers requests until ctx ends. Then it accepts no more, answers those in progress,
// and closes the node's connections.
func (c *Cosigner) Run(ctx context.Context) error {
	return host.WithNode(ctx, c.node, c.answerAll)
}

func (c *Cosigner) answerAll(ctx context.Context) error {
	defer background.Run(ctx, c.assets.Run)()
	working, stop := context.WithCancel(ctx)
	var workers sync.WaitGroup
	for range c.cfg.ConsumerWorkers {
		workers.Go(func() { c.runWorker(working) })
	}
	defer workers.Wait()
	defer stop()
	for _, of := range c.keys {
		subject := Subject(c.cfg.NATSPrefix, of)
		sub, err := c.Nats.Subscribe(subject, func(m *nats.Msg) { c.enqueue(of, m) })
		if err != nil {
			return fmt.Errorf("subscribe to %s: %w", subject, err)
		}
		defer func() { _ = sub.Unsubscribe() }()
		c.log.Info().Str("subject", subject).Str("stream", c.cfg.OutcomesStream()).Strs("scenarios", c.cfg.Scenarios()).Msg("answering requests for co-signatures")
	}
	return c.Nats.WaitClosed(ctx)
}

// Ready returns why nothing can be signed; nil: it can.
func (c *Cosigner) Ready() error {
	c.mu.Lock()
	denied := c.subscribeErr
	c.mu.Unlock()
	switch {
	case !c.Nats.IsConnected():
		return c.Nats.ConnectionError()
	case denied != nil:
		return fmt.Errorf("NATS refuses the subscription: %w", denied)
	}
	if err := c.node.Ready(); err != nil {
		return fmt.Errorf("ClearNode: %w", err)
	}
	return c.assets.Problem()
}
