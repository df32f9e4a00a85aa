package consumer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"settled/settlement"
)

// Settler settles outcomes; settlement.Settler is one. Settle returns a nil error only with
// the stored closed entry, and *settlement.Failed only if the failure is stored. After any
// other error nothing is decided. It is called from many goroutines at once.
type Settler interface {
	Settle(ctx context.Context, o settlement.Outcome) (settlement.Settlement, error)
}

// Result is the result of one delivery.
type Result struct {
	Outcome     settlement.Outcome
	Settlement  settlement.Settlement
	Disposition Disposition
	Reason      string        // as in Verdict: one of few values, suitable for a label
	Delay       time.Duration // after which a message that was returned is delivered again
	Err         error         // from Settle; nil if the outcome is settled
	Elapsed     time.Duration // from the beginning of Settle to the answer
	Answering   time.Duration // the part of Elapsed that the answer took
	Delivered   uint64        // how many times the message was delivered, including this time; a hint: a durable that was created again counts from 1
	Published   time.Time     // when the stream stored the message
}

// State says whether messages can be fetched.
type State string

// The states of a Consumer.
const (
	OK         State = "ok"         // the durable consumer exists
	Rebuilding State = "rebuilding" // the stream, the durable or NATS is unavailable; Why says which
)

// Status is what the consumer does at this moment.
type Status struct {
	State State
	Why   string // the reason, if State is Rebuilding

	Paused    bool // the node is not ready: nothing is fetched
	PausedWhy string

	InHand  int // messages being settled
	Waiting int // messages received and not started

	// Of all replicas together, as of the last check (every few seconds): messages not
	// delivered yet, and messages delivered without a final answer, which includes those
	// returned with a delay.
	Pending    uint64
	Unanswered int

	Beat time.Time // when the fetching loop last ran; zero: it does not run

	Panics uint64 // deliveries whose processing panicked since the start: each is a bug
}

// Err returns nil if the durable consumer exists, also while fetching is paused.
func (s Status) Err() error {
	if s.State == OK {
		return nil
	}
	return fmt.Errorf("outcomes can't be fetched: %s", s.Why)
}

// Consumer fetches outcomes from the stream and has them settled.
type Consumer struct {
	js         jetstream.JetStream
	settler    Settler
	cfg        Config
	deliveries deliveries
	running    atomic.Bool
	panics     atomic.Uint64

	mu     sync.Mutex
	status Status
}

// New returns a Consumer for a valid configuration. It doesn't use the connection yet.
func New(js jetstream.JetStream, s Settler, cfg Config) (*Consumer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("consumer: %w", err)
	}
	if js == nil || s == nil || cfg.RequeueFunc == nil {
		return nil, errors.New("consumer: needs a JetStream context, a Settler and a RequeueFunc")
	}
	c := &Consumer{js: js, settler: s, cfg: cfg.withDefaults(), deliveries: deliveries{nc: js.Conn(), open: map[*delivery]struct{}{}}}
	c.status = Status{State: Rebuilding, Why: "not started"}
	return c, nil
}

// Status returns what the consumer does.
func (c *Consumer) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.status
	s.Panics = c.panics.Load()
	return s
}

// The time limits of a stop. stopDraining, stopSettling and stopAnswers count from the end
// of fetching. Until stopDraining, requested messages are received. At stopSettling, running
// Settle calls are cancelled. Until stopAnswers they may return and be answered, with ackTime
// for a last confirmation. Then unconfirmed answers are flushed for stopFlush. All this takes
// less than stopBound (used by tests only), even if NATS is connected and does not answer.
// The service promises 15 seconds: the rest is for closing its connections.
const (
	stopDraining = time.Second
	stopSettling = 8 * time.Second
	stopAnswers  = stopSettling + ackTime + 250*time.Millisecond
	stopFlush    = 500 * time.Millisecond
	stopBound    = 11 * time.Second
)

// Run settles outcomes until ctx ends. Then it stops fetching, finishes what is in progress,
// returns messages that are not started, and returns nil, within 11 seconds. It returns
// *RefusedError if the durable endangers outcomes at the start, ErrClosed if the connection
// is closed for good, and an error if a cancelled Settle call does not return. Do not call
// Run while it runs.
func (c *Consumer) Run(ctx context.Context) error {
	if !c.running.CompareAndSwap(false, true) {
		return errors.New("consumer: runs already")
	}
	defer c.running.Store(false)
	defer c.setStatus(func(s *Status) { *s = Status{State: Rebuilding, Why: "stopped"} })

	monitor := newStreamMonitor(c)
	durable := monitor.check(ctx)
	var refused *RefusedError
	if errors.As(durable.err, &refused) {
		return fmt.Errorf("consumer: %w", refused)
	}
	settleCtx, cancelSettling := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancelSettling(nil)
	f := newFetcher(c, monitor)

	c.deliveries.setAckWait(durable.ackWait)
	stopProgress := startTask(context.WithoutCancel(ctx), c.deliveries.reportProgress)
	defer stopProgress()
	f.startWorkers(settleCtx)
	stopMonitor := startTask(ctx, func(ctx context.Context) { monitor.run(ctx, f.states) })
	defer f.startAdvisories(ctx)()
	err := f.run(ctx, durable)
	stopped := time.Now()

	defer time.AfterFunc(stopSettling, func() { cancelSettling(errStopping) }).Stop()
	f.drain(stopped.Add(stopDraining))
	stopMonitor()
	f.returnUnstarted(0)
	if !f.stopWorkers(stopped.Add(stopAnswers)) {
		return errors.Join(err, fmt.Errorf("consumer: stopped, and %d calls of Settle had not returned; their messages are delivered again after the ack wait", f.inProgress))
	}
	if c.js.Conn().FlushTimeout(stopFlush) != nil && err == nil {
		c.cfg.Log.Warn().Msg("stopped without NATS confirming the last answers; messages whose answers were lost are delivered again after the ack wait")
	}
	return err
}

// startTask runs do in a goroutine, and returns a function that ends it and waits for it.
func startTask(ctx context.Context, do func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		do(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}
