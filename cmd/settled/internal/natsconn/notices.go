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
	// logInterval is after what time a lasting condition is logged again.
	logInterval = time.Minute
	// resubscribeDelay is how long after the server denied a subscription because of its
	// limit the client reconnects, which repeats every subscription.
	resubscribeDelay = 15 * time.Second
)

// connectionLog logs the state of a connection to NATS. A lasting condition, which the
// client library reports at each attempt, is logged once a minute.
type connectionLog struct {
	log zerolog.Logger

	mu                 sync.Mutex
	next               map[string]time.Time // when a text may be logged again
	disconnected       bool
	reconnectScheduled bool // a reconnection is scheduled
}

// Notices returns options that log the events of a service's connection. The functions
// run in the client library's callbacks and must not block.
func Notices(log zerolog.Logger, reconnected func(*nats.Conn), failed func(*nats.Subscription, error)) []nats.Option {
	c := &connectionLog{log: log, next: map[string]time.Time{}}
	return []nats.Option{
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				c.logDisconnect(err, "NATS is away")
			}
		}),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { c.logDisconnect(err, "NATS can't be reached: "+ConnectAdvice(err)) }),
		nats.ConnectHandler(c.logReconnect),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			c.logReconnect(nc)
			reconnected(nc)
		}),
		nats.ErrorHandler(func(nc *nats.Conn, sub *nats.Subscription, err error) {
			if !isProbeError(err) {
				c.logRefusal(nc, err)
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

// logDisconnect logs why there is no connection.
func (c *connectionLog) logDisconnect(err error, message string) {
	c.mu.Lock()
	c.disconnected = true
	c.mu.Unlock()
	if c.due(message + err.Error()) {
		c.log.Warn().Err(err).Msg(message)
	}
}

// logReconnect logs that the connection is back.
func (c *connectionLog) logReconnect(nc *nats.Conn) {
	c.mu.Lock()
	was := c.disconnected
	c.disconnected, c.next = false, map[string]time.Time{}
	c.mu.Unlock()
	if was {
		c.log.Info().Str("server", nc.ConnectedUrlRedacted()).Msg("NATS is back")
	}
}

// logRefusal logs an error that the server reports separately from a request.
func (c *connectionLog) logRefusal(nc *nats.Conn, err error) {
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

// resubscribe reconnects after a delay. The client library doesn't repeat a subscription
// that the server denied, so answers may not arrive even after the limit is raised.
func (c *connectionLog) resubscribe(nc *nats.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reconnectScheduled {
		return
	}
	c.reconnectScheduled = true
	time.AfterFunc(resubscribeDelay, func() {
		c.mu.Lock()
		c.reconnectScheduled = false
		c.mu.Unlock()
		_ = nc.ForceReconnect() // fails only for a closed connection
	})
}

// due reports whether to log a text now.
func (c *connectionLog) due(text string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if now.Before(c.next[text]) {
		return false
	}
	c.next[text] = now.Add(logInterval)
	return true
}

// ConnectionError returns why there is no connection; nil if there is one, consumer.ErrClosed
// if it is closed for good.
func (l *Link) ConnectionError() error {
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

// WaitClosed waits until ctx ends, and then returns nil, or until the connection is
// closed for good, with consumer.ErrClosed.
func (l *Link) WaitClosed(ctx context.Context) error {
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

// Is makes IsUnavailable report it, whatever the reason.
func (*notConnectedError) Is(target error) bool { return target == nats.ErrDisconnected }

func isAuthError(err error) bool {
	for _, refusal := range []error{nats.ErrAuthorization, nats.ErrAuthExpired, nats.ErrAuthRevoked, nats.ErrAccountAuthExpired} {
		if errors.Is(err, refusal) {
			return true
		}
	}
	return false
}
