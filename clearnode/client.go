package clearnode

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"settled/settlement"
)

// Client is one ClearNode as settlement sees it. Its methods may be called from
// any goroutine, and do something only while Run runs.
type Client struct {
	cfg    Config
	pace   pace
	url    *url.URL
	log    zerolog.Logger
	began  time.Time
	clocks clocks
	pool   *pool
	login  *login
	prober *prober
	lines  []*line

	silences silences

	telling sync.Mutex // taken before all others
	mu      sync.Mutex
	running bool
	ran     bool
	node    *settlement.Address
	learned time.Time // when the address was learned; zero: it is pinned
	// generation and dialect are the configured ones, or those that were found.
	generation string
	dialect    dialect
	trouble    error                       // why the last connection failed or ended
	left       map[settlement.Address]bool // keys of ours that sign nothing: the node takes them for another wallet\'s
	ready      bool
	changed    chan struct{}
}

var _ settlement.Node = (*Client)(nil)

// New checks the configuration. It connects to nothing: Run does.
func New(cfg Config) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.filled()
	u, err := parseURL(cfg.URL)
	if err == nil && cfg.ReadOnly {
		cfg.Signers, err = stranger()
	}
	if err != nil {
		return nil, err
	}
	c := &Client{
		cfg: cfg, pace: cfg.pace, url: u, log: cfg.Log, began: time.Now(),
		silences: silences{patience: cfg.CosignPatience, timeout: cfg.CosignTimeout},
		pool:     newPool(), login: newLogin(cfg.pace), changed: make(chan struct{}),
	}
	if cfg.NodeAddress != nil {
		pinned := *cfg.NodeAddress
		c.node = &pinned
	}
	if cfg.Protocol != protocolAuto {
		c.generation, c.dialect = generation(cfg.Protocol), c.newDialect(cfg.Protocol)
	}
	c.clocks = clocks{keep: cfg.MessageExpiry + cfg.FenceMargin, limit: min(cfg.RequestValidity, cfg.FenceMargin) / 2}
	c.prober = newProber(c)
	for n := range cfg.Connections {
		c.lines = append(c.lines, &line{client: c, number: n + 1})
	}
	return c, nil
}

// Run owns the connections until the context ends, and returns nil when all its
// goroutines have ended. A client runs once.
func (c *Client) Run(ctx context.Context) error {
	c.mu.Lock()
	if c.ran {
		c.mu.Unlock()
		return errors.New("clearnode: Run was called before: make a new client")
	}
	c.ran, c.running = true, true
	c.mu.Unlock()
	c.pool.run(true)
	var running sync.WaitGroup
	for _, l := range c.lines {
		running.Go(func() { l.run(ctx) })
	}
	running.Go(func() { c.prober.run(ctx) })
	running.Go(func() {
		<-ctx.Done()
		c.pool.run(false) // who waits for a connection need not wait any longer
	})
	running.Wait()
	c.mu.Lock()
	c.running = false
	c.mu.Unlock()
	c.reconsider()
	return nil
}

// Ready is nil where a close can be prepared and sent: a connection is up and
// signed in, the node's address is known, and its message expiry was probed as
// configured. Otherwise it says what is missing and what to do.
func (c *Client) Ready() error {
	c.mu.Lock()
	running, trouble, node := c.running, c.trouble, c.node
	c.mu.Unlock()
	up, signed := c.pool.count()
	switch {
	case !running:
		return errors.New("clearnode: not running")
	case up == 0 && trouble != nil:
		return fmt.Errorf("clearnode: no connection to %s: %w; check clearnode.url and the node", publicURL(c.url), trouble)
	case up == 0:
		return fmt.Errorf("clearnode: connecting to %s", publicURL(c.url))
	case signed == 0 && c.login.refusal() != nil:
		return fmt.Errorf("clearnode: the node refuses to sign %s in: %w; check clearnode.key_files and the clocks, trying again", c.own(), c.login.refusal())
	case (node == nil || signed == 0) && trouble != nil:
		return fmt.Errorf("clearnode: signing in at %s; before that: %w", publicURL(c.url), trouble)
	case node == nil || signed == 0:
		return fmt.Errorf("clearnode: signing in at %s", publicURL(c.url))
	}
	if err := c.prober.state(); err != nil {
		return fmt.Errorf("clearnode: %w", err)
	}
	if apart := c.clocks.apart(); apart > 0 && !c.Versioned() {
		return fmt.Errorf("clearnode: the clocks behind %s differ by %s or more from connection to connection, so nothing is sent: run NTP (chrony, systemd-timesyncd) on every node behind that address, or set clearnode.url to one of them", publicURL(c.url), apart.Round(time.Millisecond))
	}
	return nil
}

// Changed is closed at the next change of readiness. Get it before asking Ready.
func (c *Client) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

// reconsider tells those who wait for Changed. One at a time: what was found out
// earlier must not be told later.
func (c *Client) reconsider() {
	c.telling.Lock()
	defer c.telling.Unlock()
	ready := c.Ready() == nil
	c.mu.Lock()
	defer c.mu.Unlock()
	if ready != c.ready {
		c.ready = ready
		close(c.changed)
		c.changed = make(chan struct{})
	}
}

// Address is the node's: whose signature answers must bear. False while it is
// neither pinned nor learned.
func (c *Client) Address() (settlement.Address, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.node == nil {
		return settlement.Address{}, false
	}
	return *c.node, true
}

// Connected is how many connections are up, signed in or not.
func (c *Client) Connected() int {
	up, _ := c.pool.count()
	return up
}

// Probed is nil where the node's message expiry was found as configured, or its
// generation has none; otherwise it says why not. Nothing is sent until it was.
func (c *Client) Probed() error { return c.prober.state() }

// verify holds an answer to the node's address, or learns that from it.
func (c *Client) verify(a answer) error {
	signer, err := recoverText(keccak([]byte(a.signed)), a.signature)
	if err != nil {
		return fmt.Errorf("an answer without the node's signature: %w", err)
	}
	return c.hold(signer)
}

// hold compares whoever answers with the node's address, or learns that.
func (c *Client) hold(answers settlement.Address) error {
	c.mu.Lock()
	learned := c.node == nil
	if learned {
		c.node, c.learned = &answers, time.Now()
	}
	held, since := *c.node, c.learned
	c.mu.Unlock()
	if learned {
		c.log.Info().Stringer("address", answers).Msg("the node's address is learned, and held from now on")
	}
	switch {
	case answers == held:
		return nil
	case since.IsZero():
		return fmt.Errorf("%s answers, but clearnode.node_address pins %s: where the node was replaced on purpose set clearnode.node_address to its new address and restart settled, else find out who answers at %s", answers, held, publicURL(c.url))
	default:
		return fmt.Errorf("%s answers, but %s was learned from the node's first answer at %s: where the node was replaced or restarted with another key on purpose restart settled, which then learns the new address, or set clearnode.node_address; else find out who answers at %s", answers, held, since.UTC().Format(time.RFC3339), publicURL(c.url))
	}
}

// troubled keeps why a connection ended, and logs it once in a row.
func (c *Client) troubled(line int, err error) {
	c.mu.Lock()
	again := c.trouble != nil && err != nil && c.trouble.Error() == err.Error()
	c.trouble = err
	c.mu.Unlock()
	level := zerolog.WarnLevel
	if again {
		level = zerolog.DebugLevel
	}
	c.log.WithLevel(level).Err(err).Int("connection", line).Msg("no connection: dialing again")
	c.reconsider()
}

// well forgets the last trouble: a connection signed in since.
func (c *Client) well() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trouble = nil
}

// setBackBy logs that the node's clock was set back. A little is ordinary: two
// clocks never run evenly.
func (c *Client) setBackBy(d time.Duration) {
	level := zerolog.DebugLevel
	if d >= time.Second {
		level = zerolog.WarnLevel
	}
	if d > 0 {
		c.log.WithLevel(level).Dur("by", d).Msg("the node's clock was set back")
	}
}

// clocksDiffer logs that the clocks behind the connections began or ceased to differ.
func (c *Client) clocksDiffer() {
	if apart := c.clocks.apart(); apart > 0 {
		c.log.Warn().Dur("by", apart).Msg("the clocks behind the node's address differ from connection to connection")
	} else {
		c.log.Info().Msg("the clocks behind the node's address agree again")
	}
	c.reconsider()
}

// nodeTime is the lower bound of the node's clock, or the local clock until that is known:
// for what may be stamped by any clock.
func (c *Client) nodeTime() time.Time {
	now := time.Now()
	if at, known := c.clocks.stamp(now); known {
		return at
	}
	return now
}

// leaveOut has a key of ours sign nothing any more.
func (c *Client) leaveOut(a settlement.Address) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left == nil {
		c.left = map[settlement.Address]bool{}
	}
	c.left[a] = true
}

// own is the account that signs in.
func (c *Client) own() settlement.Address { return c.cfg.Signers[0].Address() }

// report tells Config.CallFunc of a call that has ended.
func (c *Client) report(ctx context.Context, d framing, method string, since time.Time, a answer, err error) {
	if c.cfg.CallFunc != nil {
		c.cfg.CallFunc(ctx, method, callClass(d, method, a, err), time.Since(since))
	}
}
