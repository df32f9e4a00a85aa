package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"settled/cmd/proof/process"
)

// Three servers that are started as cluster.conf says at its top reach one another,
// each of them both others: a cluster forms with less, and then loses messages
// between two of its servers.
func TestClusterConfigurationFormsAMesh(t *testing.T) {
	for _, name := range []string{"SETTLED", "UPSTREAM", "DASHBOARD", "OPERATOR", "ROUTE"} {
		t.Setenv(name+"_PASSWORD", "test"+strings.ToLower(name))
	}
	var ports []int
	for range 3 {
		port, err := process.FreePort()
		must(t, err)
		ports = append(ports, port)
	}
	var servers []*server.Server
	for i := range ports {
		t.Setenv("NATS_NAME", fmt.Sprintf("n%d", i+1))
		others := slices.Delete(slices.Clone(ports), i, i+1)
		for r, route := range routesAsDocumented(t) {
			t.Setenv(fmt.Sprintf("NATS_ROUTE_%d", r+1), fmt.Sprintf(route, others[r]))
		}
		servers = append(servers, clusterServer(t, ports[i]))
	}
	for _, s := range servers {
		for deadline := time.Now().Add(20 * time.Second); reached(t, s) < 2; <-time.After(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s reaches %d of the other 2 servers", s.Name(), reached(t, s))
			}
		}
	}
}

// routesAsDocumented are the two routes of the file's first comment, as formats that
// take a port.
func routesAsDocumented(t *testing.T) []string {
	text, err := os.ReadFile("../../deploy/nats/cluster.conf")
	must(t, err)
	var routes []string
	for _, m := range regexp.MustCompile(`NATS_ROUTE_\d=(\S+)@?n\d:6222`).FindAllStringSubmatch(string(text), -1) {
		routes = append(routes, os.ExpandEnv(m[1])+"127.0.0.1:%d")
	}
	if len(routes) != 2 {
		t.Fatalf("the routes at the top of cluster.conf: %q", routes)
	}
	return routes
}

func clusterServer(t *testing.T, port int) *server.Server {
	o, err := server.ProcessConfigFile("../../deploy/nats/cluster.conf")
	must(t, err)
	o.Host, o.Port, o.StoreDir, o.NoLog, o.NoSigs = "127.0.0.1", server.RANDOM_PORT, t.TempDir(), true, true
	o.Cluster.Host, o.Cluster.Port = "127.0.0.1", port
	s, err := server.NewServer(o)
	must(t, err)
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	return s
}

// reached is how many other servers a server has routes to.
func reached(t *testing.T, s *server.Server) int {
	z, err := s.Routez(nil)
	must(t, err)
	others := map[string]bool{}
	for _, r := range z.Routes {
		others[r.RemoteName] = true
	}
	return len(others)
}
