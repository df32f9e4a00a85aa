package clearnode

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/gorilla/websocket"

	"settled/clearnode/internal/protocol"
)

// maxFrame is how large a frame is read. A larger one costs the connection; no answer to a
// request of ours is nearly as large.
const maxFrame = 8<<20 + 64<<10

// connector keeps one place of the pool filled: it dials, signs in, supervises the
// connection, and dials again.
type connector struct {
	client *Client
	number int
}

func (l *connector) run(ctx context.Context) {
	for failures := 0; ctx.Err() == nil; failures++ {
		l.client.pool.awaitWanted(ctx, l)
		c, err := l.dial(ctx)
		if err == nil {
			wait := c.serve(ctx)
			l.client.notifyReadiness()
			l.supervise(ctx, c)
			l.client.pool.remove(c)
			l.client.notifyReadiness()
			wait()
			err = c.cause
			if c.verified.Load() {
				failures = 0
			}
		}
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, errRetired) {
			continue
		}
		l.client.setLastError(l.number, err)
		_ = protocol.Pause(ctx, protocol.FullJitter(l.client.cfg.pace.redial, l.client.cfg.pace.redialMost, failures))
	}
}

func (l *connector) dial(ctx context.Context) (*conn, error) {
	cfg := &l.client.cfg
	ctx, cancel := context.WithTimeout(ctx, cfg.RequestTimeout)
	defer cancel()
	tlsConfig, err := cfg.tlsConfig()
	if err != nil {
		return nil, err
	}
	dialer := websocket.Dialer{HandshakeTimeout: cfg.RequestTimeout, Proxy: http.ProxyFromEnvironment, TLSClientConfig: tlsConfig}
	address, header := splitUserInfo(l.client.url)
	ws, response, err := dialer.DialContext(ctx, address, header)
	if err != nil {
		return nil, dialError(err, response)
	}
	ws.SetReadLimit(maxFrame)
	var d dialect
	found, err := l.client.detectGeneration(ctx, ws)
	if err == nil {
		d, err = l.client.selectDialect(found)
	}
	if err != nil {
		_ = ws.Close()
		return nil, err
	}
	return newConn(l, ws, d), nil
}

// splitUserInfo moves user info into a header: websocket addresses may not have it.
func splitUserInfo(u *url.URL) (string, http.Header) {
	bare := *u
	bare.User = nil
	header := http.Header{}
	if u.User != nil {
		password, _ := u.User.Password()
		header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password)))
	}
	return bare.String(), header
}

// supervise signs the connection in, again before the sign-in expires and again when the
// node forgets it, and pings it when it is silent.
func (l *connector) supervise(ctx context.Context, c *conn) {
	client := l.client
	ticks := time.NewTicker(client.cfg.pace.idle)
	defer ticks.Stop()
	signIn := time.NewTimer(0)
	defer signIn.Stop()
	if client.cfg.ReadOnly && c.dialect.Traits().PublicReads {
		signIn.Stop()
	}
	for {
		select {
		case <-c.done:
			return
		case <-c.signedOut:
			client.pool.setSignedIn(c, false)
			if c.token != "" {
				client.settings.Login.Discard(c.token)
			}
			client.log.Info().Int("connection", l.number).Msg("the node forgot the sign-in: signing in again")
			client.notifyReadiness()
			signIn.Reset(0)
		case <-signIn.C:
			if again := l.signIn(ctx, c); again > 0 {
				signIn.Reset(again)
			}
		case <-ticks.C:
			if client.pool.retire(c) {
				c.Drop(errRetired)
				return
			}
			l.keepAlive(ctx, c)
		case <-c.refresh:
			if err := c.dialect.Ping(ctx, c); err != nil {
				client.log.Debug().Err(err).Int("connection", l.number).Msg("the node's clock is not read again")
			}
		}
	}
}

// signIn signs in, and returns when to do so again; 0: when the node demands it. A
// connection that is signed in remains so while it signs in again, whatever the result: the
// node forgets the former sign-in only for the new one.
func (l *connector) signIn(ctx context.Context, c *conn) (again time.Duration) {
	client := l.client
	renewal := c.SignedIn()
	err := c.dialect.SignIn(ctx, c)
	var refused *protocol.LoginRefused
	switch {
	case err == nil:
		if !renewal {
			select {
			case <-c.signedOut: // of before this sign-in
			default:
			}
			client.pool.setSignedIn(c, true)
			client.prober.request(c)
			client.setLastError(l.number, nil)
		}
		client.log.Info().Int("connection", l.number).Bool("anew", renewal).Msg("signed in")
		again = client.settings.Login.RenewIn()
	case errors.As(err, &refused):
		again = client.settings.Login.RetryIn()
	case renewal && !c.ended(): // busy perhaps; keepAlive finds out whether it is dead
		again = client.cfg.pace.signInMost
	default:
		c.Drop(fmt.Errorf("sign in: %w", err))
	}
	client.notifyReadiness()
	return again
}

// errRetired is the cause of a connection's end when it is not needed any more.
var errRetired = errors.New("fewer connections are needed")

// keepAlive finds out whether a silent connection is dead. It also keeps what is known of
// the node's clock fresh.
func (l *connector) keepAlive(ctx context.Context, c *conn) {
	heard := c.heardAt.Load()
	if time.Since(l.client.began)-time.Duration(heard) < l.client.cfg.pace.idle {
		return
	}
	if err := c.dialect.Ping(ctx, c); err != nil && c.heardAt.Load() == heard && !errors.Is(err, protocol.ErrSignedOut) {
		c.Drop(fmt.Errorf("silent: %w", err))
	}
}
