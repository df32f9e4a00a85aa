package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"settled/ledger"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
)

// runCluster is three JetStream servers in this process, with a leader among them.
func runCluster(t *testing.T) []*server.Server {
	t.Helper()
	var ports [3]int
	var routes []*url.URL
	for i := range ports {
		ports[i] = freePort(t)
		routes = append(routes, &url.URL{Scheme: "nats", Host: fmt.Sprintf("127.0.0.1:%d", ports[i])})
	}
	servers := make([]*server.Server, len(ports))
	for i, port := range ports {
		servers[i] = startServer(t, server.Options{
			ServerName: fmt.Sprintf("n%d", i), Routes: routes,
			Cluster: server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: port},
		})
	}
	for _, s := range servers {
		awaitServer(t, s)
	}
	await(t, "a meta leader that knows three servers", func() bool {
		for _, s := range servers {
			if s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == len(servers) {
				return true
			}
		}
		return false
	})
	return servers
}

// freePort is a port that was free a moment ago. Servers of a cluster must be told
// each other's before they start.
func freePort(t *testing.T) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	return ln.Addr().(*net.TCPAddr).Port
}

// await asks until it is so.
func await(t *testing.T, what string, so func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for !so() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// TestRaceInACluster: writers on three servers race over the same sessions of a
// stream with three replicas, first in peace, then while its leader steps down
// again and again. On a single server the mistakes that this finds don't show.
func TestRaceInACluster(t *testing.T) {
	servers := runCluster(t)
	cfg := config()
	cfg.Replicas = len(servers)
	var ledgers []*ledger.Ledger
	for range 2 {
		for _, s := range servers {
			js := connect(t, s)
			await(t, "a stream", func() bool {
				l, warnings, err := ledger.Open(t.Context(), js, cfg)
				if err != nil || len(warnings) > 0 {
					t.Logf("open: %v, warnings %q", err, warnings)
					return false
				}
				ledgers = append(ledgers, l)
				return true
			})
		}
	}
	conflictCodes(t, ledgers[0])
	before := mustVerify(t, ledgers[0]).Last
	races := make([]*race, 4)
	for i := range races {
		races[i] = &race{t: t, ledgers: ledgers, id: session(i + 1)}
	}
	rounds := raceFor(t, races, 3*time.Second, func(context.Context) {})
	t.Logf("%d rounds in peace", rounds)
	steps := 0
	js := connect(t, servers[0])
	rounds += raceFor(t, races, 5*time.Second, func(ctx context.Context) { steps = stepDown(ctx, t, js) })
	t.Logf("%d rounds, the leader stepped down %d times", rounds, steps)
	if steps == 0 {
		t.Error("the leader never stepped down")
	}
	var report ledger.Report
	await(t, "a leader to verify on", func() bool {
		var err error
		report, err = ledgers[0].Verify(t.Context(), ledger.Audit{})
		return err == nil
	})
	if report.Entries != before+rounds || report.Last != before+rounds || len(report.Findings) > 0 {
		t.Errorf("%d entries up to %d after %d rounds, findings: %v", report.Entries, report.Last, rounds, report.Findings)
	}
}

// raceFor runs all races at once for a while, beside a disturbance that ends with its
// context, and returns how many rounds there were.
func raceFor(t *testing.T, races []*race, long time.Duration, disturb func(context.Context)) uint64 {
	t.Helper()
	// The disturbance ends when the last round begins: an append must find a leader
	// within its budget, on a slow machine too.
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	var disturbance, running sync.WaitGroup
	disturbance.Go(func() { disturb(ctx) })
	end := time.Now().Add(long)
	var rounds atomic.Uint64
	for _, r := range races {
		running.Go(func() {
			for ; time.Now().Before(end) && !t.Failed(); rounds.Add(1) {
				r.round()
			}
		})
	}
	running.Wait()
	disturbance.Wait()
	return rounds.Load()
}

// stepDown makes the stream's leader step down about every second, until the
// context ends, and returns how often it did.
func stepDown(ctx context.Context, t *testing.T, js jetstream.JetStream) (steps int) {
	subject := "$JS.API.STREAM.LEADER.STEPDOWN." + ledger.StreamName("")
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return steps
		case <-tick.C:
			if _, err := js.Conn().RequestWithContext(ctx, subject, nil); err == nil {
				steps++
			} else if ctx.Err() == nil {
				t.Logf("step down: %v", err)
			}
		}
	}
}

// conflictCodes looks at the seam: with three replicas a lost compare-and-set also
// has the code 10164. The loser is told ErrMoved whatever the code is; this is here
// so that the day a server changes its codes is noticed.
func conflictCodes(t *testing.T, l *ledger.Ledger) {
	id := session(100)
	codes := map[jetstream.ErrorCode]int{}
	for round := 1; codes[10164] == 0 || codes[10071] == 0; round++ {
		if round > 500 {
			t.Errorf("codes seen in %d rounds: %v, want both 10071 and 10164", round, codes)
			return
		}
		head := mustHead(t, l, id)
		var writers sync.WaitGroup
		var seen [6]jetstream.ErrorCode
		writers.Go(func() {
			if _, err := l.Append(t.Context(), head, closing(id, outcome("a"), int(head.N())+1)); err != nil {
				t.Errorf("append among conflicts: %v", err)
			}
		})
		for i := range seen {
			writers.Go(func() {
				_, err := l.Seam().Publish(t.Context(), ledger.Draft{
					Subject: "settlement.failed." + string(id), Filter: "settlement.*." + string(id), Payload: []byte("{}"),
					Expect: 1 << 40, // never so
				})
				seen[i] = codeOf(err)
			})
		}
		writers.Wait()
		for _, code := range seen {
			codes[code]++
		}
	}
	t.Logf("conflict codes: %v", codes)
}

func codeOf(err error) jetstream.ErrorCode {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		return api.ErrorCode
	}
	return 0
}
