package audit

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go/jetstream"

	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/natsconn"
	"settled/ledger/streamreader"
)

// ledgerSource is the connection of a command that follows the ledger. It waits for NATS as
// a service does, and finds JetStream's API once it is connected.
type ledgerSource struct {
	cfg   *config.Config
	name  string
	link  *natsconn.Link // nil: none
	url   string         // that link connects to
	found bool           // the API answers under link's domain
}

// NewLedgerSource starts to connect. It returns an error only if the configuration is
// invalid; Reader reports all others.
func NewLedgerSource(c *config.Config, name string) (*ledgerSource, error) {
	s := &ledgerSource{cfg: c, name: name}
	return s, s.connect()
}

func (s *ledgerSource) connect() error {
	cfg := natsconn.AsOperator(s.cfg)
	link, err := natsconn.Connect(cfg, s.name, true)
	if err == nil {
		s.link, s.url, s.found = link, cfg.NATSURL, cfg.NATSDomain != ""
	}
	return err
}

// Reader returns a reader on a working connection, or why there is none. It replaces a
// connection that is closed for good, and one to an embedded server that was restarted,
// whose operator has a new password.
func (s *ledgerSource) Reader(ctx context.Context) (*streamreader.Reader, error) {
	if s.link != nil && natsconn.AsOperator(s.cfg).NATSURL != s.url {
		s.Close()
	}
	if s.link == nil {
		if err := s.connect(); err != nil {
			return nil, err
		}
	}
	if err := s.link.ConnectionError(); err != nil {
		if s.link.IsClosed() {
			s.Close()
		}
		return nil, err
	}
	if !s.found {
		if err := s.findAPI(ctx); err != nil {
			return nil, err
		}
	}
	return LedgerReader(s.link.JS, s.cfg.NATSPrefix), nil
}

// findAPI finds the domain under which the ledger's stream can be asked for. A search
// without an answer decides nothing: Reader repeats it.
func (s *ledgerSource) findAPI(ctx context.Context) error {
	domain, err := natsconn.FindDomain(s.cfg, s.link.Conn)
	if err != nil {
		return err
	}
	found, err := natsconn.NewLink(s.cfg, s.link.Conn, domain)
	if err != nil {
		return err
	}
	if _, err := LedgerReader(found.JS, s.cfg.NATSPrefix).Info(ctx); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return err
	}
	if s.cfg.NATSObserver != nil {
		s.cfg.NATSObserver.SetDomain(domain)
	}
	s.link, s.found = found, true
	return nil
}

func (s *ledgerSource) Close() {
	if s.link != nil {
		s.link.Shutdown()
		s.link = nil
	}
}
