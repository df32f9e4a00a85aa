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
	"settled/ledger/natstest"
	"settled/settlement"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
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
		servers[i] = natstest.StartServer(t, func(o *server.Options) {
			o.ServerName, o.Routes = fmt.Sprintf("n%d", i), routes
			o.Cluster = server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: port}
		})
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
	ln := natstest.Must(net.Listen("tcp", "127.0.0.1:0"))
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
	t.Parallel()
	servers := runCluster(t)
	cfg := config()
	cfg.Replicas = len(servers)
	var ledgers []*ledger.Ledger
	for range 2 {
		for _, s := range servers {
			js := natstest.Connect(t, s)
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
	rounds := raceFor(t, races, time.Second/2, func(context.Context) {})
	t.Logf("%d rounds in peace", rounds)
	steps := 0
	js := natstest.Connect(t, servers[0])
	rounds += raceFor(t, races, 2*time.Second, func(ctx context.Context) { steps = stepDown(ctx, t, js) })
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

// stepDown makes the stream's leader step down every half second, until the
// context ends, and returns how often it did.
func stepDown(ctx context.Context, t *testing.T, js jetstream.JetStream) (steps int) {
	subject := "$JS.API.STREAM.LEADER.STEPDOWN." + ledger.StreamName("")
	tick := time.NewTicker(500 * time.Millisecond)
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
				_, err := l.Stream().Publish(t.Context(), ledger.Draft{
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

// TestLeaderLostUnderAppends: the leader of the ledger's stream is shut down under
// appends, and comes back, again and again. Whatever was acknowledged is there in
// its bytes, and whoever reads after an acknowledgement, through whichever server,
// reads that entry or a later one.
func TestLeaderLostUnderAppends(t *testing.T) {
	t.Parallel()
	const writers, losses = 4, 2
	servers := runCluster(t)
	cfg := config()
	cfg.Replicas = len(servers)
	anyServer := func(o *nats.Options) error {
		for _, s := range servers {
			o.Servers = append(o.Servers, s.ClientURL())
		}
		return nil
	}
	ledgers := make([]*ledger.Ledger, writers+1)
	for i := range ledgers {
		js := natstest.Connect(t, servers[0], anyServer)
		await(t, "a stream", func() bool {
			l, _, err := ledger.Open(t.Context(), js, cfg)
			ledgers[i] = l
			return err == nil
		})
	}
	ctx, stop := context.WithCancel(t.Context())
	var writing sync.WaitGroup
	acked := make([][]settlement.Head, writers)
	for i := range writers {
		w := appender{t: t, id: session(i + 1), write: ledgers[i], read: ledgers[i+1]}
		writing.Go(func() { acked[i] = w.run(ctx) })
	}
	js := natstest.Connect(t, servers[0], anyServer)
	for range losses {
		servers = loseLeader(t, js, servers)
	}
	stop()
	writing.Wait()
	total := 0
	for i, heads := range acked {
		stored := natstest.Must(ledgers[writers].Session(t.Context(), session(i+1)))
		bytes := map[uint64]string{}
		for _, s := range stored {
			bytes[s.Sequence] = ledger.Digest(s.Payload)
		}
		for _, h := range heads {
			if bytes[h.Sequence()] != h.Digest {
				t.Errorf("entry %d of %s was acknowledged and is not there as it was", h.Sequence(), h.Session)
			}
		}
		total += len(heads)
	}
	t.Logf("%d appends acknowledged while the leader was lost %d times", total, losses)
	if total < writers*losses {
		t.Errorf("only %d appends: nothing was under way", total)
	}
	mustVerify(t, ledgers[writers])
}

// appender appends to one session and reads what it appended through another server.
type appender struct {
	t           *testing.T
	id          settlement.SessionID
	write, read *ledger.Ledger
	attempts    int
}

func (a *appender) run(ctx context.Context) (acked []settlement.Head) {
	head := settlement.Head{Session: a.id}
	for ctx.Err() == nil {
		next, err := a.write.Append(a.t.Context(), head, closing(a.id, outcome("a"), a.attempts+1))
		if err != nil { // no leader for longer than the budget, or not known: the head tells
			head = a.head(a.write, 0)
			a.attempts = int(head.N()) // #nosec G115 -- a few thousand
			continue
		}
		a.attempts++
		acked = append(acked, next)
		if seen := a.head(a.read, 0); seen.N() < next.N() {
			a.t.Errorf("%s: entry number %d is acknowledged, and a later read shows number %d", a.id, next.N(), seen.N())
		}
		head = next
	}
	return acked
}

// head reads until there is a leader.
func (a *appender) head(l *ledger.Ledger, tries int) settlement.Head {
	head, err := l.Head(a.t.Context(), a.id)
	if err != nil && tries < 100 && a.t.Context().Err() == nil {
		return a.head(l, tries+1)
	}
	if err != nil {
		a.t.Errorf("%s: no head: %v", a.id, err)
	}
	return head
}

// loseLeader shuts the leader of the ledger's stream down, waits for another one, and
// starts it again.
func loseLeader(t *testing.T, js jetstream.JetStream, servers []*server.Server) []*server.Server {
	t.Helper()
	leader := awaitLeader(t, js, "")
	var left []*server.Server
	var lost *server.Server
	for _, s := range servers {
		if s.Name() == leader {
			lost = s
		} else {
			left = append(left, s)
		}
	}
	var routes []*url.URL
	for _, s := range left {
		routes = append(routes, &url.URL{Scheme: "nats", Host: s.ClusterAddr().String()})
	}
	port := lost.ClusterAddr().Port
	// Another leader must be there before it comes back.
	again := natstest.RestartAfter(t, lost, func() { awaitLeader(t, js, leader) }, func(o *server.Options) {
		o.ServerName, o.Routes = leader, routes
		o.Cluster = server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: port}
	})
	await(t, "all replicas to be current", func() bool {
		info, err := infoOf(t, js)
		if err != nil || info.Cluster == nil || len(info.Cluster.Replicas) != 2 {
			return false
		}
		for _, r := range info.Cluster.Replicas {
			if !r.Current || r.Offline {
				return false
			}
		}
		return true
	})
	return append(left, again)
}

func infoOf(t *testing.T, js jetstream.JetStream) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	stream, err := js.Stream(ctx, ledger.StreamName(""))
	if err != nil {
		return nil, err
	}
	return stream.CachedInfo(), nil
}

// awaitLeader waits for a leader other than one, and names it.
func awaitLeader(t *testing.T, js jetstream.JetStream, not string) (leader string) {
	t.Helper()
	await(t, "a leader", func() bool {
		info, err := infoOf(t, js)
		if err != nil || info.Cluster == nil {
			return false
		}
		leader = info.Cluster.Leader
		return leader != "" && leader != not
	})
	return leader
}
