package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"settled/clearnode/clearnodetest"
	"settled/cmd/settled/internal/natsconn"
	"settled/cmd/settled/internal/service"
	"settled/settlement"
)

// cluster is three JetStream servers in this process, and a deployment on them.
type cluster struct {
	*deployment
	servers []*server.Server
	options map[string]server.Options // by name
}

// deployCluster is deploy on a cluster, its streams with three replicas.
func deployCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{deployment: deployOn(t, clearnodetest.Config{}), options: map[string]server.Options{}}
	var ports [3]int
	var routes []*url.URL
	for i := range ports {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		c.must(err)
		ports[i] = listener.Addr().(*net.TCPAddr).Port
		c.must(listener.Close())
		routes = append(routes, &url.URL{Scheme: "nats", Host: fmt.Sprintf("127.0.0.1:%d", ports[i])})
	}
	var urls []string
	for i, port := range ports {
		s := c.startMember(server.Options{
			ServerName: fmt.Sprint("n", i), Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, JetStream: true, Routes: routes,
			StoreDir: filepath.Join(c.dir, fmt.Sprint("n", i)), Cluster: server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: port},
		})
		c.servers = append(c.servers, s)
		urls = append(urls, s.ClientURL())
	}
	c.until("there is a meta leader that knows three servers", func() bool {
		for _, s := range c.servers {
			if s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == len(ports) {
				return true
			}
		}
		return false
	})
	c.nats.Close()
	c.cfg.NATSURL, c.cfg.NATSReplicas = strings.Join(urls, ","), len(ports)
	c.cfg.ConsumerAckWait, c.cfg.ConsumerBackoffInitial, c.cfg.ConsumerBackoffMax = 3*time.Second, 200*time.Millisecond, time.Second
	var err error
	c.nats, err = natsconn.Connect(&c.cfg, "test", true)
	c.must(err)
	return c
}

func (c *cluster) startMember(o server.Options) *server.Server {
	c.t.Helper()
	running := o
	s := startNATS(c.t, &running)
	if o.Port == server.RANDOM_PORT {
		o.Port = s.Addr().(*net.TCPAddr).Port
	}
	c.options[o.ServerName] = o
	return s
}

// lose shuts down the server that leads a stream, and returns how to start it again.
func (c *cluster) lose(stream string) (again func()) {
	c.t.Helper()
	leader := ""
	c.until(stream+" has a leader", func() bool {
		ctx, cancel := context.WithTimeout(c.t.Context(), time.Second)
		defer cancel()
		if s, err := c.nats.JS.Stream(ctx, stream); err == nil {
			leader = s.CachedInfo().Cluster.Leader
		}
		return leader != ""
	})
	for i, s := range c.servers {
		if s.Name() == leader {
			s.Shutdown()
			s.WaitForShutdown()
			return func() { c.servers[i] = c.startMember(c.options[leader]) }
		}
	}
	c.t.Fatalf("no server %s", leader)
	return nil
}

// delete deletes a stream, or the durable where it is named too.
func (c *cluster) delete(stream, durable string) {
	c.t.Helper()
	c.until("it is deleted", func() bool {
		ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Second)
		defer cancel()
		if durable != "" {
			err := c.nats.JS.DeleteConsumer(ctx, stream, durable)
			return err == nil || errors.Is(err, jetstream.ErrConsumerNotFound)
		}
		err := c.nats.JS.DeleteStream(ctx, stream)
		return err == nil || errors.Is(err, jetstream.ErrStreamNotFound)
	})
}

// some publishes n outcomes, each for a session of its own.
func (c *cluster) some(name string, n int) map[settlement.SessionID]uint64 {
	c.t.Helper()
	sequences := map[settlement.SessionID]uint64{}
	for i := range n {
		session := c.open()
		sequences[session] = c.publish("partial_service", fmt.Sprint(name, "-", i), session, c.partial())
	}
	return sequences
}

func (c *cluster) allClosed(sequences map[settlement.SessionID]uint64) {
	c.t.Helper()
	for session, sequence := range sequences {
		c.wantClosed(session, sequence)
	}
}

// Two services on a cluster of three servers. The leader of the ledger, then that of
// the outcomes, is lost while they settle; then the durable, the stream of outcomes
// and that of dead letters are deleted under them.
func TestServicesOnACluster(t *testing.T) {
	if testing.Short() {
		t.Skip("long: make proof")
	}
	t.Parallel() // it waits more than it works
	c := deployCluster(t)
	a, _ := c.serve()
	b, _ := c.serve()
	closed := 0
	settle := func(what string, n int, meanwhile func()) {
		sequences := c.some(what, n)
		if meanwhile != nil {
			meanwhile()
		}
		c.allClosed(sequences)
		closed += n
	}
	for _, stream := range []string{"SETTLEMENTS", "OUTCOMES"} {
		var again func()
		settle("leader of "+stream, 40, func() { again = c.lose(stream) })
		again()
		settle("after "+stream, 5, nil)
	}
	c.until("both are ready", func() bool { return a.Ready() == nil && b.Ready() == nil })

	settle("durable", 40, func() { c.delete("OUTCOMES", "settled") })
	c.until("both are ready again", func() bool { return a.Ready() == nil && b.Ready() == nil })
	c.deletedOutcomes(a, b)
	closed += 2

	c.delete("DEADLETTERS", "")
	session := c.open()
	stranger := map[string]any{"parties": map[string]any{"provider": "0x00000000000000000000000000000000000000aa"}}
	failed := c.publish("payment_completed", "after the letters", session, stranger)
	c.wantCode(c.result(session, failed), settlement.NotAParticipant)
	if n := len(c.letters()); n != 1 {
		t.Errorf("%d dead letters in the stream that was made anew, want 1", n)
	}
	c.until("every message is answered", c.answered)
	c.verify(closed)
}

// deletedOutcomes deletes the stream of outcomes under the services: they say that
// they aren't ready, and make it again; what was settled before and is published once
// more is known, and what was lost can be published again.
func (c *cluster) deletedOutcomes(services ...*service.Service) {
	c.t.Helper()
	known, lost := c.open(), c.open()
	first := c.publish("partial_service", "known", known, c.partial())
	c.result(known, first)
	c.until("it is answered", c.answered)
	c.delete("OUTCOMES", "")
	for _, s := range services {
		c.until("a service says that it isn't ready", func() bool { return s.Ready() != nil })
	}
	for _, s := range services {
		c.until("a service is ready again", func() bool { return s.Ready() == nil })
	}
	again := c.publish("partial_service", "known", known, c.partial())
	anew := c.publish("partial_service", "lost", lost, c.partial())
	if again <= first {
		c.t.Errorf("sequence %d comes after %d", again, first)
	}
	c.result(lost, anew)
	c.until("every message is answered", c.answered)
	if n := len(c.entries(known)); n != 2 {
		c.t.Errorf("%d entries of a session that was settled once", n)
	}
}

// The ledger is deleted under a service: nothing is sent or decided any more, and no
// outcome is lost.
func TestDeletedLedger(t *testing.T) {
	t.Parallel() // it waits more than it works
	c := deployCluster(t)
	s, stop := c.serve()
	before := c.some("before", 3)
	c.allClosed(before)
	c.until("every message is answered", c.answered)
	c.delete("SETTLEMENTS", "")
	closes := c.node.Requests("close_app_session")
	session := c.open()
	sequence := c.publish("partial_service", "meanwhile", session, c.partial())
	c.until("the outcome waits for the ledger", func() bool {
		count, _ := s.Metrics.Waiting.Ages(time.Now())
		return count[string(settlement.LedgerUnavailable)] > 0
	})
	if n := c.node.Requests("close_app_session"); n != closes {
		t.Errorf("%d closes were sent without a ledger", n-closes)
	}
	stop()
	s, _ = c.serve()
	c.wantClosed(session, sequence)
	c.until("every message is answered", c.answered)
	c.verify(1)
}
