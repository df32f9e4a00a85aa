package clearnode

import (
	"context"
	"crypto/ecdsa"
	"slices"
	"testing"
	"time"

	"settled/clearnode/internal/nitronode"
	"settled/clearnode/internal/nitrorpc"
	"settled/clearnode/internal/protocol"
	"settled/settlement"
)

// Quick makes the client do at once what it does slowly in production.
func (c Config) Quick() Config {
	c.pace = pace{
		challenge: time.Millisecond,
		redial:    time.Millisecond, redialMost: 20 * time.Millisecond,
		signIn: time.Millisecond, signInMost: 20 * time.Millisecond,
		idle: time.Hour, secondRead: 5 * time.Millisecond,
		probeGap: time.Millisecond, probeEvery: time.Hour,
	}
	return c
}

// Idle sets the silence after which a connection is tried.
func (c Config) Idle(d time.Duration) Config {
	c.pace.idle = d
	return c
}

// SecondLook sets the time between two looks.
func (c Config) SecondLook(d time.Duration) Config {
	c.pace.secondRead = d
	return c
}

// ProbeEvery sets how often every connection is probed.
func (c Config) ProbeEvery(d time.Duration) Config {
	c.pace.probeEvery = d
	return c
}

// ProbeGap sets the least time between two probes of what was probed before.
func (c Config) ProbeGap(d time.Duration) Config {
	c.pace.probeGap = d
	return c
}

// Fit is on how many connections a close may be sent.
func (c *Client) Fit() (n int) {
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	for _, k := range c.pool.conns {
		if k.canSend() {
			n++
		}
	}
	return n
}

// SetLimit sets how many requests may be in flight.
func (c *Client) SetLimit(n int) {
	c.limiter.mu.Lock()
	c.limiter.limit = n
	c.limiter.mu.Unlock()
	c.adaptConnections()
}

// KeySigner signs with a key in memory.
func KeySigner(k *ecdsa.PrivateKey) Signer { return newKey(k) }

// Token is the shared token, to see that it isn't shown.
func (c *Client) Token() string { return c.settings.Login.Token(false) }

// SpoilToken puts another one in its place.
func (c *Client) SpoilToken(text string) { c.settings.Login.Replace(text, time.Hour) }

// Call makes a request signed by anybody, over a connection of the client's.
func (c *Client) Call(ctx context.Context, method string, params any, signers ...Signer) error {
	k, err := c.pool.lease(ctx, true, 1)
	if err != nil {
		return err
	}
	defer c.pool.release(k, 1)
	id := protocol.NextID()
	req, err := protocol.Compact(method, id, method, params, protocol.Millis(c.nodeTime()))
	if err != nil {
		return err
	}
	var sigs []string
	for _, s := range signers {
		sig, err := protocol.SignHex(ctx, s, protocol.Keccak(req))
		if err != nil {
			return err
		}
		sigs = append(sigs, sig)
	}
	answers, err := k.RoundTrip(ctx, protocol.Request{ID: id, Method: method, Frame: nitrorpc.Envelope(req, sigs...)})
	if err != nil {
		return err
	}
	var result any
	return answers[0].Decode(method, &result)
}

// BoundLists sets how far back wallets' transactions are looked at, until the test ends.
func BoundLists(t interface{ Cleanup(func()) }, rows int) {
	before := nitronode.MaxListRows
	nitronode.MaxListRows = rows
	t.Cleanup(func() { nitronode.MaxListRows = before })
}

// BoundKeystores lowers what a keystore may ask of this machine, until the test ends.
func BoundKeystores(t testing.TB, scryptWork, rounds int64) {
	work, most := maxScryptWork, maxRounds
	maxScryptWork, maxRounds = scryptWork, rounds
	t.Cleanup(func() { maxScryptWork, maxRounds = work, most })
}

// Crowd puts so many requests in the queue of every connection that another one's
// turn comes in two minutes, until leave is called.
func (c *Client) Crowd() (leave func()) {
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	conns := slices.Clone(c.pool.conns)
	for _, k := range conns {
		k.throttle.queued.Add(int64(120 * c.cfg.RateLimit))
	}
	return func() {
		for _, k := range conns {
			k.throttle.queued.Add(-int64(120 * c.cfg.RateLimit))
		}
	}
}

// SignInAs signs any account in on a connection of the client's, with any session key.
func (c *Client) SignInAs(ctx context.Context, s Signer, sessionKey settlement.Address, application string, expires time.Time) error {
	k, err := c.pool.lease(ctx, true, 1)
	if err != nil {
		return err
	}
	defer c.pool.release(k, 1)
	_, err = nitrorpc.New(dialectHost{c}, &c.settings).RegisterSessionKey(ctx, k, s, application, sessionKey, expires)
	return err
}

// RenewalDue reports whether it is time for another token.
func (c *Client) RenewalDue() bool { return c.settings.Login.Token(true) == "" }
