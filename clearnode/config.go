package clearnode

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/rs/zerolog"

	"settled/clearnode/internal/legacy"
	"settled/clearnode/internal/nitronode"
	"settled/clearnode/internal/nitrorpc"
	"settled/clearnode/internal/protocol"
	"settled/settlement"
)

// Config says which node to speak to, and how. A zero duration or number means
// its default.
type Config struct {
	URL string // ws:// or wss://, path usually /ws; user info is sent as basic authorization
	// Protocol is "auto", "nitrorpc/legacy", "nitrorpc/0.2" or "nitrorpc/0.4", which
	// are one dialect, or "nitronode/v1"; empty: "auto", found out by asking.
	Protocol string
	// Signers are our accounts. The first one signs in; of all of them the fewest
	// that reach a session's quorum sign its close.
	Signers []Signer
	// ReadOnly makes a client that only reads sessions. It needs no Signers, and signs in
	// only where a node answers nothing before sign-in, with a key made for it. It is never
	// Ready, and can neither prepare nor send anything.
	ReadOnly bool

	// Cosigners reaches the other parties of a session, where our keys don't reach
	// the quorum. Nil: there are none.
	Cosigners Cosigners
	// CosignTimeout is how long to wait for their signatures. Zero: 3s. Where requests
	// expire it is never more than half of RequestValidity, because a request is stamped
	// before its signatures are collected.
	CosignTimeout time.Duration
	// CosignPatience is for how long a co-signer may give no answer before an outcome that
	// needs its signature fails with quorum_not_reached. Zero: at once, where nobody
	// listens.
	CosignPatience time.Duration
	// CAFile has the certificates (PEM) that the node's certificate is checked against
	// (clearnode.tls.ca). Empty: the machine's.
	CAFile string

	// Connections is the pool size. Zero: as many as the node makes use of, from
	// ConnectionsMin (zero: 1) to ConnectionsMax (zero: 8), one more than closes need.
	Connections                    int
	ConnectionsMin, ConnectionsMax int

	RequestTimeout time.Duration // for one answer; zero: 10s

	// RateLimit is how many frames a second one connection sends, and RateBurst how
	// many at once after a silence. Zero: as the node allows, which is 10 and 10 on
	// nitronode (it resets the connection above 10 and 20), and no limit on others.
	RateLimit float64
	RateBurst int

	// NodeAddress signs the node's answers. Nil: learned from the first answer
	// whose signature recovers, and then enforced for the life of the process.
	NodeAddress *settlement.Address

	// MessageExpiry is how old a request the node accepts: its MSG_EXPIRY_TIME.
	// It must equal the node's, and is probed. Zero: 60s.
	MessageExpiry time.Duration
	// RequestValidity is how long a close of this client stays acceptable once it is
	// signed. Shorter than MessageExpiry; zero: 20s.
	RequestValidity time.Duration
	// FenceMargin is longer than the node works on a request after its check of
	// the timestamp, plus what the clocks may err. Zero: 20s.
	FenceMargin time.Duration

	// Application names the purpose of our session keys to the node when we
	// sign in; each process adds something of its own. Empty: "settled".
	Application string
	// SessionKeyLife is how long they are registered for; the client signs in again after
	// three quarters of it. At most a day, which is how long a sign-in lasts. Zero: 24h.
	SessionKeyLife time.Duration

	Log zerolog.Logger

	// CallFunc is called with each call when it has ended. Class is "ok", "refused"
	// (nothing happened), "in_doubt" (a close without a conclusive answer) or "waiting" (a
	// read that showed nothing). The context is the one that the call was made for.
	CallFunc func(ctx context.Context, method, class string, elapsed time.Duration)

	// UnknownErrorFunc is called with each error of the node about a request that changes a
	// session whose text settled does not know.
	UnknownErrorFunc func(method, text string)

	pace pace // only tests change it
}

// Bounds of what a sign-in says.
const (
	maxApplication    = 64
	maxSessionKeyLife = 24 * time.Hour
)

// maxConnections is far above what helps: more than four only add latency at a ClearNode on
// Postgres, and each costs the node notifications.
const maxConnections = 256

// maxRate is more than any node accepts.
const maxRate = 1e6

// pace is how fast the client does what no caller asks for.
type pace struct {
	redial, redialMost time.Duration // the pause before dialing again grows between these
	signIn, signInMost time.Duration // the same for a sign-in that was refused
	challenge          time.Duration // at least this between two sign-ins at a legacy node
	idle               time.Duration // silence after which the connection is tried with a ping
	secondRead         time.Duration // between the two reads that "not found" and "unfunded" need
	probeGap           time.Duration // at least this between two probes, unless a connection has its first
	probeEvery         time.Duration // every connection is probed at least this often
}

var defaultPace = pace{
	redial: 100 * time.Millisecond, redialMost: 5 * time.Second,
	signIn: 250 * time.Millisecond, signInMost: 10 * time.Second,
	challenge: 700 * time.Millisecond, idle: 10 * time.Second, secondRead: time.Second,
	probeGap: 3 * time.Second, probeEvery: time.Hour,
}

func orDefault[T comparable](value, fallback T) T {
	var zero T
	if value == zero {
		return fallback
	}
	return value
}

// bounds returns the least and the most connections, and permits for closes. A number of
// connections is not adapted.
func (c Config) bounds() (leastConns, mostConns int, l *limiter) {
	if c.Connections > 0 {
		return c.Connections, c.Connections, newLimiter(c.Connections*maxOutstanding, c.Connections*maxOutstanding)
	}
	return c.ConnectionsMin, c.ConnectionsMax, newLimiter(c.ConnectionsMin, c.ConnectionsMax*maxOutstanding)
}

func (c Config) withDefaults() Config {
	c.Protocol = orDefault(c.Protocol, protocolAuto)
	c.Application = orDefault(c.Application, "settled")
	c.SessionKeyLife = orDefault(c.SessionKeyLife, maxSessionKeyLife)
	c.ConnectionsMin = orDefault(c.ConnectionsMin, 1)
	c.ConnectionsMax = orDefault(c.ConnectionsMax, 8)
	c.RequestTimeout = orDefault(c.RequestTimeout, 10*time.Second)
	c.MessageExpiry = orDefault(c.MessageExpiry, time.Minute)
	c.RequestValidity = orDefault(c.RequestValidity, 20*time.Second)
	c.FenceMargin = orDefault(c.FenceMargin, 20*time.Second)
	c.CosignTimeout = orDefault(c.CosignTimeout, 3*time.Second)
	c.pace = orDefault(c.pace, defaultPace)
	return c
}

// Validate says what is wrong with the configuration, and what to write instead.
// Defaults count as given.
func (c Config) Validate() error {
	c = c.withDefaults()
	if _, err := parseURL(c.URL); err != nil {
		return err
	}
	if _, err := c.roots(); err != nil {
		return err
	}
	if err := checkProtocol(c.Protocol); err != nil {
		return err
	}
	if err := checkSigners(c.Signers); err != nil && !c.ReadOnly {
		return err
	}
	if c.Connections < 0 || c.Connections > maxConnections {
		return fmt.Errorf("clearnode.connections: %d: want auto, or 1 to %d", c.Connections, maxConnections)
	}
	if c.ConnectionsMin < 1 || c.ConnectionsMax > maxConnections {
		return fmt.Errorf("clearnode.connections_min, clearnode.connections_max: %d and %d: want 1 to %d", c.ConnectionsMin, c.ConnectionsMax, maxConnections)
	}
	if c.ConnectionsMin > c.ConnectionsMax {
		return fmt.Errorf("clearnode.connections_min: %d is more than clearnode.connections_max: lower it to %d, or raise that", c.ConnectionsMin, c.ConnectionsMax)
	}
	if !(c.RateLimit >= 0 && c.RateLimit <= maxRate) || c.RateBurst < 0 {
		return fmt.Errorf("clearnode.rate_limit, clearnode.rate_burst: %g and %d: want 0, which is as the node allows, or more", c.RateLimit, c.RateBurst)
	}
	if len(c.Application) > maxApplication || !utf8.ValidString(c.Application) {
		return fmt.Errorf("clearnode.application: want at most %d bytes of text", maxApplication)
	}
	return c.checkTimes()
}

func (c Config) checkTimes() error {
	for _, d := range []struct {
		key   string
		value time.Duration
	}{
		{"clearnode.request_timeout", c.RequestTimeout}, {"clearnode.message_expiry", c.MessageExpiry},
		{"clearnode.request_validity", c.RequestValidity}, {"clearnode.fence_margin", c.FenceMargin}, {"cosign.timeout", c.CosignTimeout},
		{"the life of a session key", c.SessionKeyLife},
	} {
		if d.value < time.Millisecond {
			return fmt.Errorf("%s: %s: want at least a millisecond", d.key, d.value)
		}
	}
	if c.SessionKeyLife > maxSessionKeyLife {
		return fmt.Errorf("the life of a session key: %s: want at most %s, the longest that a node accepts", c.SessionKeyLife, maxSessionKeyLife)
	}
	if c.RequestValidity >= c.MessageExpiry {
		return fmt.Errorf("clearnode.request_validity: %s: want less than clearnode.message_expiry (%s), for a request is made to look older, never newer, than it is", c.RequestValidity, c.MessageExpiry)
	}
	return nil
}

func checkProtocol(name string) error {
	switch name {
	case protocolAuto, legacy.Protocol, nitrorpc.Protocol02, nitrorpc.Protocol04, nitronode.Protocol:
		return nil
	}
	return fmt.Errorf("clearnode.protocol: %s: want %s, %s, %s, %s or %s", protocol.Quote(name), protocolAuto, legacy.Protocol, nitrorpc.Protocol02, nitrorpc.Protocol04, nitronode.Protocol)
}

// checkSigners demands at least one key, and none twice.
func checkSigners(signers []Signer) error {
	if len(signers) == 0 {
		return errors.New("clearnode: no key to sign with: name one under clearnode.key_files")
	}
	seen := map[settlement.Address]bool{}
	for _, s := range signers {
		if s == nil {
			return errors.New("clearnode: a key is missing")
		}
		if seen[s.Address()] {
			return fmt.Errorf("clearnode.key_files: the key of %s stands twice", s.Address())
		}
		seen[s.Address()] = true
	}
	return nil
}

// parseURL reads the node's address. Its errors don't repeat it, for it may hold
// a password.
func parseURL(text string) (*url.URL, error) {
	if text == "" {
		return nil, errors.New("clearnode.url: missing: want the node's websocket, such as wss://node.example/ws")
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("clearnode.url: unreadable: want the node's websocket, such as wss://node.example/ws")
	}
	if _, err := strconv.ParseUint(u.Port(), 10, 16); u.Port() != "" && err != nil {
		return nil, fmt.Errorf("clearnode.url: there is no port %s: want one up to 65535", u.Port())
	}
	if u.Scheme != "ws" && u.Scheme != "wss" || u.Hostname() == "" {
		return nil, errors.New("clearnode.url: want ws:// or wss:// and a host, such as wss://node.example/ws")
	}
	u.Fragment = ""
	return u, nil
}

// publicURL is the node's address without user info and query.
func publicURL(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// roots are the certificates of Config.CAFile; nil: the machine's.
func (c Config) roots() (*x509.CertPool, error) {
	if c.CAFile == "" {
		return nil, nil
	}
	text, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("clearnode.tls.ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("clearnode.tls.ca: %s holds no certificate: want PEM, with lines BEGIN CERTIFICATE", c.CAFile)
	}
	return pool, nil
}

// tlsConfig is read again for each dial, so that a file that was replaced counts.
func (c Config) tlsConfig() (*tls.Config, error) {
	pool, err := c.roots()
	if err != nil || pool == nil {
		return nil, err
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}

// dialError adds to an error of a dial what to do about it.
func dialError(err error, response *http.Response) error {
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &unknown):
		return fmt.Errorf("dial: %w: name the file with the certificate authority's certificate (PEM) in clearnode.tls.ca", err)
	case errors.As(err, &host):
		return fmt.Errorf("dial: %w: clearnode.url must name a host of the node's certificate", err)
	case errors.As(err, &invalid):
		return fmt.Errorf("dial: %w: check the node's certificate, the clocks and clearnode.tls.ca", err)
	case errors.As(err, &record):
		return fmt.Errorf("dial: %w: the node does not speak TLS there: clearnode.url may want ws:// in place of wss://", err)
	case response == nil:
		return fmt.Errorf("dial: %w", err)
	}
	if location := response.Header.Get("Location"); location != "" {
		return fmt.Errorf("dial: %w (HTTP %s to %s): redirects are not followed, set clearnode.url to the final address", err, response.Status, protocol.Quote(location))
	}
	return fmt.Errorf("dial: %w (HTTP %s): check the path of clearnode.url", err, response.Status)
}
