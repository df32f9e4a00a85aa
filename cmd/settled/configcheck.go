package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
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
			return err
		}
	}
	return nil
}

// checkServers refuses URLs that name no NATS server.
func checkServers(servers string) error {
	kinds := map[bool]bool{} // by whether they are WebSockets
	for _, text := range strings.Split(servers, ",") {
		text = strings.TrimSpace(text)
		if !strings.Contains(text, "://") {
			text = "nats://" + text
		}
		u, err := url.Parse(text)
		if err != nil || u.Hostname() == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, strings.ToLower(u.Scheme)) {
			return fmt.Errorf("nats.url: %s: want nats://, tls://, ws:// or wss:// and a host, or several of them", withoutPassword(text))
		}
		if !validPort(u.Port()) {
			return fmt.Errorf("nats.url: %s: there is no port %s: want one up to 65535", withoutPassword(text), u.Port())
		}
		kinds[strings.HasPrefix(strings.ToLower(u.Scheme), "ws")] = true
	}
	if len(kinds) > 1 {
		return errors.New("nats.url: ws:// and wss:// can't stand beside nats:// and tls://: name servers of one kind")
	}
	return nil
}

// checkListen refuses an address that nothing can listen at.
func checkListen(key, address string) error {
	host, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil || port == "" || host != "" && !validHost(host) {
		return fmt.Errorf("%s: %q: want a host and a port, such as 127.0.0.1:8090", key, address)
	}
	return nil
}

// validPort reports whether a URL's port can be one; the empty one is the scheme's own.
func validPort(port string) bool {
	_, err := strconv.ParseUint(port, 10, 16)
	return port == "" || err == nil
}

var hostName = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?$`)

// validHost reports whether a text is an IP address or can be a host's name. A name
// whose last label is a number would be an IP address.
func validHost(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	labels := strings.Split(strings.TrimSuffix(host, "."), ".")
	_, err := strconv.Atoi(labels[len(labels)-1])
	return hostName.MatchString(host) && err != nil
}
