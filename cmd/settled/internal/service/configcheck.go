package service

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"

	"settled/clearnode"
	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/natsconn"
)

// Check rejects a configuration that `settled serve` can't run with, by the configuration
// and the files that it names. `settled serve` and `settled config check` call it.
func Check(c *config.Config) (clearnode.Config, error) {
	if err := c.Validate(); err != nil {
		return clearnode.Config{}, err
	}
	node, err := c.Node()
	if err != nil {
		return node, err
	}
	if err := checkNATS(c); err != nil {
		return node, err
	}
	if err := checkListen("http.listen", c.HTTPListen); err != nil {
		return node, err
	}
	if err := checkProfiles(c); err != nil {
		return node, err
	}
	_, err = readToken(c.HTTPTokenFile)
	return node, err
}

// checkNATS rejects settings that no connection can be made with.
func checkNATS(c *config.Config) error {
	if c.Embedded {
		if err := checkListen("embedded.listen", c.EmbeddedListen); err != nil {
			return err
		}
		e := natsconn.NewEmbedded(c, true)
		_, err := e.Options()
		return err
	}
	if err := checkServers(c.NATSURL); err != nil {
		return err
	}
	options, err := natsconn.Options(c, "settled", true)
	if err != nil {
		return err
	}
	tried := nats.GetDefaultOptions()
	for _, option := range options {
		if err := option(&tried); err != nil {
			return err
		}
	}
	return nil
}

// checkServers rejects URLs that name no NATS server.
func checkServers(servers string) error {
	kinds := map[bool]bool{} // by whether they are WebSockets
	for _, text := range strings.Split(servers, ",") {
		text = strings.TrimSpace(text)
		if !strings.Contains(text, "://") {
			text = "nats://" + text
		}
		u, err := url.Parse(text)
		if err != nil || u.Hostname() == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, strings.ToLower(u.Scheme)) {
			return fmt.Errorf("nats.url: %s: want nats://, tls://, ws:// or wss:// and a host, or several of them", config.RedactURL(text))
		}
		if !config.ValidPort(u.Port()) {
			return fmt.Errorf("nats.url: %s: there is no port %s: want one up to 65535", config.RedactURL(text), u.Port())
		}
		kinds[strings.HasPrefix(strings.ToLower(u.Scheme), "ws")] = true
	}
	if len(kinds) > 1 {
		return errors.New("nats.url: ws:// and wss:// can't stand beside nats:// and tls://: name servers of one kind")
	}
	return nil
}

// checkProfiles rejects profiles that other machines could read.
func checkProfiles(c *config.Config) error {
	if c.HTTPProfiles && !natsconn.IsLoopback(c.HTTPListen) {
		return fmt.Errorf("http.pprof: other machines reach %s, and profiles show what this process works on: set http.listen to a loopback address, such as 127.0.0.1:8090, or http.pprof to false", c.HTTPListen)
	}
	return nil
}

// checkListen rejects an invalid address.
func checkListen(key, address string) error {
	host, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil || port == "" || host != "" && !config.ValidHost(host) {
		return fmt.Errorf("%s: %q: want a host and a port, such as 127.0.0.1:8090", key, address)
	}
	return nil
}
