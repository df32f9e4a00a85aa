package clearnode

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/rs/zerolog"

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
	// ReadOnly is for who only reads sessions: a client that needs no Signers, and
	// signs in only where a node answers nobody else, as an account that is made up.
	// It is never Ready, and can neither prepare nor send anything.
	ReadOnly bool

	// Cosigners reaches the other parties of a session, where our keys don't reach
	// the quorum. Nil: there are none.
	Cosigners Cosigners
	// CosignTimeout is how long their signatures are waited for. Zero: 3s. Where
	// requests expire never more than half of RequestValidity, for a request is stamped
	// before its signatures are gathered.
	CosignTimeout time.Duration
	// CosignPatience is for how long a co-signer may give no answer before an outcome
	// that needs its signature fails with quorum_not_reached. Zero: at once, where
	// nobody listens.
	CosignPatience time.Duration
	// CAFile has the certificates (PEM) that the node's certificate is checked against
	// (clearnode.tls.ca). Empty: the machine's.
	CAFile string

	Connections    int           // pool size; zero: 8
	RequestTimeout time.Duration // for one answer; zero: 10s

	// RateLimit is how many frames a second one connection sends, and RateBurst how
	// many at once after a silence. Zero: as the node allows, which is 10 and 10 on
	// nitronode (it resets the connection above 10 and 20), and no limit on others.
	RateLimit float64
	RateBurst int

	// NodeAddress signs the node's answers. Nil: learned from the first answer
	// whose signature recovers, and then held for the process's life.
	NodeAddress *settlement.Address

	// MessageExpiry is how old a request the node accepts: its MSG_EXPIRY_TIME.
	// It must equal the node's, and is probed. Zero: 60s.
	MessageExpiry time.Duration
	// RequestValidity is how long a close of ours stays acceptable once it is
	// signed. Shorter than MessageExpiry; zero: 20s.
	RequestValidity time.Duration
	// FenceMargin is longer than the node works on a request after its check of
	// the timestamp, plus what the clocks may err. Zero: 20s.
	FenceMargin time.Duration

	// Application is what the node is told that its session keys are for when we
	// sign in; each process adds something of its own. Empty: "settled".
	Application string
	// SessionKeyLife is how long they are registered for: three quarters of it later
	// we sign in anew. At most a day, for which a node lets in. Zero: 24h.
	SessionKeyLife time.Duration

	Log zerolog.Logger

	// CallFunc is told of each call when it has ended. Class is "ok", "refused"
	// (nothing happened), "in_doubt" (a close without a conclusive answer) or
	// "waiting" (a read that told nothing). The context is the one that the call was
	// made for, so that it can be told which outcome's it was. Nil: nobody is.
	CallFunc func(ctx context.Context, method, class string, elapsed time.Duration)

	// UnknownErrorFunc is told of each error of the node about a request that changes a
	// session whose text settled does not know. Nil: nobody is.
	UnknownErrorFunc func(method, text string)

	pace pace // only tests change it
}

// Bounds of what a sign-in says.
const (
	maxApplication    = 64
	maxSessionKeyLife = 24 * time.Hour
)

// maxConnections is far above what helps: more than four buy nothing but latency
// at a ClearNode on Postgres, and each costs the node notifications.
const maxConnections = 256

// maxRate is more than any node takes.
const maxRate = 1e6

// pace is how fast the client does what nobody asks it to do.
type pace struct {
	redial, redialMost time.Duration // the pause before dialing again grows between these
	signIn, signInMost time.Duration // the same for a sign-in that was refused
	challenge          time.Duration // at least this between two sign-ins at a legacy node
	idle               time.Duration // silence after which the connection is tried with a ping
	secondLook         time.Duration // between the two looks that "not found" and "unfunded" need
	probeGap           time.Duration // at least this between two probes, unless a connection has its first
	probeEvery         time.Duration // at least as often as this is every connection probed
}

func (p pace) filled() pace {
	return pace{
		redial: orDefault(p.redial, 100*time.Millisecond), redialMost: orDefault(p.redialMost, 5*time.Second),
		challenge: orDefault(p.challenge, 700*time.Millisecond),
		signIn:    orDefault(p.signIn, 250*time.Millisecond), signInMost: orDefault(p.signInMost, 10*time.Second),
		idle: orDefault(p.idle, 10*time.Second), secondLook: orDefault(p.secondLook, time.Second),
		probeGap: orDefault(p.probeGap, 3*time.Second), probeEvery: orDefault(p.probeEvery, time.Hour),
	}
}

func orDefault[T comparable](value, fallback T) T {
	var zero T
	if value == zero {
		return fallback
	}
	return value
}

func (c Config) filled() Config {
	c.Protocol = orDefault(c.Protocol, protocolAuto)
	c.Application = orDefault(c.Application, "settled")
	c.SessionKeyLife = orDefault(c.SessionKeyLife, maxSessionKeyLife)
	c.Connections = orDefault(c.Connections, 8)
	c.RequestTimeout = orDefault(c.RequestTimeout, 10*time.Second)
	c.MessageExpiry = orDefault(c.MessageExpiry, time.Minute)
	c.RequestValidity = orDefault(c.RequestValidity, 20*time.Second)
	c.FenceMargin = orDefault(c.FenceMargin, 20*time.Second)
	c.CosignTimeout = orDefault(c.CosignTimeout, 3*time.Second)
	c.pace = c.pace.filled()
	return c
}

// Validate says what is wrong with the configuration, and what to write instead.
// Defaults count as given.
func (c Config) Validate() error {
	c = c.filled()
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
		return fmt.Errorf("clearnode.connections: %d: want 1 to %d", c.Connections, maxConnections)
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
		{"request_timeout", c.RequestTimeout}, {"message_expiry", c.MessageExpiry},
		{"request_validity", c.RequestValidity}, {"fence_margin", c.FenceMargin}, {"cosign_timeout", c.CosignTimeout},
		{"session_key_life", c.SessionKeyLife},
	} {
		if d.value < time.Millisecond {
			return fmt.Errorf("clearnode.%s: %s: want at least a millisecond", d.key, d.value)
		}
	}
	if c.SessionKeyLife > maxSessionKeyLife {
		return fmt.Errorf("clearnode.session_key_life: %s: want at most %s, for which a node lets in", c.SessionKeyLife, maxSessionKeyLife)
	}
	if c.RequestValidity >= c.MessageExpiry {
		return fmt.Errorf("clearnode.request_validity: %s: want less than clearnode.message_expiry (%s), for a request is made to look older, never newer, than it is", c.RequestValidity, c.MessageExpiry)
	}
	return nil
}

func checkProtocol(name string) error {
	switch name {
	case protocolAuto, protocolLegacy, protocol02, protocol04, protocolV1:
		return nil
	}
	return fmt.Errorf("clearnode.protocol: %s: want %s, %s, %s, %s or %s", quote(name), protocolAuto, protocolLegacy, protocol02, protocol04, protocolV1)
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

// quote shows a piece of foreign text in a message: quoted, and cut where it is
// long, so that hostile input can't flood a log.
func quote(s string) string {
	const most = 200
	if len(s) > most {
		return fmt.Sprintf("%.*q… (%d bytes)", most, s, len(s))
	}
	return fmt.Sprintf("%q", s)
}
