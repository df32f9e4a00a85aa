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

// Settler settles outcomes; settlement.Settler is one. Settle answers nil only
// with the stored closed entry, *settlement.Failed only with the failure stored,
// and anything else where nothing is decided yet. It is called by many
// goroutines at once.
type Settler interface {
	Settle(ctx context.Context, o settlement.Outcome) (settlement.Settlement, error)
}

// Result is what came of one message.
type Result struct {
	Outcome     settlement.Outcome
	Settlement  settlement.Settlement
	Disposition Disposition
	Reason      string        // of few values, as in Verdict: fit for a label
	Delay       time.Duration // after which a message given back comes again
	Err         error         // what Settle answered; nil where it settled
	Elapsed     time.Duration // from the beginning of Settle to the answer
	Answering   time.Duration // the part of Elapsed that the answer took
	Delivered   uint64        // how often the message was delivered, this time included: a hint
	Published   time.Time     // when the stream stored the message: how long its outcome waits
}

// Consumer takes outcomes from the stream and has them settled.
type Consumer struct {
	js      jetstream.JetStream
	settler Settler
	cfg     Config
	held    held
	running atomic.Bool
	panics  atomic.Uint64

	mu     sync.Mutex
	status Status
}

// New makes a Consumer of a valid configuration. It doesn't talk to NATS yet.
func New(js jetstream.JetStream, s Settler, cfg Config) (*Consumer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("consumer: %w", err)
	}
	if js == nil || s == nil {
		return nil, errors.New("consumer: needs a JetStream context and a Settler")
	}
	c := &Consumer{js: js, settler: s, cfg: cfg.withDefaults()}
	c.status = Status{State: Rebuilding, Why: "not started"}
	return c, nil
}

// The bounds of a stop, all but the last counted on one clock that begins when ctx
// ends: what was asked for stops coming, what is in hand has time to end by
// itself, is then cut short, and is answered. That leaves ackTime for the last
// answers to be confirmed, and half a second to send what needs no confirmation.
// Together they are less than stopBound, also where NATS is connected but silent:
// of the 15 seconds that the service promises the rest belongs to its connections.
const (
	stopDraining = time.Second
	stopSettling = 8 * time.Second
	stopAnswers  = stopSettling + ackTime + 250*time.Millisecond
	stopFlush    = 500 * time.Millisecond // after the answers
	stopBound    = 11 * time.Second
)

// settleTime bounds one call of Settle, which has time-outs of its own for all it
// does: this one only keeps a lost call from holding a worker for ever.
const settleTime = 2 * time.Minute

// Run takes outcomes until ctx ends; then it stops fetching, finishes what is in
// hand, gives back what it has not begun, and returns nil, within 11 seconds. It
// returns an error where it can't go on: a durable that endangers outcomes
// (*RefusedError) found at the start, or a connection closed for good; or where a
// Settle call would not end. It may run once at a time.
func (c *Consumer) Run(ctx context.Context) error {
	if !c.running.CompareAndSwap(false, true) {
		return errors.New("consumer: runs already")
	}
	defer c.running.Store(false)
	defer c.setStatus(func(s *Status) { *s = Status{State: Rebuilding, Why: "stopped"} })

	w := newWatch(c)
	first := w.look(ctx)
	var refused *RefusedError
	if errors.As(first.err, &refused) {
		return fmt.Errorf("consumer: %w", refused)
	}
	return c.run(ctx, w, first)
}

// run owns every goroutine of the consumer and waits for them in the order in
// which they need one another.
func (c *Consumer) run(ctx context.Context, w *watch, first binding) error {
	settleCtx, cutShort := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cutShort(nil)
	f := newFeed(c, w)

	beating := c.held.start(first.ackWait)
	defer beating.stop()
	workers := c.startWorkers(settleCtx, f)
	watching := w.start(ctx, f.bindings)
	hearing := startTask(ctx, taken{c}.run)
	defer hearing.stop()
	err := f.run(ctx, first)
	stopped := time.Now()

	timer := time.AfterFunc(stopSettling, func() { cutShort(errStopping) })
	defer timer.Stop()
	f.drain(stopped.Add(stopDraining))
	watching.stop()
	f.giveBackAll()
	close(f.work)
	if !f.awaitWorkers(workers, stopped.Add(stopAnswers)) {
		return errors.Join(err, fmt.Errorf("consumer: stopped with %d messages in hand whose Settle does not end; they are delivered again after the ack wait", f.inHand))
	}
	if c.js.Conn().FlushTimeout(stopFlush) != nil && err == nil {
		c.cfg.Log.Warn().Msg("stopped without NATS confirming the last answers; what it didn't get is delivered again after the ack wait")
	}
	return err
}

// task is a goroutine whose owner waits for it.
type task struct {
	cancel context.CancelFunc
	done   chan struct{}
}

func startTask(ctx context.Context, do func(context.Context)) task {
	ctx, cancel := context.WithCancel(ctx)
	t := task{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(t.done)
		do(ctx)
	}()
	return t
}

func (t task) stop() {
	t.cancel()
	<-t.done
}

// startWorkers starts the workers; the channel is closed when all have ended.
func (c *Consumer) startWorkers(ctx context.Context, f *feed) <-chan struct{} {
	var workers sync.WaitGroup
	for range c.cfg.Workers {
		workers.Go(func() {
			for m := range f.work {
				c.hand(ctx, m)
				f.finished <- m
			}
		})
	}
	all := make(chan struct{})
	go func() {
		workers.Wait()
		close(all)
	}()
	return all
}
