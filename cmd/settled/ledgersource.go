package main

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go/jetstream"

	"settled/ledger/streamreader"
)

// ledgerSource is the connection of a command that follows the ledger. Such a command
// waits for NATS as a service does, and finds JetStream's API once it is connected.
type ledgerSource struct {
	cfg   *config
	name  string
	link  *natsLink // nil: there is none at the moment
	url   string    // that link connects to
	found bool      // the API answers under link's domain
}

// ledgerSource begins to connect. It returns an error only where the configuration is
// wrong; reader reports everything else.
func (c *config) ledgerSource(name string) (*ledgerSource, error) {
	s := &ledgerSource{cfg: c, name: name}
	return s, s.connect()
}

func (s *ledgerSource) connect() error {
	cfg := s.cfg.asOperator()
	link, err := cfg.connect(s.name, true)
	if err == nil {
		s.link, s.url, s.found = link, cfg.natsURL, cfg.natsDomain != ""
	}
	return err
}

// reader is the ledger's reader on a connection that is up, or the reason why there is
// none. A connection that is closed for good is replaced, and so is one to an embedded
// server that was started again: its operator has another password then.
func (s *ledgerSource) reader(ctx context.Context) (*streamreader.Reader, error) {
	if s.link != nil && s.cfg.asOperator().natsURL != s.url {
		s.close()
	}
	if s.link == nil {
		if err := s.connect(); err != nil {
			return nil, err
		}
	}
	if err := s.link.notConnected(); err != nil {
		if s.link.IsClosed() {
			s.close()
		}
		return nil, err
	}
	if !s.found {
		if err := s.findAPI(ctx); err != nil {
			return nil, err
		}
	}
	return ledgerReader(s.link.js, s.cfg.natsPrefix), nil
}

// findAPI finds the domain under which the ledger's stream can be asked for. A search
// without an answer decides nothing: reader repeats it.
func (s *ledgerSource) findAPI(ctx context.Context) error {
	domain, err := s.cfg.findDomain(s.link.Conn)
	if err != nil {
		return err
	}
	found, err := s.cfg.link(s.link.Conn, domain)
	if err != nil {
		return err
	}
	if _, err := ledgerReader(found.js, s.cfg.natsPrefix).Info(ctx); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return err
	}
	if s.cfg.refusals != nil {
		s.cfg.refusals.foundDomain(domain)
	}
	s.link, s.found = found, true
	return nil
}

func (s *ledgerSource) close() {
	if s.link != nil {
		s.link.close()
		s.link = nil
	}
}
