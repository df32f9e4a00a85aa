package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"settled/clearnode"
	"settled/consumer"
	"settled/settlement"
)

func (p *program) cosignCommand() *cobra.Command {
	return &cobra.Command{
		Use: "cosign", Short: "Sign what another party's settled proposes, where it is what this one would do",
		Long: "Answers requests for co-signatures of the keys in clearnode.key_files. For each it reads the outcome from\nthe stream and the session from the ClearNode itself, makes the plan by its own policies, and signs only\nwhat it would have done; otherwise it says why not. Run one for each key: see deploy/COSIGN.md.\nSIGTERM or Ctrl-C finishes what is in hand; a second one stops at once.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.runService(cmd, "settled cosign", func(cfg *config, log zerolog.Logger) error {
				return again(cmd.Context(), log, func() error {
					c := newCosigner(cfg, log)
					if p.json() {
						c.answeredFunc = func(a cosigned) { _ = p.printJSON(a) }
					}
					return c.serve(cmd.Context())
				})
			})
		},
	}
}

// cosigner is `settled cosign` while it runs.
type cosigner struct {
	cfg      *config
	log      zerolog.Logger
	metrics  *metrics
	nats     *natsLink
	stream   nats.JetStreamManager // reads outcomes; it asks for the message and for nothing else
	node     *clearnode.Client
	assets   *limitAssets
	fence    *cosignFence
	endorsed endorsements
	keys     []settlement.Address
	queue    chan cosignRequest

	telling      sync.Mutex
	answeredFunc func(cosigned) // told of each answer, one at a time; may be nil

	mu     sync.Mutex
	denied error // why NATS doesn't let us hear requests
}

func newCosigner(cfg *config, log zerolog.Logger) *cosigner {
	return &cosigner{
		cfg: cfg, log: log, metrics: newMetrics(log), queue: make(chan cosignRequest, cosignQueue),
		fence: newCosignFence(time.Now(), cfg.nodeExpiry+cfg.nodeMargin),
	}
}

// outcomesStream is where outcomes are read from: the other party's stream, or a
// mirror of it under a name of its own.
func (c *config) outcomesStream() string {
	if c.cosignStream != "" {
		return c.cosignStream
	}
	return consumer.OutcomesStream(c.natsPrefix)
}

// serve answers requests until ctx ends.
func (c *cosigner) serve(ctx context.Context) error {
	c.log.Info().Str("version", buildInfo().Version).Msg("settled cosign is starting")
	if err := c.open(); err != nil {
		return err
	}
	defer c.nats.close()
	http, err := listenHTTP(c.cfg.httpListen, routes(alwaysAlive, c.ready, neverStopped, c.metrics.registry), c.log)
	if err != nil {
		return err
	}
	defer http.close()
	return c.run(ctx)
}

// alwaysAlive: what a co-signer lacks passes by itself.
func alwaysAlive() error { return nil }

// neverStopped: a co-signer sends nothing.
func neverStopped() string { return "" }

// open makes the client for the node and the connection to NATS.
func (c *cosigner) open() error {
	cfg, err := c.cfg.nodeConfig(c.metrics)
	if err != nil {
		return err
	}
	if c.node, err = clearnode.New(cfg); err != nil {
		return err
	}
	c.assets = newLimitAssets(c.cfg.limits, c.node.Assets, c.log)
	c.cfg.logKeys(cfg, c.log)
	for _, s := range cfg.Signers {
		c.keys = append(c.keys, s.Address())
	}
	if c.nats, err = c.cfg.connect("settled cosign", true, natsNotices(c.log, func(*nats.Conn) {}, c.refused)...); err != nil {
		return err
	}
	var options []nats.JSOpt
	if c.cfg.natsDomain != "" {
		options = append(options, nats.Domain(c.cfg.natsDomain))
	}
	if c.stream, err = c.nats.JetStream(options...); err != nil {
		c.nats.close()
		return fmt.Errorf("JetStream: %w", err)
	}
	return nil
}

// refused notices that NATS doesn't let us subscribe.
func (c *cosigner) refused(sub *nats.Subscription, err error) {
	if sub == nil && strings.Contains(strings.ToLower(err.Error()), "subscription") || sub != nil && errors.Is(err, nats.ErrPermissionViolation) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.denied = err
	}
}

// run answers until ctx ends, then stops from the front to the back: no new
// requests, those in hand answered, then the node's connections.
func (c *cosigner) run(ctx context.Context) error {
	return besideNode(ctx, c.node, c.answerAll)
}

func (c *cosigner) answerAll(ctx context.Context) error {
	defer beside(ctx, c.assets.run)()
	working, stop := context.WithCancel(ctx)
	var workers sync.WaitGroup
	for range c.cfg.consumerWorkers {
		workers.Go(func() { c.work(working) })
	}
	defer workers.Wait()
	defer stop()
	for _, of := range c.keys {
		subject := cosignSubject(c.cfg.natsPrefix, of)
		sub, err := c.nats.Subscribe(subject, func(m *nats.Msg) { c.take(of, m) })
		if err != nil {
			return fmt.Errorf("subscribe to %s: %w", subject, err)
		}
		defer func() { _ = sub.Unsubscribe() }()
		c.log.Info().Str("subject", subject).Str("stream", c.cfg.outcomesStream()).Strs("scenarios", c.cfg.scenarios()).Msg("answering requests for co-signatures")
	}
	return c.nats.untilClosed(ctx)
}

// ready says what is missing before anything can be signed; nil when nothing is.
func (c *cosigner) ready() error {
	c.mu.Lock()
	denied := c.denied
	c.mu.Unlock()
	switch {
	case !c.nats.IsConnected():
		return c.nats.notConnected()
	case denied != nil:
		return fmt.Errorf("NATS refuses the subscription: %w", denied)
	}
	if err := c.node.Ready(); err != nil {
		return fmt.Errorf("ClearNode: %w", err)
	}
	return c.assets.problem()
}
