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
	"settled/cmd/settled/internal/config"
	"settled/consumer"
)

// Link is a connection to NATS, and the embedded server behind it, if any.
type Link struct {
	*nats.Conn
	JS       jetstream.JetStream
	Domain   string // of JetStream: nats.domain, or the one that was found
	Embedded *server.Server
	Url      string       // of the embedded server, with settled's user
	ended    func() error // once the embedded server is down; nil without one
}

// Connect reaches the NATS that the configuration names. It keeps trying in the
// background where wait is set, as a service should. A command does not, and finds
// JetStream's API by itself; it is the operator of an embedded server of this user's.
func Connect(c *config.Config, name string, wait bool, options ...nats.Option) (*Link, error) {
	if !wait {
		c = AsOperator(c)
	}
	common, err := Options(c, name, wait)
	if err != nil {
		return nil, err
	}
	if c.NATSObserver != nil {
		common = append(common, nats.ErrorHandler(c.NATSObserver.Note))
	}
	nc, err := nats.Connect(c.NATSURL, append(common, options...)...)
	if err != nil {
		return nil, fmt.Errorf("NATS at %s: %w: %s", config.WithoutPassword(c.NATSURL), err, ConnectAdvice(err))
	}
	domain := c.NATSDomain
	if domain == "" && !wait {
		if domain, err = FindDomain(c, nc); err != nil {
			nc.Close()
			return nil, fmt.Errorf("NATS at %s: %w", config.WithoutPassword(c.NATSURL), err)
		}
		if c.NATSObserver != nil {
			c.NATSObserver.FoundDomain(domain)
		}
	}
	return Use(c, nc, domain)
}

// Use uses a connection with a JetStream domain; the empty one is the account's own.
func Use(c *config.Config, nc *nats.Conn, domain string) (*Link, error) {
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
		// Without it a second refusal of the user closes the connection for good, as
		// when a rotated password reaches the server before it reaches us.
		nats.IgnoreAuthErrorAbort(),
		nats.Timeout(5 * time.Second),
		// A connection that a firewall forgot is noticed within 15 s; by default it
		// takes minutes in which nothing is settled.
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
		options = append(options, optionOf("nats.tls.ca", nats.RootCAs(c.NATSCAFile)))
	}
	if (c.NATSCertFile == "") != (c.NATSKeyFile == "") {
		return nil, errors.New("nats.tls: cert and key go together")
	}
	if c.NATSCertFile != "" {
		if err := clearnode.CheckSecretFile(c.NATSKeyFile); err != nil {
			return nil, fmt.Errorf("nats.tls.key: %w", err)
		}
		options = append(options, optionOf("nats.tls.cert and nats.tls.key", nats.ClientCert(c.NATSCertFile, c.NATSKeyFile)))
	}
	return options, nil
}

// optionOf names in an option's error the key that it comes from.
func optionOf(key string, option nats.Option) nats.Option {
	return func(o *nats.Options) error {
		if err := option(o); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		return nil
	}
}

// Shutdown lets what was published go out, for a moment, then ends the connection
// and the server. Whoever published something that counts has its answer already.
func (l *Link) Shutdown() {
	_ = l.FlushTimeout(500 * time.Millisecond)
	l.Close()
	if l.Embedded != nil {
		l.Embedded.Shutdown()
		l.Embedded.WaitForShutdown()
		_ = l.ended() // what is left behind opens nothing
	}
}

// Retry calls f until it succeeds, its error is none that passes while a service
// waits, or ctx ends.
func Retry(ctx context.Context, f func() error, notice func(error)) error {
	for {
		err := f()
		if err == nil || !Passing(err) {
			return err
		}
		notice(err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// Passing reports errors that a start waits out: NATS is away or its disk is full, or what
// settled may not create is not there yet.
func Passing(err error) bool {
	if errors.Is(err, consumer.ErrClosed) {
		return false
	}
	var missing *consumer.MissingError
	return Away(err) || DiskFull(err) || errors.As(err, &missing) || errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrConsumerNotFound)
}

// Away reports errors that pass once the server, or its leader, is back.
func Away(err error) bool {
	for _, away := range []error{
		nats.ErrTimeout, nats.ErrNoResponders, nats.ErrConnectionClosed, nats.ErrConnectionReconnecting, nats.ErrDisconnected,
		nats.ErrNoServers, jetstream.ErrNoStreamResponse, context.DeadlineExceeded,
	} {
		if errors.Is(err, away) {
			return true
		}
	}
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.Code == 503 || api.ErrorCode == noSuitablePeers)
}

// noSuitablePeers is what a cluster answers to the making of a stream while too few
// of its servers are up, as when all of them were just started.
const noSuitablePeers jetstream.ErrorCode = 10005

// DiskFull reports whether the reason of an error is a full disk, here or at a NATS
// server, which tells the reason as text.
func DiskFull(err error) bool {
	return err != nil && (strings.Contains(err.Error(), syscall.ENOSPC.Error()) || strings.Contains(err.Error(), syscall.EDQUOT.Error()))
}
