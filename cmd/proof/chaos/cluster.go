package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"settled/cmd/proof/process"
)

// servers is how many NATS servers there are, each with a copy of every stream.
const servers = 3

// password is everybody's: nothing outside loopback reaches these servers.
const password = "chaos"

// cluster is the NATS servers, with a proxy on the way of every party to every
// server, the other servers included: parties[name][i] leads to server i.
type cluster struct {
	servers [servers]*process.Process
	ports   [servers]int
	routes  [servers]int
	parties map[string][]*proxy
	disk    *smallDisk // of the last server; nil: it has none
	noDisk  error      // why
}

// runnerParty is this process among the parties.
const runnerParty = "runner"

// newCluster prepares the servers; nothing runs yet.
func newCluster(programs process.Programs, dir, logs string, disk int64, parties []string) (*cluster, error) {
	c := &cluster{parties: map[string][]*proxy{}}
	var err error
	for i := range servers {
		c.ports[i], err = process.FreePort()
		if err == nil {
			c.routes[i], err = process.FreePort()
		}
		if err != nil {
			return c, err
		}
	}
	for _, name := range parties {
		if c.parties[name], err = proxiesTo(c.ports[:]); err != nil {
			return c, err
		}
	}
	for i := range servers {
		if c.parties[serverName(i)], err = proxiesTo(c.routes[:]); err != nil {
			return c, err
		}
		if c.servers[i], err = c.server(i, programs, dir, logs); err != nil {
			return c, err
		}
	}
	last := filepath.Join(dir, serverName(servers-1), "jetstream")
	c.disk, c.noDisk = mountSmallDisk(last, disk)
	return c, nil
}

func serverName(i int) string { return fmt.Sprintf("nats-%d", i+1) }

// server writes a server's configuration: the one that is deployed, with ports of
// its own. Servers reach one another through the proxies alone: each is told all
// routes, and advertises an address where nobody is.
func (c *cluster) server(i int, p process.Programs, dir, logs string) (*process.Process, error) {
	home := filepath.Join(dir, serverName(i))
	if err := os.MkdirAll(home, 0o755); err != nil {
		return nil, err
	}
	for _, name := range []string{"accounts.conf", "settled.conf", "roles.conf"} {
		text, err := os.ReadFile(filepath.Join(p.Root, "deploy", "nats", name))
		if err == nil {
			err = os.WriteFile(filepath.Join(home, name), text, 0o600)
		}
		if err != nil {
			return nil, err
		}
	}
	var routes []string
	for k, proxy := range c.parties[serverName(i)] {
		if k != i {
			routes = append(routes, "nats://route:"+password+"@"+proxy.address())
		}
	}
	conf := filepath.Join(home, "nats.conf")
	text := fmt.Sprintf(serverConf, serverName(i), c.ports[i], filepath.Join(home, "jetstream"), c.routes[i], password, strings.Join(routes, ", "))
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return nil, err
	}
	var env []string
	for _, user := range []string{"SETTLED", "UPSTREAM", "DASHBOARD", "OPERATOR"} {
		env = append(env, user+"_PASSWORD="+password)
	}
	return process.New(logs, serverName(i), p.NATS, []string{"-c", conf}, env), nil
}

const serverConf = `server_name: %s
listen: 127.0.0.1:%d
jetstream { store_dir: %q, sync_interval: always, max_file_store: 4GB, max_memory_store: 64MB }
cluster {
  name: chaos
  listen: 127.0.0.1:%d
  advertise: "127.0.0.1:1"
  no_advertise: true
  authorization { user: route, password: %s, timeout: 5 }
  routes: [ %s ]
}
include "accounts.conf"
`

func proxiesTo(ports []int) ([]*proxy, error) {
	var all []*proxy
	for _, port := range ports {
		p, err := openProxy(fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return all, err
		}
		all = append(all, p)
	}
	return all, nil
}

// url is how a party reaches the servers, as a user of theirs.
func (c *cluster) url(party, user string) string {
	var all []string
	for _, p := range c.parties[party] {
		all = append(all, "nats://"+user+":"+password+"@"+p.address())
	}
	return strings.Join(all, ",")
}

// around are the proxies on all ways to and from one server: of the other servers,
// and of the parties too where those are parted from it as well.
func (c *cluster) around(server int, parties bool) []*proxy {
	var all []*proxy
	own := serverName(server)
	for name, proxies := range c.parties {
		switch isServer := strings.HasPrefix(name, "nats-"); {
		case name == own:
			all = append(all, proxies...)
		case isServer || parties:
			all = append(all, proxies[server])
		}
	}
	return all
}

func (c *cluster) start() error {
	var errs []error
	for _, s := range c.servers {
		errs = append(errs, s.Start())
	}
	return errors.Join(errs...)
}

// close kills what runs and takes the ways away.
func (c *cluster) close() {
	for _, s := range c.servers {
		if s != nil {
			s.Kill()
		}
	}
	for _, proxies := range c.parties {
		for _, p := range proxies {
			p.close()
		}
	}
	if c.disk != nil {
		c.disk.unmount()
	}
}
