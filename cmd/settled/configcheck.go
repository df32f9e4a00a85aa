package main

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"

	"settled/clearnode"
)

// checkService refuses what `settled serve` can't run with, as far as the configuration and
// the files that it names tell. serve calls it first, and so does `settled config check`.
func (c *config) checkService() (clearnode.Config, error) {
	if err := c.check(); err != nil {
		return clearnode.Config{}, err
	}
	node, err := c.nodeConfig(nil)
	if err != nil {
		return node, err
	}
	if err := c.checkNATS(); err != nil {
		return node, err
	}
	if err := checkListen("http.listen", c.httpListen); err != nil {
		return node, err
	}
	_, err = readToken(c.httpTokenFile)
	return node, err
}

// checkNATS refuses what no connection can be made with.
func (c *config) checkNATS() error {
	if c.embedded {
		if err := checkListen("embedded.listen", c.embeddedListen); err != nil {
			return err
		}
		e := c.embeddedServer(true)
		_, err := e.options()
		return err
	}
	if err := checkServers(c.natsURL); err != nil {
		return err
	}
	options, err := c.natsOptions("settled", true)
	if err != nil {
		return err
	}
	tried := nats.GetDefaultOptions()
	for _, option := range options {
		if err := option(&tried); err != nil {
			return fmt.Errorf("nats: %w", err)
		}
	}
	return nil
}

// checkServers refuses URLs that name no NATS server.
func checkServers(servers string) error {
	for _, text := range strings.Split(servers, ",") {
		text = strings.TrimSpace(text)
		if !strings.Contains(text, "://") {
			text = "nats://" + text
		}
		u, err := url.Parse(text)
		if err != nil || u.Hostname() == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, strings.ToLower(u.Scheme)) {
			return fmt.Errorf("nats.url: %s: want nats://, tls://, ws:// or wss:// and a host, or several of them", withoutPassword(text))
		}
	}
	return nil
}

// checkListen refuses an address that nothing can listen at.
func checkListen(key, address string) error {
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil || port == "" {
		return fmt.Errorf("%s: %q: want a host and a port, such as 127.0.0.1:8090", key, address)
	}
	return nil
}
