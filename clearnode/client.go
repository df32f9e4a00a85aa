package clearnode

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"settled/clearnode/internal/protocol"
	"settled/settlement"
)

// Client implements settlement.Node for one ClearNode. Its methods work only while Run is
// running, and may be called from any goroutine.
type Client struct {
	cfg        Config
	settings   protocol.Settings
	url        *url.URL
	log        zerolog.Logger
	began      time.Time
	clocks     clockSet
	pool       *pool
	limiter    *limiter
	minConns   int
	maxConns   int
	prober     *prober
	connectors []*connector
	silences   silences

	notifying sync.Mutex // acquired before all others
	mu        sync.Mutex
	running   bool
	ran       bool
	node      *settlement.Address
	learnedAt time.Time // when the address was learned; zero: it is pinned
	// generation and dialect are the configured ones, or those that were found.
	generation   string
	dialect      dialect
	lastError    error                       // why the last connection failed or ended
	disabledKeys map[settlement.Address]bool // keys of ours whose signatures the node attributes to another wallet
	ready        bool
	changed      chan struct{}
}

var (
	_ settlement.Node    = (*Client)(nil)
	_ settlement.Permits = (*Client)(nil)
)

// New checks the configuration. It does not connect; Run does.
func New(cfg Config) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	u, err := parseURL(cfg.URL)
	if err == nil && cfg.ReadOnly {
		cfg.Signers, err = throwawaySigner()
	}
	if err != nil {
		return nil, err
	}
	var replica [8]byte
	_, _ = rand.Read(replica[:]) // never fails
	c := &Client{
		cfg: cfg, url: u, log: cfg.Log, began: time.Now(),
		silences: silences{patience: cfg.CosignPatience, timeout: cfg.CosignTimeout},
		pool:     newPool(), changed: make(chan struct{}), disabledKeys: map[settlement.Address]bool{},
		clocks: clockSet{keep: cfg.MessageExpiry + cfg.FenceMargin, limit: min(cfg.RequestValidity, cfg.FenceMargin) / 2},
		settings: protocol.Settings{
			Protocol: cfg.Protocol, SessionKeyLife: cfg.SessionKeyLife, RequestTimeout: cfg.RequestTimeout, FenceMargin: cfg.FenceMargin,
			SecondRead: cfg.pace.secondRead, ChallengeEvery: cfg.pace.challenge,
			Login: protocol.NewLogin(cfg.pace.signIn, cfg.pace.signInMost, cfg.Log),
			// If two replicas used the same application name, a new session key of one would
			// invalidate that of the other (measured).
			Application: cfg.Application + "/" + hex.EncodeToString(replica[:]),
		},
	}
	for _, s := range cfg.Signers {
		c.settings.Signers = append(c.settings.Signers, s)
	}
	if cfg.NodeAddress != nil {
		pinned := *cfg.NodeAddress
		c.node = &pinned
	}
	if cfg.Protocol != protocolAuto {
		c.generation, c.dialect = generationOf(cfg.Protocol), c.newDialect(cfg.Protocol)
	}
	c.prober = newProber(c)
	c.minConns, c.maxConns, c.limiter = cfg.bounds()
	c.adaptConnections()
	for n := range c.maxConns {
		c.connectors = append(c.connectors, &connector{client: c, number: n + 1})
	}
	return c, nil
}

// Run owns the connections until the context ends, and returns nil when all its goroutines
// have ended. It can be called only once.
func (c *Client) Run(ctx context.Context) error {
	c.mu.Lock()
	if c.ran {
		c.mu.Unlock()
		return errors.New("clearnode: Run was called before: make a new client")
	}
	c.ran, c.running = true, true
	c.mu.Unlock()
	c.pool.setRunning(true)
	var running sync.WaitGroup
	for _, l := range c.connectors {
		running.Go(func() { l.run(ctx) })
	}
	running.Go(func() { c.prober.run(ctx) })
	running.Go(func() {
		<-ctx.Done()
		c.pool.setRunning(false) // ends every wait for a connection
	})
	running.Wait()
	c.mu.Lock()
	c.running = false
	c.mu.Unlock()
	c.notifyReadiness()
	return nil
}

// Ready returns nil if a close can be prepared and sent: a connection is up and signed in,
// the node's address is known, a probe confirmed the configured message expiry and no probe
// contradicts it, and, if requests expire, the clocks behind its connections agree. Otherwise
// it returns what is missing and what to do.
func (c *Client) Ready() error {
	c.mu.Lock()
	running, last, node := c.running, c.lastError, c.node
	c.mu.Unlock()
	up, signedIn := c.pool.count()
	refusal := c.settings.Login.Refusal()
	switch {
	case !running:
		return errors.New("clearnode: not running")
	case up == 0 && last != nil:
		return fmt.Errorf("clearnode: no connection to %s: %w; check clearnode.url and the node", publicURL(c.url), last)
	case up == 0:
		return fmt.Errorf("clearnode: connecting to %s", publicURL(c.url))
	case signedIn == 0 && refusal != nil:
		return fmt.Errorf("clearnode: the node refuses the sign-in of %s: %w; check clearnode.key_files and the clocks; settled keeps trying", c.account(), refusal)
	case (node == nil || signedIn == 0) && last != nil:
		return fmt.Errorf("clearnode: signing in at %s; the previous connection failed: %w", publicURL(c.url), last)
	case node == nil || signedIn == 0:
		return fmt.Errorf("clearnode: signing in at %s", publicURL(c.url))
	}
	if err := c.prober.state(); err != nil {
		return fmt.Errorf("clearnode: %w", err)
	}
	if apart := c.clocks.difference(); apart > 0 && !c.Versioned() {
		return fmt.Errorf("clearnode: the clocks of the nodes behind %s differ by at least %s, so nothing is sent: run NTP (chrony, systemd-timesyncd) on every node behind that address, or set clearnode.url to one of them", publicURL(c.url), apart.Round(time.Millisecond))
	}
	return nil
}

// Changed returns a channel that is closed at the next change of readiness. Call Changed
// before Ready, so that no change is missed.
func (c *Client) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

// notifyReadiness closes the channel of Changed if the readiness has changed. Calls are
// serialized, so that an older result never replaces a newer one.
func (c *Client) notifyReadiness() {
	c.notifying.Lock()
	defer c.notifying.Unlock()
	ready := c.Ready() == nil
	c.mu.Lock()
	defer c.mu.Unlock()
	if ready != c.ready {
		c.ready = ready
		close(c.changed)
		c.changed = make(chan struct{})
	}
}

// Address returns the address that signs the node's answers; false until it is pinned or
// learned.
func (c *Client) Address() (settlement.Address, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.node == nil {
		return settlement.Address{}, false
	}
	return *c.node, true
}

// Connected returns how many connections are up, signed in or not.
func (c *Client) Connected() int {
	up, _ := c.pool.count()
	return up
}

// Limit returns how many requests that move money may be in flight at this moment, how many
// have a permit, and how many wait for one.
func (c *Client) Limit() (limit, inFlight, queue int) { return c.limiter.load() }

// WantedConnections returns how many connections there should be at this moment.
func (c *Client) WantedConnections() int {
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	return c.pool.wanted
}

// adaptConnections adapts the number of connections to the limit. One more than the node
// closes sessions on keeps reads from waiting behind closes.
func (c *Client) adaptConnections() {
	limit, _, _ := c.limiter.load()
	c.pool.setWanted(min(max(limit+1, c.minConns), c.maxConns))
}

// Probed returns nil if a signed-in connection passed the probe and none failed it. If
// requests don't expire, every probe passes. Otherwise it returns why no close is sent.
func (c *Client) Probed() error { return c.prober.state() }

// verifyAddress checks that an answer comes from the node's address. If none is known, it
// learns this one.
func (c *Client) verifyAddress(answering settlement.Address) error {
	c.mu.Lock()
	learned := c.node == nil
	if learned {
		c.node, c.learnedAt = &answering, time.Now()
	}
	node, since := *c.node, c.learnedAt
	c.mu.Unlock()
	if learned {
		c.log.Info().Stringer("address", answering).Msg("learned the node's address: answers from any other address are refused from now on")
	}
	switch {
	case answering == node:
		return nil
	case since.IsZero():
		return fmt.Errorf("%s answers, but clearnode.node_address pins %s. If the node was replaced on purpose, set clearnode.node_address to its new address and restart settled. Otherwise find out who answers at %s", answering, node, publicURL(c.url))
	default:
		return fmt.Errorf("%s answers, but %s was learned from the node's first answer at %s. If the node was replaced or got another key on purpose, restart settled, which then learns the new address, or set clearnode.node_address. Otherwise find out who answers at %s", answering, node, since.UTC().Format(time.RFC3339), publicURL(c.url))
	}
}

// setLastError keeps why a connection ended; nil clears it, after a connection has signed in.
// It logs an error at warn level, and repeats of the same error at debug level.
func (c *Client) setLastError(connection int, err error) {
	c.mu.Lock()
	repeated := c.lastError != nil && err != nil && c.lastError.Error() == err.Error()
	c.lastError = err
	c.mu.Unlock()
	if err == nil {
		return
	}
	level := zerolog.WarnLevel
	if repeated {
		level = zerolog.DebugLevel
	}
	c.log.WithLevel(level).Err(err).Int("connection", connection).Msg("this connection failed: dialing again")
	c.notifyReadiness()
}

// nodeTime returns the lower bound of the node's clock. Until an answer has shown it,
// nodeTime returns the local clock.
func (c *Client) nodeTime() time.Time {
	now := time.Now()
	if at, known := c.clocks.stamp(now); known {
		return at
	}
	return now
}

// setBack is how much older than the node's clock the timestamp of a close is.
func (c *Client) setBack() time.Duration { return c.cfg.MessageExpiry - c.cfg.RequestValidity }

// account is the account that signs in.
func (c *Client) account() settlement.Address { return c.cfg.Signers[0].Address() }

// completeEvidence adds the node's URL and address to an answer's record.
func (c *Client) completeEvidence(e *settlement.NodeAnswer) {
	address, _ := c.Address() // known: the answer was verified against it
	e.URL, e.Address = publicURL(c.url), address.String()
}

// reportCall calls Config.CallFunc with a call that has ended.
func (c *Client) reportCall(ctx context.Context, d dialect, method string, since time.Time, a protocol.Answer, err error) {
	if c.cfg.CallFunc != nil {
		c.cfg.CallFunc(ctx, method, callClass(d, method, a, err), time.Since(since))
	}
}
