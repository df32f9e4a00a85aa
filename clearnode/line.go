package clearnode

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// line keeps one place of the pool filled: it dials, signs in, watches over the
// connection, and dials again.
type line struct {
	client *Client
	number int
}

// errStopped is the cause of what ends because Run does.
var errStopped = errors.New("the client stops")

func (l *line) run(ctx context.Context) {
	for failures := 0; ctx.Err() == nil; failures++ {
		c, err := l.dial(ctx)
		if err == nil {
			err = l.serve(ctx, c)
			if c.verified.Load() {
				failures = 0
			}
		}
		if ctx.Err() != nil {
			return
		}
		l.client.troubled(l.number, err)
		pause(ctx, fullJitter(l.client.pace.redial, l.client.pace.redialMost, failures))
	}
}

// fullJitter is a random pause below a limit that doubles with each failure:
// many clients that lost one node don't come back in step.
func fullJitter(first, most time.Duration, failures int) time.Duration {
	limit := most
	if failures < 30 {
		limit = min(first<<failures, most)
	}
	return rand.N(limit) + 1 // #nosec G404 -- not a secret
}

// pause waits, unless the context ends first, which it reports.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (l *line) dial(ctx context.Context) (*conn, error) {
	cfg := &l.client.cfg
	ctx, cancel := context.WithTimeout(ctx, cfg.RequestTimeout)
	defer cancel()
	secured, err := cfg.tlsConfig()
	if err != nil {
		return nil, err
	}
	dialer := websocket.Dialer{HandshakeTimeout: cfg.RequestTimeout, Proxy: http.ProxyFromEnvironment, TLSClientConfig: secured}
	address, header := dialed(l.client.url)
	ws, response, err := dialer.DialContext(ctx, address, header)
	if err != nil {
		return nil, dialError(err, response)
	}
	ws.SetReadLimit(maxFrame)
	found, err := l.client.identify(ctx, ws)
	if err != nil {
		_ = ws.Close()
		return nil, err
	}
	d, err := l.client.speak(found)
	if err != nil {
		_ = ws.Close()
		return nil, err
	}
	return newConn(l, ws, d), nil
}

// dialed moves user info into a header: websocket addresses may not have it.
func dialed(u *url.URL) (string, http.Header) {
	bare := *u
	bare.User = nil
	header := http.Header{}
	if u.User != nil {
		password, _ := u.User.Password()
		header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password)))
	}
	return bare.String(), header
}

// serve runs a connection to its end, and says why it ended.
func (l *line) serve(ctx context.Context, c *conn) error {
	c.heard.Store(int64(time.Since(l.client.began)))
	var served sync.WaitGroup
	served.Go(c.read)
	served.Go(c.write)
	served.Go(func() {
		select {
		case <-ctx.Done():
			c.leave(errStopped)
		case <-c.gone:
		}
	})
	l.client.pool.add(c)
	l.client.reconsider()
	l.tend(ctx, c)
	l.client.pool.remove(c)
	l.client.reconsider()
	served.Wait()
	return c.cause
}

// tend signs the connection in, anew before the sign-in runs out and again when the
// node forgets it, and tries it when it is silent.
func (l *line) tend(ctx context.Context, c *conn) {
	ticks := time.NewTicker(l.client.pace.idle)
	defer ticks.Stop()
	enter := time.NewTimer(0)
	defer enter.Stop()
	if _, public := c.dialect.(*nitro); public && l.client.cfg.ReadOnly {
		enter.Stop() // its reads need no sign-in
	}
	for {
		select {
		case <-c.gone:
			return
		case <-c.lost:
			l.signedOut(c)
			enter.Reset(0)
		case <-enter.C:
			if again := l.enter(ctx, c); again > 0 {
				enter.Reset(again)
			}
		case <-ticks.C:
			l.keepAlive(ctx, c)
		case <-c.refresh:
			if err := c.dialect.ping(ctx, c); err != nil {
				l.client.log.Debug().Err(err).Int("connection", l.number).Msg("the node's clock is not read again")
			}
		}
	}
}

// enter signs in, and says when to do so again; 0: when the node demands it. A
// connection that is signed in goes on to be while it signs in anew, whatever comes
// of that: the node forgets the one sign-in only for the other.
func (l *line) enter(ctx context.Context, c *conn) (again time.Duration) {
	anew := l.client.pool.signedIn(c)
	err := c.dialect.signIn(ctx, c)
	var refused *loginRefused
	switch {
	case err == nil:
		if !anew {
			l.entered(c)
		}
		l.client.log.Info().Int("connection", l.number).Bool("anew", anew).Msg("signed in")
		again = l.client.login.renewIn()
	case errors.As(err, &refused):
		again = l.client.login.retryIn()
	case anew && !c.over(): // busy perhaps; whether it is dead keepAlive finds out
		again = l.client.pace.signInMost
	default:
		c.drop(fmt.Errorf("sign in: %w", err))
	}
	l.client.reconsider()
	return again
}

func (l *line) entered(c *conn) {
	c.found()
	l.client.pool.sign(c, true)
	l.client.prober.ask(c)
	l.client.well()
}

func (l *line) signedOut(c *conn) {
	l.client.pool.sign(c, false)
	if c.token != "" {
		l.client.login.discard(c.token) // it let us in, and didn't hold
	}
	l.client.log.Info().Int("connection", l.number).Msg("the node forgot the sign-in: signing in again")
	l.client.reconsider()
}

// keepAlive finds out whether a silent connection is dead. It also keeps what is
// known of the node's clock fresh.
func (l *line) keepAlive(ctx context.Context, c *conn) {
	if c.silence() < l.client.pace.idle {
		return
	}
	asked := c.heard.Load()
	if err := c.dialect.ping(ctx, c); err != nil && c.heard.Load() == asked && !errors.Is(err, errSignedOut) {
		c.drop(fmt.Errorf("silent: %w", err))
	}
}
