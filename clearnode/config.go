package clearnode

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/rs/zerolog"

	"settled/settlement"
)

// Config says which node to speak to, and how. A zero duration or number means
// its default.
type Config struct {
	URL      string // ws:// or wss://, path usually /ws; user info is sent as basic authorization
	Protocol string // "auto", "nitrorpc/0.2" or "nitrorpc/0.4", which are one dialect; empty: "auto"
	Signer   Signer // the account that signs in and signs the closes

	Connections    int           // pool size; zero: 8
	RequestTimeout time.Duration // for one answer; zero: 10s

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

	Application string // session key application for sign-in; empty: "settled"
	Log         zerolog.Logger

	// CallFunc is told of each call when it has ended. Class is "ok", "refused"
	// (nothing happened), "in_doubt" (a close without a conclusive answer) or
	// "waiting" (a read that told nothing). Nil: nobody is.
	CallFunc func(method, class string, elapsed time.Duration)

	pace pace // only tests change it
}

// The protocols that Config.Protocol may name.
const (
	protocolAuto = "auto"
	protocol02   = "nitrorpc/0.2"
	protocol04   = "nitrorpc/0.4"
)

// maxConnections is far above what helps: more than four buy nothing but latency
// at a ClearNode on Postgres, and each costs the node notifications.
const maxConnections = 256

// pace is how fast the client does what nobody asks it to do.
type pace struct {
	redial, redialMost time.Duration // the pause before dialing again grows between these
	signIn, signInMost time.Duration // the same for a sign-in that was refused
	idle               time.Duration // silence after which the connection is tried with a ping
	secondLook         time.Duration // between the two looks that "not found" and "unfunded" need
	probeGap           time.Duration // at least this between two probes, unless a connection has its first
	probeEvery         time.Duration // at least as often as this is every connection probed
}

func (p pace) filled() pace {
	return pace{
		redial: orDefault(p.redial, 100*time.Millisecond), redialMost: orDefault(p.redialMost, 5*time.Second),
		signIn: orDefault(p.signIn, 250*time.Millisecond), signInMost: orDefault(p.signInMost, 10*time.Second),
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
	c.Connections = orDefault(c.Connections, 8)
	c.RequestTimeout = orDefault(c.RequestTimeout, 10*time.Second)
	c.MessageExpiry = orDefault(c.MessageExpiry, time.Minute)
	c.RequestValidity = orDefault(c.RequestValidity, 20*time.Second)
	c.FenceMargin = orDefault(c.FenceMargin, 20*time.Second)
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
	if err := checkProtocol(c.Protocol); err != nil {
		return err
	}
	if c.Signer == nil {
		return errors.New("clearnode: no key to sign with: name one under clearnode.key_files")
	}
	if c.Connections < 0 || c.Connections > maxConnections {
		return fmt.Errorf("clearnode.connections: %d: want 1 to %d", c.Connections, maxConnections)
	}
	return c.checkTimes()
}

func (c Config) checkTimes() error {
	for _, d := range []struct {
		key   string
		value time.Duration
	}{
		{"request_timeout", c.RequestTimeout}, {"message_expiry", c.MessageExpiry},
		{"request_validity", c.RequestValidity}, {"fence_margin", c.FenceMargin},
	} {
		if d.value < time.Millisecond {
			return fmt.Errorf("clearnode.%s: %s: want at least a millisecond", d.key, d.value)
		}
	}
	if c.RequestValidity >= c.MessageExpiry {
		return fmt.Errorf("clearnode.request_validity: %s: want less than clearnode.message_expiry (%s), for a request is made to look older, never newer, than it is", c.RequestValidity, c.MessageExpiry)
	}
	return nil
}

func checkProtocol(name string) error {
	switch name {
	case protocolAuto, protocol02, protocol04:
		return nil
	case "nitrorpc/legacy", "nitronode/v1":
		return fmt.Errorf("clearnode.protocol: %s is not built yet: settled speaks %s and %s so far", name, protocol02, protocol04)
	}
	return fmt.Errorf("clearnode.protocol: %s: want %s, %s or %s", quote(name), protocolAuto, protocol02, protocol04)
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
	if u.Scheme != "ws" && u.Scheme != "wss" || u.Host == "" {
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
