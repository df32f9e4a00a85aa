package natsconn

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"settled/consumer"
)

const (
	// noticeAgain is after what time a condition of the connection that lasts is
	// logged again.
	noticeAgain = time.Minute
	// subscribeAgain is how long after the server refused a subscription because of its
	// limit the client reconnects, which repeats every subscription.
	subscribeAgain = 15 * time.Second
)

// connectionLog logs the state of a connection to NATS: what begins at once, what
// lasts once a minute. The client library reports a refusal at each attempt.
type connectionLog struct {
	log zerolog.Logger

	mu   sync.Mutex
	next map[string]time.Time // when a text may be logged again
	away bool
	soon bool // a reconnection is scheduled
}

// Notices logs what happens to a service's connection, and reports it to the
// service. The functions run in the client library's callbacks and must not block.
func Notices(log zerolog.Logger, reconnected func(*nats.Conn), failed func(*nats.Subscription, error)) []nats.Option {
	c := &connectionLog{log: log, next: map[string]time.Time{}}
	return []nats.Option{
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				c.lost(err, "NATS is away")
			}
		}),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { c.lost(err, "NATS can't be reached: "+ConnectAdvice(err)) }),
		nats.ConnectHandler(c.back),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			c.back(nc)
			reconnected(nc)
		}),
		nats.ErrorHandler(func(nc *nats.Conn, sub *nats.Subscription, err error) {
			if !triedRight(err) {
				c.refused(nc, err)
			}
			failed(sub, err)
		}),
		nats.ClosedHandler(func(nc *nats.Conn) {
			if err := nc.LastError(); err != nil {
				log.Warn().Err(err).Msg("the connection to NATS is closed")
			}
		}),
	}
}

// lost logs why there is no connection.
func (c *connectionLog) lost(err error, message string) {
	c.mu.Lock()
	c.away = true
	c.mu.Unlock()
	if c.due(message + err.Error()) {
		c.log.Warn().Err(err).Msg(message)
	}
}

// back logs that there is a connection again.
func (c *connectionLog) back(nc *nats.Conn) {
	c.mu.Lock()
	was := c.away
	c.away, c.next = false, map[string]time.Time{}
	c.mu.Unlock()
	if was {
		c.log.Info().Str("server", nc.ConnectedUrlRedacted()).Msg("NATS is back")
	}
}

// refused logs what the server refuses beside a request.
func (c *connectionLog) refused(nc *nats.Conn, err error) {
	message := "NATS"
	if isAuthError(err) {
		message = "NATS refuses the user: " + ConnectAdvice(err)
	} else if advice := InboxAdvice(err); advice != "" {
		message = "NATS refuses the subscription for answers: " + advice
	}
	if c.due(message + err.Error()) {
		c.log.Warn().Err(err).Msg(message)
	}
	if errors.Is(err, nats.ErrMaxSubscriptionsExceeded) {
		c.resubscribe(nc)
	}
}

// resubscribe reconnects after a while. The client library counts a subscription that
// the server refused as made and never repeats it, so answers to requests may not
// arrive even after the limit is raised.
func (c *connectionLog) resubscribe(nc *nats.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.soon {
		return
	}
	c.soon = true
	time.AfterFunc(subscribeAgain, func() {
		c.mu.Lock()
		c.soon = false
		c.mu.Unlock()
		_ = nc.ForceReconnect() // of a closed connection: nothing to do
	})
}

// due reports whether a text is to be logged now.
func (c *connectionLog) due(text string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if now.Before(c.next[text]) {
		return false
	}
	c.next[text] = now.Add(noticeAgain)
	return true
}

// NotConnected says why there is no connection; nil where there is one, and
// consumer.ErrClosed where there never will be again.
func (l *Link) NotConnected() error {
	switch err := l.LastError(); {
	case l.IsConnected():
		return nil
	case l.IsClosed():
		return errors.Join(consumer.ErrClosed, err)
	case err != nil:
		return &notConnectedError{err}
	default:
		return &notConnectedError{nats.ErrDisconnected}
	}
}

// UntilClosed waits until ctx ends, and then returns nil, or until the connection is
// closed for good, with consumer.ErrClosed.
func (l *Link) UntilClosed(ctx context.Context) error {
	closed := l.StatusChanged(nats.CLOSED)
	defer l.RemoveStatusListener(closed)
	if !l.IsClosed() {
		select {
		case <-ctx.Done():
			return nil
		case <-closed:
		}
	}
	return errors.Join(consumer.ErrClosed, l.LastError())
}

// notConnectedError is why there is no connection to NATS.
type notConnectedError struct{ why error }

func (e *notConnectedError) Error() string {
	if errors.Is(e.why, nats.ErrDisconnected) {
		return "NATS is not connected"
	}
	return "NATS is not connected: " + e.why.Error() + ": " + ConnectAdvice(e.why)
}

// Is reports that it passes, whatever the reason: see natsAway.
func (*notConnectedError) Is(target error) bool { return target == nats.ErrDisconnected }

func isAuthError(err error) bool {
	for _, refusal := range []error{nats.ErrAuthorization, nats.ErrAuthExpired, nats.ErrAuthRevoked, nats.ErrAccountAuthExpired} {
		if errors.Is(err, refusal) {
			return true
		}
	}
	return false
}
