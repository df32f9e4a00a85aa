package consumer

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"settled/ledger/natstest"
	"settled/settlement"
)

// restart stops the server and starts it again on the same port and store.
func (r *rig) restart() {
	r.t.Helper()
	r.server = natstest.Restart(r.t, r.server)
}

// ensureAgain creates the streams that a test deleted.
func ensureAgain(t *testing.T, js jetstream.JetStream, cfg Config) {
	t.Helper()
	natstest.Eventually(t, func() error {
		_, err := EnsureStreams(t.Context(), js, cfg)
		return err
	})
}

// rig is a server with its streams, a Consumer on it, and its results.
type rig struct {
	t       *testing.T
	server  *server.Server
	js      jetstream.JetStream
	cfg     Config
	settler *fakeSettler
	c       *Consumer
	results chan Result
	log     *natstest.LogBuffer
	stop    context.CancelFunc
	ended   chan error
}

func newRig(t *testing.T, change func(*Config)) *rig {
	t.Helper()
	r := &rig{t: t, server: natstest.StartServer(t), results: make(chan Result, 10000), log: &natstest.LogBuffer{}}
	r.js = natstest.Connect(t, r.server)
	r.cfg = Config{
		ManageStreams: true, Workers: 4, BackoffInitial: 10 * time.Millisecond, BackoffMax: 50 * time.Millisecond,
		Log: zerolog.New(r.log), ResultFunc: func(res Result) { r.results <- res },
	}
	r.cfg.RequeueFunc = func(ctx context.Context, sequence uint64, _ string) (uint64, error) {
		raw, err := ReadOutcome(ctx, r.js, OutcomesStream(r.cfg.Prefix), sequence)
		if err != nil {
			return 0, err
		}
		ack, err := r.js.PublishMsg(ctx, &nats.Msg{Subject: raw.Subject, Data: raw.Data})
		if err != nil {
			return 0, err
		}
		return ack.Sequence, nil
	}
	if change != nil {
		change(&r.cfg)
	}
	natstest.Must(EnsureStreams(t.Context(), r.js, r.cfg))
	r.settler = newFakeSettler(t)
	return r
}

// start runs the consumer until the test ends.
func (r *rig) start() *rig {
	r.t.Helper()
	r.c = natstest.Must(New(r.js, r.settler, r.cfg))
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
	return r.publishMsg(&nats.Msg{Subject: OutcomeSubject(r.cfg.Prefix, settlement.Cancellation), Data: []byte(natstest.EventOf(id))})
}

func (r *rig) publishMsg(m *nats.Msg) uint64 {
	r.t.Helper()
	ack := natstest.Must(r.js.PublishMsg(r.t.Context(), m))
	return ack.Sequence
}

// result waits for the next result.
func (r *rig) result() Result {
	r.t.Helper()
	select {
	case res := <-r.results:
		return res
	case <-time.After(natstest.Patience):
		r.t.Fatalf("no result; status %+v; log:\n%s", r.c.Status(), r.log)
		return Result{}
	}
}

// until waits for a condition.
func (r *rig) until(what string, met func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(natstest.Patience); !met(); <-time.After(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("%s: not within %s; log:\n%s", what, natstest.Patience, r.log)
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

// settledAll waits until every message is answered for good.
func (r *rig) settledAll(last uint64) {
	r.t.Helper()
	r.until("all answered", func() bool {
		d := r.durable()
		return d != nil && d.NumAckPending == 0 && d.NumPending == 0 && d.AckFloor.Stream >= last
	})
}

// fakeSettler returns what do returns, or a closed entry without it. It verifies that there
// is one call for a message at a time, and repeats the result of what closed or failed.
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

func (s *fakeSettler) mostAtOnce() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.most
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
