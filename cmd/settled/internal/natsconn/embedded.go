package natsconn

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"settled/cmd/settled/internal/config"
	shipped "settled/deploy"
)

// Embedded is a JetStream server in this process, with the accounts of
// deploy/nats.
type Embedded struct {
	StoreDir, Listen string
	Prefix, Durable  string            // nats.prefix and consumer.durable
	SyncAlways       bool              // sync every message to disk before it is acknowledged
	Passwords        map[string]string // by user; a user without one can't connect
}

// embeddedUsers are the users of other programs, and the environment variables with their
// passwords, as in deploy/nats.
var embeddedUsers = map[string]string{
	"upstream": "UPSTREAM_PASSWORD", "dashboard": "DASHBOARD_PASSWORD", "operator": "OPERATOR_PASSWORD", "partner": "PARTNER_PASSWORD",
}

// embeddedPasswords returns the passwords in the environment.
func embeddedPasswords() map[string]string {
	passwords := map[string]string{}
	for user, variable := range embeddedUsers {
		if password := os.Getenv(variable); password != "" {
			passwords[user] = password
		}
	}
	return passwords
}

// Start starts the server, and returns the URL by which this process connects to it as
// settled. If no password is set, clients without credentials may publish outcomes and
// receive results, and the server must listen on loopback.
func (e Embedded) Start() (ns *server.Server, url string, err error) {
	options, err := e.Options()
	if err != nil {
		return nil, "", err
	}
	if err := e.adoptGlobalAccount(); err != nil {
		return nil, "", fmt.Errorf("embedded.store_dir: %w", err)
	}
	if ns, err = server.NewServer(options); err != nil {
		return nil, "", fmt.Errorf("embedded NATS server: %w", err)
	}
	failed := &startupLogger{}
	ns.SetLoggerV2(failed, false, false, false)
	ns.Start()
	if err := failed.waitReady(ns, 20*time.Second); err != nil {
		ns.Shutdown()
		return nil, "", fmt.Errorf("embedded NATS server: %w: is embedded.listen (%s) taken by another program, or embedded.store_dir (%s) unreadable?", err, e.Listen, e.StoreDir)
	}
	if err := e.writeOperatorFile(ns); err != nil {
		ns.Shutdown()
		return nil, "", fmt.Errorf("embedded.store_dir: %w", err)
	}
	return ns, clientURL(ns, "settled", e.Passwords["settled"]), nil
}

// startupLogger keeps the error of a server that can't start, which the server only logs.
type startupLogger struct {
	mu    sync.Mutex
	fatal error
}

// Fatalf implements server.Logger, as the other methods do.
func (l *startupLogger) Fatalf(format string, v ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fatal = fmt.Errorf(format, v...)
}

func (*startupLogger) Noticef(string, ...any) {}
func (*startupLogger) Warnf(string, ...any)   {}
func (*startupLogger) Errorf(string, ...any)  {}
func (*startupLogger) Debugf(string, ...any)  {}
func (*startupLogger) Tracef(string, ...any)  {}

// waitReady waits until the server accepts connections or fails.
func (l *startupLogger) waitReady(ns *server.Server, most time.Duration) error {
	for deadline := time.Now().Add(most); !ns.ReadyForConnections(100 * time.Millisecond); {
		l.mu.Lock()
		why := l.fatal
		l.mu.Unlock()
		if why != nil {
			return why
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not ready after %s", most)
		}
	}
	return nil
}

// Options are the server's, with the accounts from their text.
func (e *Embedded) Options() (*server.Options, error) {
	host, portText, err := net.SplitHostPort(e.Listen)
	if err != nil {
		return nil, fmt.Errorf("embedded.listen: %w", err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return nil, fmt.Errorf("embedded.listen: port %q: %w", portText, err)
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	open := len(e.Passwords) == 0
	if open && !IsLoopback(e.Listen) {
		return nil, fmt.Errorf("embedded.listen: other machines reach %s, and no password is set: set UPSTREAM_PASSWORD in the environment (and DASHBOARD_PASSWORD, OPERATOR_PASSWORD for clients of these roles), or listen on 127.0.0.1", e.Listen)
	}
	cosign := e.Passwords["partner"] != "" && os.Getenv("PARTNER_COSIGN") != ""
	text, err := shipped.Accounts(cosign, e.Prefix, e.Durable)
	if err != nil {
		return nil, fmt.Errorf("embedded NATS server: %w", err)
	}
	if cosign {
		text = "PARTNER_PASSWORD: unset\n" + text
	}
	options := &server.Options{}
	if err := options.ProcessConfigString(unsetPasswords + text); err != nil {
		return nil, fmt.Errorf("embedded NATS server: accounts: %w", err)
	}
	e.setPasswords(options)
	if open {
		addAnonymousUser(options)
	}
	options.ServerName, options.Host, options.Port, options.NoSigs, options.NoLog = "settled", host, port, true, true
	options.JetStream, options.StoreDir, options.SyncAlways, options.DisableJetStreamBanner = true, e.StoreDir, e.SyncAlways, true
	return options, nil
}

// unsetPasswords defines the variables of the accounts' text; setPasswords replaces their
// value.
const unsetPasswords = "SETTLED_PASSWORD: unset\nUPSTREAM_PASSWORD: unset\nDASHBOARD_PASSWORD: unset\nOPERATOR_PASSWORD: unset\n"

// setPasswords sets the users' passwords: random ones for settled and for users without
// a given one.
func (e *Embedded) setPasswords(options *server.Options) {
	given := e.Passwords
	e.Passwords = map[string]string{}
	for _, user := range options.Users {
		password := given[user.Username]
		if password == "" || user.Username == "settled" {
			password = rand.Text()
		}
		user.Password, e.Passwords[user.Username] = password, password
	}
}

// addAnonymousUser lets clients without credentials publish outcomes and receive results,
// and nothing else, with the client libraries' default inboxes.
func addAnonymousUser(options *server.Options) {
	const unnamed = "unnamed"
	for _, user := range options.Users {
		if user.Username != "upstream" {
			continue
		}
		outcomes, results := []string{}, []string{"_INBOX.>"}
		for _, subject := range user.Permissions.Publish.Allow {
			if !strings.HasPrefix(subject, "$JS."+LedgerDomain) {
				outcomes = append(outcomes, subject)
			}
		}
		for _, subject := range user.Permissions.Subscribe.Allow {
			if !strings.HasPrefix(subject, config.DefaultInboxPrefix) {
				results = append(results, subject)
			}
		}
		options.Users = append(options.Users, &server.User{Username: unnamed, Password: rand.Text(), Account: user.Account, Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Allow: outcomes}, Subscribe: &server.SubjectPermission{Allow: results}}})
		options.NoAuthUser = unnamed
		return
	}
}

// adoptGlobalAccount moves the streams of an embedded server without accounts, as earlier
// versions ran it, to the account SETTLED.
func (e Embedded) adoptGlobalAccount() error {
	dir := filepath.Join(e.StoreDir, server.JetStreamStoreDir)
	from, to := filepath.Join(dir, server.DEFAULT_GLOBAL_ACCOUNT), filepath.Join(dir, "SETTLED")
	if _, err := os.Stat(filepath.Join(from, "streams")); err != nil {
		return nil // no such streams
	}
	if _, err := os.Stat(to); err == nil {
		if left, err := os.ReadDir(filepath.Join(from, "streams")); err != nil || len(left) == 0 {
			return err
		}
		return fmt.Errorf("both %s and %s hold streams: move away the ones that are not the ledger's", from, to)
	}
	return os.Rename(from, to)
}

// writeOperatorFile writes the operator's URL for this user's commands on this machine,
// unless only a hash of the password is known.
func (e Embedded) writeOperatorFile(ns *server.Server) error {
	password := e.Passwords["operator"]
	if strings.HasPrefix(password, "$2") {
		return e.RemoveOperatorFile()
	}
	f, err := os.CreateTemp(e.StoreDir, OperatorFile+".*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.WriteString(clientURL(ns, "operator", password) + "\n")
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), filepath.Join(e.StoreDir, OperatorFile))
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

func (e Embedded) RemoveOperatorFile() error {
	err := os.Remove(filepath.Join(e.StoreDir, OperatorFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// clientURL returns the URL for a user on this machine.
func clientURL(ns *server.Server, user, password string) string {
	u := config.ParseServerURL(ns.ClientURL())
	u.Host, u.User = Reachable(u.Host), url.UserPassword(user, password)
	return u.String()
}

// ConnectEmbedded starts the embedded server and connects to it over loopback, since the
// in-process connection of nats.go is an unbuffered pipe: if both ends write at once, both
// may block until a write deadline. durably is false for a demonstration.
func ConnectEmbedded(c *config.Config, name string, durably bool, options ...nats.Option) (*Link, error) {
	e := NewEmbedded(c, durably)
	ns, url, err := e.Start()
	if err != nil {
		return nil, err
	}
	own := ForEmbedded(c, url)
	common, err := Options(own, name, false)
	if err == nil {
		var nc *nats.Conn
		nc, err = nats.Connect(url, slices.Concat(common, options)...)
		if err == nil {
			link, err := NewLink(own, nc, "")
			if err == nil {
				link.Embedded, link.URL, link.onShutdown = ns, url, e.RemoveOperatorFile
				return link, nil
			}
		}
	}
	ns.Shutdown()
	return nil, err
}

// NewEmbedded returns the configured server.
func NewEmbedded(c *config.Config, durably bool) Embedded {
	e := Embedded{StoreDir: c.EmbeddedStoreDir, Listen: c.EmbeddedListen, Prefix: c.NATSPrefix, Durable: c.ConsumerDurable, SyncAlways: durably}
	if durably {
		e.Passwords = embeddedPasswords()
	}
	return e
}

// ForEmbedded returns c for a connection to the embedded server as settled.
func ForEmbedded(c *config.Config, url string) *config.Config {
	own := *c
	own.NATSURL, own.NATSDomain, own.NATSCredentialsFile, own.NATSNKeyFile, own.NATSInboxPrefix = url, "", "", "", ""
	own.NATSCAFile, own.NATSCertFile, own.NATSKeyFile = "", "", ""
	return &own
}
