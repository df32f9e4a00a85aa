package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"settled/clearnode"
	"settled/consumer"
)

// natsLink is a connection to NATS, and the embedded server behind it, if any.
type natsLink struct {
	*nats.Conn
	js       jetstream.JetStream
	domain   string // of JetStream: nats.domain, or the one that was found
	embedded *server.Server
	url      string       // of the embedded server, with settled's user
	ended    func() error // once the embedded server is down; nil without one
}

// connect reaches the NATS that the configuration names. It keeps trying in the
// background where wait is set, as a service should. A command does not, and finds
// JetStream's API by itself; it is the operator of an embedded server of this user's.
func (c *config) connect(name string, wait bool, options ...nats.Option) (*natsLink, error) {
	if !wait {
		c = c.asOperator()
	}
	common, err := c.natsOptions(name, wait)
	if err != nil {
		return nil, err
	}
	if c.refusals != nil {
		common = append(common, nats.ErrorHandler(c.refusals.note))
	}
	nc, err := nats.Connect(c.natsURL, append(common, options...)...)
	if err != nil {
		return nil, fmt.Errorf("NATS at %s: %w: %s", withoutPassword(c.natsURL), err, connectAdvice(err))
	}
	domain := c.natsDomain
	if domain == "" && !wait {
		if domain, err = c.findDomain(nc); err != nil {
			nc.Close()
			return nil, fmt.Errorf("NATS at %s: %w", withoutPassword(c.natsURL), err)
		}
		if c.refusals != nil {
			c.refusals.foundDomain(domain)
		}
	}
	return c.link(nc, domain)
}

// link uses a connection with a JetStream domain; the empty one is the account's own.
func (c *config) link(nc *nats.Conn, domain string) (*natsLink, error) {
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
	return &natsLink{Conn: nc, js: js, domain: domain}, nil
}

func (c *config) natsOptions(name string, wait bool) ([]nats.Option, error) {
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
		nats.CustomInboxPrefix(c.inbox()), nats.PermissionErrOnSubscribe(true),
	}
	if c.natsCredentials != "" {
		if _, err := clearnode.ReadSecretFile("credentials", c.natsCredentials); err != nil {
			return nil, fmt.Errorf("nats.credentials_file: %w", err)
		}
		options = append(options, nats.UserCredentials(c.natsCredentials))
	}
	if c.natsNKey != "" {
		if _, err := clearnode.ReadSecretFile("NKey seed", c.natsNKey); err != nil {
			return nil, fmt.Errorf("nats.nkey_file: %w", err)
		}
		nkey, err := nats.NkeyOptionFromSeed(c.natsNKey)
		if err != nil {
			return nil, fmt.Errorf("nats.nkey_file: %s can't be used as an NKey seed: want one line that begins with SU, without a byte order mark", c.natsNKey)
		}
		options = append(options, nkey)
	}
	if c.natsTLSFirst && !c.embedded {
		options = append(options, nats.TLSHandshakeFirst())
	}
	if c.natsCA != "" {
		options = append(options, optionOf("nats.tls.ca", nats.RootCAs(c.natsCA)))
	}
	if (c.natsCert == "") != (c.natsCertKey == "") {
		return nil, errors.New("nats.tls: cert and key go together")
	}
	if c.natsCert != "" {
		if err := clearnode.CheckSecretFile(c.natsCertKey); err != nil {
			return nil, fmt.Errorf("nats.tls.key: %w", err)
		}
		options = append(options, optionOf("nats.tls.cert and nats.tls.key", nats.ClientCert(c.natsCert, c.natsCertKey)))
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

// close lets what was published go out, for a moment, then ends the connection
// and the server. Whoever published something that counts has its answer already.
func (l *natsLink) close() {
	_ = l.FlushTimeout(500 * time.Millisecond)
	l.Close()
	if l.embedded != nil {
		l.embedded.Shutdown()
		l.embedded.WaitForShutdown()
		_ = l.ended() // what is left behind opens nothing
	}
}

// retry calls f until it succeeds, its error is none that passes while a service
// waits, or ctx ends.
func retry(ctx context.Context, f func() error, notice func(error)) error {
	for {
		err := f()
		if err == nil || !passes(err) {
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

// passes reports errors that a start waits out: NATS is away or its disk is full, or what
// settled may not create is not there yet.
func passes(err error) bool {
	if errors.Is(err, consumer.ErrClosed) {
		return false
	}
	var missing *consumer.MissingError
	return natsAway(err) || diskFull(err) || errors.As(err, &missing) || errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrConsumerNotFound)
}

// natsAway reports errors that pass once the server, or its leader, is back.
func natsAway(err error) bool {
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
