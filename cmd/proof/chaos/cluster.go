package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"settled/cmd/proof/process"
)

// servers is the number of NATS servers. Each has a replica of every stream.
const servers = 3

// password is that of every user; the servers listen only on the loopback interface.
const password = "chaos"

// runner is the name of this process among the clients of the cluster.
const runner = "runner"

// cluster is the NATS servers. A proxy stands between each client and each server,
// and between every two servers: proxies[name][i] leads from name to server i.
type cluster struct {
	servers     [servers]*process.Process
	clientPorts [servers]int
	routePorts  [servers]int
	proxies     map[string][]*proxy
	disk        *smallDisk // of the last server; nil if there is none
	diskErr     error      // why there is none
}

// newCluster prepares the servers without starting them. On an error the caller closes
// the cluster nevertheless.
func newCluster(p process.Programs, dir, logs string, diskSize int64, clients []string) (*cluster, error) {
	c := &cluster{proxies: map[string][]*proxy{}}
	var err error
	for i := range servers {
		if c.clientPorts[i], err = process.FreePort(); err != nil {
			return c, err
		}
		if c.routePorts[i], err = process.FreePort(); err != nil {
			return c, err
		}
	}
	for _, name := range clients {
		if err := c.openProxies(name, c.clientPorts); err != nil {
			return c, err
		}
	}
	for i := range servers {
		if err := c.openProxies(serverName(i), c.routePorts); err != nil {
			return c, err
		}
		if c.servers[i], err = c.newServer(i, p, dir, logs); err != nil {
			return c, err
		}
	}
	c.disk, c.diskErr = mountSmallDisk(filepath.Join(dir, serverName(servers-1), "jetstream"), diskSize)
	return c, nil
}

func (c *cluster) openProxies(name string, ports [servers]int) error {
	for _, port := range ports {
		p, err := openProxy(fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return err
		}
		c.proxies[name] = append(c.proxies[name], p)
	}
	return nil
}

func serverName(i int) string { return fmt.Sprintf("nats-%d", i+1) }

const serverConfiguration = `server_name: %s
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

// newServer writes a server's configuration: the deployed one, with its own ports. The
// servers reach each other only through the proxies: each has explicit routes, and
// advertises an address on which nobody listens.
func (c *cluster) newServer(i int, p process.Programs, dir, logs string) (*process.Process, error) {
	home := filepath.Join(dir, serverName(i))
	if err := os.MkdirAll(home, 0o755); err != nil {
		return nil, err
	}
	for _, name := range []string{"accounts.conf", "settled.conf", "roles.conf"} {
		text, err := os.ReadFile(filepath.Join(p.Root, "deploy", "nats", name))
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(home, name), text, 0o600); err != nil {
			return nil, err
		}
	}
	var routes []string
	for k, proxy := range c.proxies[serverName(i)] {
		if k != i {
			routes = append(routes, "nats://route:"+password+"@"+proxy.address())
		}
	}
	file := filepath.Join(home, "nats.conf")
	text := fmt.Sprintf(serverConfiguration, serverName(i), c.clientPorts[i], filepath.Join(home, "jetstream"), c.routePorts[i], password, strings.Join(routes, ", "))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	var env []string
	for _, user := range []string{"SETTLED", "UPSTREAM", "DASHBOARD", "OPERATOR"} {
		env = append(env, user+"_PASSWORD="+password)
	}
	return process.New(logs, serverName(i), p.NATS, []string{"-c", file}, env), nil
}

// url lists the servers for a client that connects as a user.
func (c *cluster) url(client, user string) string {
	var all []string
	for _, p := range c.proxies[client] {
		all = append(all, "nats://"+user+":"+password+"@"+p.address())
	}
	return strings.Join(all, ",")
}

// connect connects this process as a user.
func (c *cluster) connect(user string) (*nats.Conn, jetstream.JetStream, error) {
	nc, err := nats.Connect(c.url(runner, user), nats.Name("chaos "+user), nats.MaxReconnects(-1), nats.ReconnectWait(200*time.Millisecond),
		nats.CustomInboxPrefix("_INBOX_"+user), nats.RetryOnFailedConnect(true), nats.PingInterval(time.Second), nats.MaxPingsOutstanding(2), nats.Timeout(2*time.Second),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		return nil, nil, err
	}
	if user == "settled" {
		js, err := jetstream.New(nc)
		return nc, js, err
	}
	js, err := jetstream.NewWithDomain(nc, "ledger") // as in deploy/nats/roles.conf
	return nc, js, err
}

// around returns the proxies to and from a server: those of the other servers, and if
// wanted those of the clients.
func (c *cluster) around(server int, clients bool) []*proxy {
	var all []*proxy
	for name, proxies := range c.proxies {
		switch isServer := strings.HasPrefix(name, "nats-"); {
		case name == serverName(server):
			all = append(all, proxies...)
		case isServer || clients:
			all = append(all, proxies[server])
		}
	}
	return all
}

// close kills the servers and closes the proxies.
func (c *cluster) close() {
	for _, s := range c.servers {
		if s != nil {
			s.Kill()
		}
	}
	for _, proxies := range c.proxies {
		for _, p := range proxies {
			p.close()
		}
	}
	if c.disk != nil {
		c.disk.unmount()
	}
}
