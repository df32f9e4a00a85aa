//go:build unix

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"settled/clearnode"
	"settled/clearnode/clearnodetest"
	"settled/consumer"
	"settled/consumer/deadletter"
	"settled/ledger"
	"settled/settlement"
)

// settledOutside is settled's path of an outcome, from the stream to the acknowledgement,
// in this process: one worker, one connection to NATS, one or two to the node. Everything
// else is outside.
type settledOutside struct {
	*outside
	results chan consumer.Result

	mu         sync.Mutex
	calls      map[string]int // to the node, by method
	published  map[string]int // to NATS, by kind
	signatures atomic.Int64
}

// counts are what settlements cost.
type counts struct {
	calls      map[string]int // to the node, by method
	published  map[string]int // to NATS, by kind
	signatures int64
	cgo        int64 // calls of C functions: three for a signature, one to recover a signer
	mallocs    uint64
	bytes      uint64
}

func startSettled(t testing.TB, protocol string, connections, open int) *settledOutside {
	t.Helper()
	s := &settledOutside{outside: startOutside(t, protocol, open), results: make(chan consumer.Result), calls: map[string]int{}, published: map[string]int{}}
	ctx, stop := context.WithCancel(context.Background())
	nc, err := nats.Connect(s.NATS, nats.SetCustomDialer(s))
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	key, err := clearnode.LoadKeyFile(s.KeyFile, "")
	if err != nil {
		t.Fatal(err)
	}
	node, err := clearnode.New(clearnode.Config{
		URL: s.Node, Protocol: protocol, Signers: []clearnode.Signer{countingSigner{key, &s.signatures}}, Connections: connections,
		RateLimit: 1e5, RateBurst: 1e5,
		CallFunc: func(_ context.Context, method, _ string, _ time.Duration) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.calls[method]++
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	entries, _, err := ledger.Open(ctx, js, ledger.Config{Create: true, Fence: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	cfg := consumer.Config{
		ManageStreams: true, Workers: 1, AckWait: time.Hour, Ready: node.Ready, Changed: node.Changed, Log: zerolog.Nop(),
		ResultFunc: func(r consumer.Result) { s.results <- r },
		RequeueFunc: func(context.Context, uint64, string) (uint64, error) {
			return 0, errors.New("nothing is requeued here")
		},
	}
	if _, err := consumer.EnsureStreams(ctx, js, cfg); err != nil {
		t.Fatal(err)
	}
	if _, _, err := consumer.EnsureDurable(ctx, js, cfg); err != nil {
		t.Fatal(err)
	}
	c, err := consumer.New(js, &settlement.Settler{
		Node: node, Ledger: entries, DeadLetters: deadletter.New(js, cfg), EmergencyStop: noStop{}, Policies: settlement.BuiltIn(),
		MaxAttempts: 3, FenceMargin: 20 * time.Second,
	}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		if err := node.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	running.Go(func() {
		if err := c.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		stop()
		running.Wait()
		nc.Close()
	})
	return s
}

// settle has a batch of sessions settled, and returns what that cost.
func (s *settledOutside) settle(t testing.TB) counts {
	t.Helper()
	before := s.snapshot()
	s.publish(t, batch)
	for range batch {
		select {
		case r := <-s.results:
			if r.Disposition != consumer.Acked || r.Settlement.Duplicate || *r.Settlement.Entry.Recovered {
				t.Fatalf("outcome %s: %+v", r.Outcome.Ref.ID, r)
			}
		case <-time.After(patience):
			t.Fatal("no result")
		}
	}
	after := s.snapshot()
	for _, m := range []struct{ after, before map[string]int }{{after.calls, before.calls}, {after.published, before.published}} {
		for name, n := range m.before {
			m.after[name] -= n
		}
		maps.DeleteFunc(m.after, func(_ string, n int) bool { return n == 0 })
	}
	after.signatures -= before.signatures
	after.cgo -= before.cgo
	after.mallocs -= before.mallocs
	after.bytes -= before.bytes
	return after
}

// add adds up the counts of rounds. Of allocations it keeps the fewest of a round: what else
// runs in this process allocates as well.
func (c *counts) add(round counts) {
	if c.calls == nil {
		*c = round
		return
	}
	for name, n := range round.calls {
		c.calls[name] += n
	}
	for name, n := range round.published {
		c.published[name] += n
	}
	c.signatures += round.signatures
	c.cgo += round.cgo
	c.mallocs, c.bytes = min(c.mallocs, round.mallocs), min(c.bytes, round.bytes)
}

// batch is how many sessions are settled at a time, so that few are open.
const batch = 20

func (s *settledOutside) snapshot() counts {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	s.mu.Lock()
	defer s.mu.Unlock()
	return counts{calls: maps.Clone(s.calls), published: maps.Clone(s.published), signatures: s.signatures.Load(), cgo: runtime.NumCgoCall(), mallocs: m.Mallocs, bytes: m.TotalAlloc}
}

// countingSigner counts the signatures that a key makes.
type countingSigner struct {
	clearnode.Signer
	n *atomic.Int64
}

func (s countingSigner) Sign(ctx context.Context, digest [32]byte) ([]byte, error) {
	s.n.Add(1)
	return s.Signer.Sign(ctx, digest)
}

// noStop is an emergency stop that is never in force.
type noStop struct{}

func (noStop) Stopped(context.Context) error { return nil }

func (noStop) Stop(_ context.Context, _ settlement.Outcome, f settlement.Failure) error { return &f }

// Dial connects to NATS, and counts what is published on the connection.
func (s *settledOutside) Dial(network, address string) (net.Conn, error) {
	c, err := net.Dial(network, address)
	return &publishCounter{Conn: c, s: s}, err
}

type publishCounter struct {
	net.Conn
	s    *settledOutside
	line []byte
	skip int // bytes of a message, which are no protocol line
}

func (c *publishCounter) Write(b []byte) (int, error) {
	c.count(b)
	return c.Conn.Write(b)
}

func (c *publishCounter) count(b []byte) {
	for len(b) > 0 {
		if n := min(c.skip, len(b)); n > 0 {
			b, c.skip = b[n:], c.skip-n
			continue
		}
		end := bytes.IndexByte(b, '\n')
		if end < 0 {
			c.line = append(c.line, b...)
			return
		}
		c.line = append(c.line, b[:end+1]...)
		b = b[end+1:]
		c.skip = c.s.countPublish(string(c.line))
		c.line = c.line[:0]
	}
}

func (s *settledOutside) countPublish(line string) (size int) {
	fields := strings.Fields(line)
	if len(fields) < 3 || !strings.HasSuffix(fields[0], "PUB") {
		return 0
	}
	for _, digit := range fields[len(fields)-1] {
		size = 10*size + int(digit-'0')
	}
	kind := "other"
	for prefix, name := range map[string]string{
		"$JS.API.STREAM.MSG.GET.SETTLEMENTS": "read entries", "$JS.API.STREAM.INFO.SETTLEMENTS": "stream info", "$JS.ACK.": "acknowledge",
		"settlement.closing.": "append closing", "settlement.closed.": "append closed", "$JS.API.CONSUMER.MSG.NEXT.": "fetch",
	} {
		if strings.HasPrefix(fields[1], prefix) {
			kind = name
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.published[kind]++
	return size + 2
}

// settlementCost is what one settlement costs at a generation of node, however many sessions
// are open.
type settlementCost struct {
	protocol    string
	connections int
	open        []int          // sessions, besides those that are settled
	calls       map[string]int // to the node
	published   map[string]int // to NATS
	signs       int64
	recovers    int64
	mallocs     uint64 // at most
	bytes       uint64 // at most
}

var settlementCosts = []settlementCost{
	{
		protocol: clearnodetest.Nitro04, connections: 2, open: []int{0, 256},
		calls:     map[string]int{"get_app_definition": 1, "get_ledger_transactions": 1, "close_app_session": 1},
		published: map[string]int{"read entries": 1, "append closing": 1, "append closed": 1, "stream info": 1, "acknowledge": 1},
		signs:     1, recovers: 4, mallocs: 1200, bytes: 100_000,
	},
	{
		protocol: clearnodetest.Legacy, connections: 1, open: []int{256},
		calls:     map[string]int{"get_app_definition": 1, "get_app_sessions": 1, "get_assets": 1, "close_app_session": 1},
		published: map[string]int{"read entries": 1, "append closing": 1, "append closed": 1, "stream info": 1, "acknowledge": 1},
		signs:     1, recovers: 5, mallocs: 1300, bytes: 110_000,
	},
	{
		protocol: clearnodetest.NitronodeV1, connections: 2, open: []int{256},
		calls:     map[string]int{"app_sessions.v1.get_app_sessions": 1, "app_sessions.v1.submit_app_state": 2},
		published: map[string]int{"read entries": 3, "append closing": 1, "append closed": 1, "stream info": 1, "acknowledge": 1},
		signs:     2, recovers: 2, mallocs: 2300, bytes: 180_000,
	},
}

// TestSettlementCounts counts what one settlement costs: requests to the node and to NATS,
// signatures and recoveries exactly, allocations as an upper bound.
func TestSettlementCounts(t *testing.T) {
	for _, want := range settlementCosts {
		for _, open := range want.open {
			t.Run(fmt.Sprintf("%s, %d open", want.protocol, open), func(t *testing.T) {
				s := startSettled(t, want.protocol, want.connections, open)
				s.settle(t) // what is done once
				s.settle(t)
				got, began := counts{}, time.Now()
				for range rounds {
					got.add(s.settle(t))
				}
				want.compare(t, got, time.Since(began))
				s.check(t)
			})
		}
	}
}

// rounds is how many batches are settled and counted.
const rounds = 3

// compare compares the counts of some rounds.
func (want settlementCost) compare(t *testing.T, got counts, elapsed time.Duration) {
	const n = rounds * batch
	others := got.takeOthers()
	for method, calls := range want.calls {
		if got.calls[method] != n*calls {
			t.Errorf("%d calls of %s, want %d", got.calls[method], method, n*calls)
		}
		delete(got.calls, method)
	}
	if len(got.calls) > 0 {
		t.Errorf("other calls of the node: %v", got.calls)
	}
	for kind, requests := range want.published {
		least, most := n*requests, n*requests
		if kind == "stream info" { // once more whenever the last answer is 5 s old
			most += 1 + int(elapsed/(5*time.Second))
		}
		if requests := got.published[kind]; requests < least || requests > most {
			t.Errorf("%s: %d requests, want %d to %d", kind, requests, least, most)
		}
	}
	if got.signatures != n*want.signs {
		t.Errorf("%d signatures, want %d", got.signatures, n*want.signs)
	}
	if recovers := got.cgo - 3*got.signatures - others; got.cgo > 0 && recovers != n*want.recovers {
		t.Errorf("%d signers recovered, want %d", recovers, n*want.recovers)
	}
	mallocs, size := want.mallocs, want.bytes
	if raceDetector() { // it allocates too, and empties pools
		mallocs, size = mallocs*5/4, size*3/2
	}
	t.Logf("one settlement allocates %d times, %d bytes", got.mallocs/batch, got.bytes/batch)
	if got.mallocs > batch*mallocs || got.bytes > batch*size {
		t.Errorf("one settlement allocates %d times, %d bytes; want at most %d and %d", got.mallocs/batch, got.bytes/batch, mallocs, size)
	}
}

// raceDetector reports whether the test was built with the race detector.
func raceDetector() bool {
	info, _ := debug.ReadBuildInfo()
	return info != nil && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// takeOthers removes the calls that keep connections alive, sign them in and probe them, and
// returns how many of them had a signed answer.
func (c *counts) takeOthers() (signed int64) {
	for _, method := range []string{"ping", "auth_verify", "get_ledger_balances", "node.v1.ping"} {
		if method != "node.v1.ping" {
			signed += int64(c.calls[method])
		}
		delete(c.calls, method)
	}
	return signed
}

// BenchmarkSettle settles sessions one after the other, while few or many others are open.
// It reports what this process allocates and computes; the node and the NATS server are
// processes of their own.
func BenchmarkSettle(b *testing.B) {
	for _, cost := range settlementCosts {
		for _, open := range cost.open {
			b.Run(fmt.Sprintf("%s/open=%d", cost.protocol, open), func(b *testing.B) {
				s := startSettled(b, cost.protocol, cost.connections, open)
				s.settle(b)
				n, mallocs, bytes, cpu := 0.0, 0.0, 0.0, processTime()
				for b.Loop() {
					c := s.settle(b)
					n, mallocs, bytes = n+batch, mallocs+float64(c.mallocs), bytes+float64(c.bytes)
				}
				b.ReportMetric(mallocs/n, "mallocs/settlement")
				b.ReportMetric(bytes/n, "B/settlement")
				b.ReportMetric(float64((processTime()-cpu).Microseconds())/n, "µs-CPU/settlement")
			})
		}
	}
}

// processTime is the time that this process has computed.
func processTime() time.Duration {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
