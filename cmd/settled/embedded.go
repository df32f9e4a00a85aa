package main

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

	shipped "settled/deploy"
)

// embeddedServer is a JetStream server in this process, with the accounts of
// deploy/nats.
type embeddedServer struct {
	storeDir, listen string
	prefix, durable  string            // nats.prefix and consumer.durable
	durably          bool              // sync every message to disk before it is acknowledged
	passwords        map[string]string // by user; a user without one can't connect
}

// embeddedUsers are the users that others connect as, and the environment variables
// with their passwords, which nats-server reads too.
var embeddedUsers = map[string]string{
	"upstream": "UPSTREAM_PASSWORD", "dashboard": "DASHBOARD_PASSWORD", "operator": "OPERATOR_PASSWORD", "partner": "PARTNER_PASSWORD",
}

// embeddedPasswords are the passwords that the environment has.
func embeddedPasswords() map[string]string {
	passwords := map[string]string{}
	for user, variable := range embeddedUsers {
		if password := os.Getenv(variable); password != "" {
			passwords[user] = password
		}
	}
	return passwords
}

// start runs the server until it is shut down, and returns the URL by which this
// process connects to it as settled. Where no password is set, a client without
// credentials on this machine may publish outcomes and receive results; to listen for
// other machines then is refused.
func (e embeddedServer) start() (ns *server.Server, url string, err error) {
	options, err := e.options()
	if err != nil {
		return nil, "", err
	}
	if err := e.adoptGlobalAccount(); err != nil {
		return nil, "", fmt.Errorf("embedded.store_dir: %w", err)
	}
	if ns, err = server.NewServer(options); err != nil {
		return nil, "", fmt.Errorf("embedded NATS server: %w", err)
	}
	failed := &startLog{}
	ns.SetLoggerV2(failed, false, false, false)
	ns.Start()
	if err := failed.waitReady(ns, 20*time.Second); err != nil {
		ns.Shutdown()
		return nil, "", fmt.Errorf("embedded NATS server: %w: is embedded.listen (%s) taken by another program, or embedded.store_dir (%s) unreadable?", err, e.listen, e.storeDir)
	}
	if err := e.writeOperatorFile(ns); err != nil {
		ns.Shutdown()
		return nil, "", fmt.Errorf("embedded.store_dir: %w", err)
	}
	return ns, clientURL(ns, "settled", e.passwords["settled"]), nil
}

// startLog keeps why a server can't start: the server only logs it.
type startLog struct {
	mu  sync.Mutex
	why error
}

// Fatalf implements server.Logger, as the other methods do.
func (l *startLog) Fatalf(format string, v ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.why = fmt.Errorf(format, v...)
}

func (*startLog) Noticef(string, ...any) {}
func (*startLog) Warnf(string, ...any)   {}
func (*startLog) Errorf(string, ...any)  {}
func (*startLog) Debugf(string, ...any)  {}
func (*startLog) Tracef(string, ...any)  {}

// waitReady waits until the server takes connections, or can't start.
func (l *startLog) waitReady(ns *server.Server, most time.Duration) error {
	for deadline := time.Now().Add(most); !ns.ReadyForConnections(100 * time.Millisecond); {
		l.mu.Lock()
		why := l.why
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

// options are the server's, with the accounts from their text.
func (e *embeddedServer) options() (*server.Options, error) {
	host, portText, err := net.SplitHostPort(e.listen)
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
	open := len(e.passwords) == 0
	if open && !loopback(e.listen) {
		return nil, fmt.Errorf("embedded.listen: other machines reach %s, and no password is set: set UPSTREAM_PASSWORD in the environment (and DASHBOARD_PASSWORD, OPERATOR_PASSWORD for clients of these roles), or listen on 127.0.0.1", e.listen)
	}
	cosign := e.passwords["partner"] != "" && os.Getenv("PARTNER_COSIGN") != ""
	text, err := shipped.Accounts(cosign, e.prefix, e.durable)
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
		admitUnnamed(options)
	}
	options.ServerName, options.Host, options.Port, options.NoSigs, options.NoLog = "settled", host, port, true, true
	options.JetStream, options.StoreDir, options.SyncAlways, options.DisableJetStreamBanner = true, e.storeDir, e.durably, true
	return options, nil
}

// unsetPasswords gives the text's variables a value, in place of the environment's.
// setPasswords replaces it.
const unsetPasswords = "SETTLED_PASSWORD: unset\nUPSTREAM_PASSWORD: unset\nDASHBOARD_PASSWORD: unset\nOPERATOR_PASSWORD: unset\n"

// setPasswords gives each user its password. settled's own, and each that is not set,
// is random.
func (e *embeddedServer) setPasswords(options *server.Options) {
	given := e.passwords
	e.passwords = map[string]string{}
	for _, user := range options.Users {
		password := given[user.Username]
		if password == "" || user.Username == "settled" {
			password = rand.Text()
		}
		user.Password, e.passwords[user.Username] = password, password
	}
}

// admitUnnamed has clients without credentials publish outcomes and receive results,
// and nothing else. They use the client libraries' usual inboxes.
func admitUnnamed(options *server.Options) {
	const unnamed = "unnamed"
	for _, user := range options.Users {
		if user.Username != "upstream" {
			continue
		}
		outcomes, results := []string{}, []string{"_INBOX.>"}
		for _, subject := range user.Permissions.Publish.Allow {
			if !strings.HasPrefix(subject, "$JS."+ledgerDomain) {
				outcomes = append(outcomes, subject)
			}
		}
		for _, subject := range user.Permissions.Subscribe.Allow {
			if !strings.HasPrefix(subject, inboxPrefix) {
				results = append(results, subject)
			}
		}
		options.Users = append(options.Users, &server.User{Username: unnamed, Password: rand.Text(), Account: user.Account, Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Allow: outcomes}, Subscribe: &server.SubjectPermission{Allow: results}}})
		options.NoAuthUser = unnamed
		return
	}
}

// adoptGlobalAccount moves the streams of an embedded server that had no accounts to
// the account SETTLED. The files of a stream do not name their account.
func (e embeddedServer) adoptGlobalAccount() error {
	dir := filepath.Join(e.storeDir, server.JetStreamStoreDir)
	from, to := filepath.Join(dir, server.DEFAULT_GLOBAL_ACCOUNT), filepath.Join(dir, "SETTLED")
	if _, err := os.Stat(filepath.Join(from, "streams")); err != nil {
		return nil //nolint:nilerr // there are none
	}
	if _, err := os.Stat(to); err == nil {
		if left, err := os.ReadDir(filepath.Join(from, "streams")); err != nil || len(left) == 0 {
			return err
		}
		return fmt.Errorf("both %s and %s hold streams: move away the ones that are not the ledger's", from, to)
	}
	return os.Rename(from, to)
}

// writeOperatorFile leaves the operator's URL for commands of this user on this machine.
// A password that is kept as a hash only can't be written there.
func (e embeddedServer) writeOperatorFile(ns *server.Server) error {
	password := e.passwords["operator"]
	if strings.HasPrefix(password, "$2") {
		return e.removeOperatorFile()
	}
	f, err := os.CreateTemp(e.storeDir, operatorFile+".*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.WriteString(clientURL(ns, "operator", password) + "\n")
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), filepath.Join(e.storeDir, operatorFile))
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

func (e embeddedServer) removeOperatorFile() error {
	err := os.Remove(filepath.Join(e.storeDir, operatorFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// clientURL is where a user of this machine reaches the server.
func clientURL(ns *server.Server, user, password string) string {
	u := serverURL(ns.ClientURL())
	u.Host, u.User = reachable(u.Host), url.UserPassword(user, password)
	return u.String()
}

// connectEmbedded starts the embedded server and connects to it over loopback. The
// in-process connection of nats.go is an unbuffered pipe: where both ends write
// at the same moment neither may get to read, until a write deadline cuts it.
// durably is false for a demonstration, whose data nobody keeps.
func (c *config) connectEmbedded(name string, durably bool, options ...nats.Option) (*natsLink, error) {
	e := c.embeddedServer(durably)
	ns, url, err := e.start()
	if err != nil {
		return nil, err
	}
	own := c.atEmbedded(url)
	common, err := own.natsOptions(name, false)
	if err == nil {
		var nc *nats.Conn
		nc, err = nats.Connect(url, slices.Concat(common, options)...)
		if err == nil {
			link, err := own.link(nc, "")
			if err == nil {
				link.embedded, link.url, link.ended = ns, url, e.removeOperatorFile
				return link, nil
			}
		}
	}
	ns.Shutdown()
	return nil, err
}

// embeddedServer is the configured one.
func (c *config) embeddedServer(durably bool) embeddedServer {
	e := embeddedServer{storeDir: c.embeddedStoreDir, listen: c.embeddedListen, prefix: c.natsPrefix, durable: c.consumerDurable, durably: durably}
	if durably {
		e.passwords = embeddedPasswords()
	}
	return e
}

// atEmbedded is c for a connection to the embedded server as settled.
func (c *config) atEmbedded(url string) *config {
	own := *c
	own.natsURL, own.natsDomain, own.natsCredentials, own.natsNKey, own.natsInbox = url, "", "", "", ""
	own.natsCA, own.natsCert, own.natsCertKey = "", "", ""
	return &own
}
