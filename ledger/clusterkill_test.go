package ledger_test

import (
	"context"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"settled/ledger"
	"settled/settlement"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// TestLeaderLostUnderAppends: the leader of the ledger's stream is shut down under
// appends, and comes back, again and again. Whatever was acknowledged is there in
// its bytes, and whoever reads after an acknowledgement, through whichever server,
// reads that entry or a later one.
func TestLeaderLostUnderAppends(t *testing.T) {
	const writers, losses = 4, 3
	servers := runCluster(t)
	cfg := config()
	cfg.Replicas = len(servers)
	var urls []string
	for _, s := range servers {
		urls = append(urls, s.ClientURL())
	}
	ledgers := make([]*ledger.Ledger, writers+1)
	for i := range ledgers {
		js := connectAny(t, urls)
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
	js := connectAny(t, urls)
	for range losses {
		servers = loseLeader(t, js, servers)
	}
	stop()
	writing.Wait()
	total := 0
	for i, heads := range acked {
		stored, err := ledgers[writers].Session(t.Context(), session(i+1))
		if err != nil {
			t.Fatal(err)
		}
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

// connectAny connects to whichever server is there.
func connectAny(t *testing.T, urls []string) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(strings.Join(urls, ","), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
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
	host, port := lost.Addr().(*net.TCPAddr).IP.String(), lost.Addr().(*net.TCPAddr).Port
	opts := &server.Options{
		ServerName: lost.Name(), Host: host, Port: port, JetStream: true, NoSigs: true, StoreDir: filepath.Dir(lost.StoreDir()),
		Cluster: server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: lost.ClusterAddr().Port},
	}
	for _, s := range left {
		opts.Routes = append(opts.Routes, &url.URL{Scheme: "nats", Host: s.ClusterAddr().String()})
	}
	lost.Shutdown()
	lost.WaitForShutdown()
	awaitLeader(t, js, leader)
	again, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	again.Start()
	t.Cleanup(func() { again.Shutdown(); again.WaitForShutdown() })
	awaitServer(t, again)
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
