package consumer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"settled/settlement"
)

// patience is how long a test waits for what must happen.
const patience = 3 * time.Minute

// startServer starts a JetStream server of the test's own.
func startServer(t *testing.T) *server.Server {
	t.Helper()
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(patience) {
		t.Fatal("the server doesn't start")
	}
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	return s
}

// restart stops the server and starts it again on the same port and store.
func (r *rig) restart() {
	r.t.Helper()
	port, store := r.server.Addr().(*net.TCPAddr).Port, filepath.Dir(r.server.StoreDir())
	r.server.Shutdown()
	r.server.WaitForShutdown()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: store, NoLog: true, NoSigs: true})
	if err != nil {
		r.t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(patience) {
		r.t.Fatal("the server doesn't start again")
	}
	r.server = s
	r.t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
}

// eventually repeats what the server refuses for a moment after a stream of that
// name was deleted: it still removes its files.
func eventually(t *testing.T, do func() error) {
	t.Helper()
	err := do()
	for deadline := time.Now().Add(patience); err != nil && time.Now().Before(deadline); err = do() {
		<-time.After(5 * time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// ensureAgain makes the streams that a test deleted.
func ensureAgain(t *testing.T, js jetstream.JetStream, cfg Config) {
	t.Helper()
	eventually(t, func() error {
		_, err := EnsureStreams(t.Context(), js, cfg)
		return err
	})
}

func connect(t *testing.T, s *server.Server) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(s.ClientURL(), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
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

// rig is a server with its streams, a Consumer on it, and what came of it.
type rig struct {
	t       *testing.T
	server  *server.Server
	js      jetstream.JetStream
	cfg     Config
	settler *fakeSettler
	c       *Consumer
	results chan Result
	log     *logBuffer
	stop    context.CancelFunc
	ended   chan error
}

func newRig(t *testing.T, change func(*Config)) *rig {
	t.Helper()
	r := &rig{t: t, server: startServer(t), results: make(chan Result, 10000), log: &logBuffer{}}
	r.js = connect(t, r.server)
	r.cfg = Config{
		ManageStreams: true, Workers: 4, BackoffInitial: 10 * time.Millisecond, BackoffMax: 50 * time.Millisecond,
		Log: zerolog.New(r.log), ResultFunc: func(res Result) { r.results <- res },
	}
	if change != nil {
		change(&r.cfg)
	}
	if _, err := EnsureStreams(t.Context(), r.js, r.cfg); err != nil {
		t.Fatal(err)
	}
	r.settler = newFakeSettler(t)
	return r
}

// start runs the consumer until the test ends.
func (r *rig) start() *rig {
	r.t.Helper()
	var err error
	if r.c, err = New(r.js, r.settler, r.cfg); err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.stop, r.ended = cancel, make(chan error, 1)
	go func() { r.ended <- r.c.Run(ctx) }()
	r.t.Cleanup(func() { cancel(); <-r.ended })
	return r
}

// end stops the consumer and returns what Run returned.
func (r *rig) end() error {
	r.t.Helper()
	r.stop()
	select {
	case err := <-r.ended:
		r.ended <- nil // for the cleanup
		return err
	case <-time.After(stopBound + 2*time.Second): // two for a slow machine
		r.t.Fatal("Run did not end within its bound")
		return nil
	}
}

func (r *rig) publish(id string) uint64 {
	r.t.Helper()
	return r.publishMsg(&nats.Msg{Subject: OutcomeSubject(r.cfg.Prefix, settlement.Cancellation), Data: []byte(eventOf(id))})
}

func (r *rig) publishMsg(m *nats.Msg) uint64 {
	r.t.Helper()
	ack, err := r.js.PublishMsg(r.t.Context(), m)
	if err != nil {
		r.t.Fatal(err)
	}
	return ack.Sequence
}

// sessionOf is a session of this outcome's own; the first has testSession.
func sessionOf(id string) string {
	if id == "1" {
		return testSession
	}
	return fmt.Sprintf("0x%x", sha256.Sum256([]byte(id)))
}

func eventOf(id string) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"/test","type":"outcome.cancellation","data":{"session_id":%q}}`, id, sessionOf(id))
}

// result waits for the next result.
func (r *rig) result() Result {
	r.t.Helper()
	select {
	case res := <-r.results:
		return res
	case <-time.After(patience):
		r.t.Fatalf("no result; status %+v; log:\n%s", r.c.Status(), r.log)
		return Result{}
	}
}

// until waits for a condition.
func (r *rig) until(what string, met func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(patience); !met(); <-time.After(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("%s: not within %s; log:\n%s", what, patience, r.log)
		}
	}
}

func (r *rig) durable() *jetstream.ConsumerInfo {
	r.t.Helper()
	c, err := r.js.Consumer(r.t.Context(), OutcomesStream(r.cfg.Prefix), r.cfg.withDefaults().Durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return c.CachedInfo()
}

// settledAll waits until the server wants no more answers and has no more messages.
func (r *rig) settledAll(last uint64) {
	r.t.Helper()
	r.until("all answered", func() bool {
		d := r.durable()
		return d != nil && d.NumAckPending == 0 && d.NumPending == 0 && d.AckFloor.Stream >= last
	})
}

// fakeSettler answers as it is told, closed where it is told nothing, and holds
// its caller to the law: one call of a message at a time; what closed or failed
// does so again; every outcome is the one that its envelope says.
type fakeSettler struct {
	t  *testing.T
	do func(ctx context.Context, o settlement.Outcome, nth int) (settlement.Settlement, error)

	mu    sync.Mutex
	calls map[uint64]int
	open  map[uint64]bool
	done  map[uint64]error // nil: closed; else its Failed
	most  int              // calls at once
}

func newFakeSettler(t *testing.T) *fakeSettler {
	return &fakeSettler{t: t, calls: map[uint64]int{}, open: map[uint64]bool{}, done: map[uint64]error{}}
}

func (s *fakeSettler) Settle(ctx context.Context, o settlement.Outcome) (settlement.Settlement, error) {
	seq := o.Ref.Sequence
	nth, err, ended := s.begin(seq, o)
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.open[seq] = false
	}()
	if ended {
		return s.again(o, err)
	}
	if s.do == nil {
		return s.end(o, closedBy(o), nil)
	}
	settled, err := s.do(ctx, o, nth)
	return s.end(o, settled, err)
}

func (s *fakeSettler) begin(seq uint64, o settlement.Outcome) (nth int, err error, ended bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[seq] {
		s.t.Errorf("sequence %d is being settled already", seq)
	}
	if o.Ref.Stream == "" || seq == 0 {
		s.t.Errorf("an outcome without its position: %+v", o.Ref)
	}
	s.open[seq] = true
	s.calls[seq]++
	n := 0
	for _, open := range s.open {
		if open {
			n++
		}
	}
	s.most = max(s.most, n)
	err, ended = s.done[seq]
	return s.calls[seq], err, ended
}

func (s *fakeSettler) again(o settlement.Outcome, err error) (settlement.Settlement, error) {
	var failed *settlement.Failed
	if errors.As(err, &failed) {
		return settlement.Settlement{Duplicate: true}, &settlement.Failed{Failure: failed.Failure, Duplicate: true}
	}
	settled := closedBy(o)
	settled.Duplicate = true
	return settled, nil
}

func (s *fakeSettler) end(o settlement.Outcome, settled settlement.Settlement, err error) (settlement.Settlement, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var failed *settlement.Failed
	if err == nil && settled.Entry.State == settlement.EntryClosed || errors.As(err, &failed) {
		s.done[o.Ref.Sequence] = err
	}
	return settled, err
}

func (s *fakeSettler) count(seq uint64) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[seq]
}

func closedBy(o settlement.Outcome) settlement.Settlement {
	return settlement.Settlement{Entry: settlement.Entry{State: settlement.EntryClosed, Session: o.Session, Outcome: o.Ref, Attempt: 1}}
}

func failedWith(code settlement.Code) error {
	return &settlement.Failed{Failure: *settlement.Fail(code, "because of the test")}
}

// logBuffer is a log that can be read while it is written.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// events are the log's lines that have this message.
func (l *logBuffer) events(t *testing.T, message string) []map[string]any {
	t.Helper()
	var events []map[string]any
	for text := range bytes.Lines([]byte(l.String())) {
		var e map[string]any
		if err := json.Unmarshal(text, &e); err != nil {
			t.Fatalf("log line %s: %v", text, err)
		}
		if e["message"] == message {
			events = append(events, e)
		}
	}
	return events
}
