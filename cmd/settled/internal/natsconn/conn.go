package natsconn

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"settled/clearnode"
	"settled/cmd/settled/internal/background"
	"settled/cmd/settled/internal/config"
	"settled/consumer"
)

// Link is a connection to NATS, and the embedded server behind it, if any.
type Link struct {
	*nats.Conn
	JS         jetstream.JetStream
	Domain     string // of JetStream: nats.domain, or the one that was found
	Embedded   *server.Server
	URL        string       // of the embedded server, with the user settled
	onShutdown func() error // called after the embedded server has stopped; nil without one
}

// Connect connects to the configured NATS. With wait, which is for services, it keeps
// trying in the background. Without it, as for commands, it also finds JetStream's API, and
// connects to an embedded server of this user as its operator.
func Connect(c *config.Config, name string, wait bool, options ...nats.Option) (*Link, error) {
	if !wait {
		c = AsOperator(c)
	}
	common, err := Options(c, name, wait)
	if err != nil {
		return nil, err
	}
	if c.NATSObserver != nil {
		common = append(common, nats.ErrorHandler(c.NATSObserver.HandleError))
	}
	nc, err := nats.Connect(c.NATSURL, append(common, options...)...)
	if err != nil {
		return nil, fmt.Errorf("NATS at %s: %w: %s", config.RedactURL(c.NATSURL), err, ConnectAdvice(err))
	}
	domain := c.NATSDomain
	if domain == "" && !wait {
		if domain, err = FindDomain(c, nc); err != nil {
			nc.Close()
			return nil, fmt.Errorf("NATS at %s: %w", config.RedactURL(c.NATSURL), err)
		}
		if c.NATSObserver != nil {
			c.NATSObserver.SetDomain(domain)
		}
	}
	return NewLink(c, nc, domain)
}

// Use returns a connection's link with a JetStream domain; empty: the account's own.
func NewLink(c *config.Config, nc *nats.Conn, domain string) (*Link, error) {
	var js jetstream.JetStream
	var err error
	if domain != "" {
		js, err = jetstream.NewWithDomain(nc, domain)
	} else {
		js, err = jetstream.New(nc)
	}
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("JetStream: %w", err)
	}
	return &Link{Conn: nc, JS: js, Domain: domain}, nil
}

func Options(c *config.Config, name string, wait bool) ([]nats.Option, error) {
	options := []nats.Option{
		nats.Name(name), nats.MaxReconnects(-1), nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(250*time.Millisecond, time.Second), nats.RetryOnFailedConnect(wait),
		// Otherwise a second authentication error closes the connection for good, as when a
		// rotated password reaches the server first.
		nats.IgnoreAuthErrorAbort(),
		nats.Timeout(5 * time.Second),
		// Detects a connection that a firewall dropped within 15 s instead of minutes.
		nats.PingInterval(5 * time.Second), nats.MaxPingsOutstanding(2),
		nats.CustomInboxPrefix(config.InboxPrefix(c)), nats.PermissionErrOnSubscribe(true),
	}
	if c.NATSCredentialsFile != "" {
		if _, err := clearnode.ReadSecretFile("credentials", c.NATSCredentialsFile); err != nil {
			return nil, fmt.Errorf("nats.credentials_file: %w", err)
		}
		options = append(options, nats.UserCredentials(c.NATSCredentialsFile))
	}
	if c.NATSNKeyFile != "" {
		if _, err := clearnode.ReadSecretFile("NKey seed", c.NATSNKeyFile); err != nil {
			return nil, fmt.Errorf("nats.nkey_file: %w", err)
		}
		nkey, err := nats.NkeyOptionFromSeed(c.NATSNKeyFile)
		if err != nil {
			return nil, fmt.Errorf("nats.nkey_file: %s can't be used as an NKey seed: want one line that begins with SU, without a byte order mark", c.NATSNKeyFile)
		}
		options = append(options, nkey)
	}
	if c.NATSTLSFirst && !c.Embedded {
		options = append(options, nats.TLSHandshakeFirst())
	}
	if c.NATSCAFile != "" {
		options = append(options, namedOption("nats.tls.ca", nats.RootCAs(c.NATSCAFile)))
	}
	if (c.NATSCertFile == "") != (c.NATSKeyFile == "") {
		return nil, errors.New("nats.tls: cert and key go together")
	}
	if c.NATSCertFile != "" {
		if err := clearnode.CheckSecretFile(c.NATSKeyFile); err != nil {
			return nil, fmt.Errorf("nats.tls.key: %w", err)
		}
		options = append(options, namedOption("nats.tls.cert and nats.tls.key", nats.ClientCert(c.NATSCertFile, c.NATSKeyFile)))
	}
	return options, nil
}

// namedOption adds to an option's error the key that it comes from.
func namedOption(key string, option nats.Option) nats.Option {
	return func(o *nats.Options) error {
		if err := option(o); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		return nil
	}
}

// Shutdown flushes the connection for a moment, then closes it and stops the embedded
// server.
func (l *Link) Shutdown() {
	_ = l.FlushTimeout(500 * time.Millisecond)
	l.Close()
	if l.Embedded != nil {
		l.Embedded.Shutdown()
		l.Embedded.WaitForShutdown()
		_ = l.onShutdown() // a file that is left has no valid password
	}
}

// Retry calls f until it succeeds, fails with an error that isn't transient, or ctx ends.
func Retry(ctx context.Context, f func() error, notice func(error)) error {
	for {
		err := f()
		if err == nil || !IsTransient(err) {
			return err
		}
		notice(err)
		if !background.Sleep(ctx, time.Second) {
			return ctx.Err()
		}
	}
}

// IsTransient reports whether a service that starts should wait and retry: NATS is unavailable
// or its disk is full, or a stream that settled may not create is missing.
func IsTransient(err error) bool {
	if errors.Is(err, consumer.ErrClosed) {
		return false
	}
	var missing *consumer.MissingError
	return IsUnavailable(err) || IsDiskFull(err) || errors.As(err, &missing) || errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrConsumerNotFound)
}

// IsUnavailable reports errors that end when the server, or a leader, is back.
func IsUnavailable(err error) bool {
	for _, unavailable := range []error{
		nats.ErrTimeout, nats.ErrNoResponders, nats.ErrConnectionClosed, nats.ErrConnectionReconnecting, nats.ErrDisconnected,
		nats.ErrNoServers, jetstream.ErrNoStreamResponse, context.DeadlineExceeded,
	} {
		if errors.Is(err, unavailable) {
			return true
		}
	}
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.Code == 503 || api.ErrorCode == noSuitablePeers)
}

// noSuitablePeers is a cluster's answer to the creation of a stream while too few of its
// servers are up.
const noSuitablePeers jetstream.ErrorCode = 10005

// IsDiskFull reports whether the reason of an error is a full disk, here or at a NATS
// server, which sends the reason as text.
func IsDiskFull(err error) bool {
	return err != nil && (strings.Contains(err.Error(), syscall.ENOSPC.Error()) || strings.Contains(err.Error(), syscall.EDQUOT.Error()))
}
