package consumer

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	pausedDelay = time.Second            // for messages that were received before a pause and not started
	readyPeriod = time.Second            // between two calls of Ready, unless Changed asks for one
	retryDelay  = 250 * time.Millisecond // between a request that failed and the next
)

// fetcher requests messages and hands them to the workers. One goroutine runs it and owns
// its fields, which needs no lock to know how many messages are in progress.
type fetcher struct {
	c          *Consumer
	monitor    *streamMonitor
	states     chan durableState // from the monitor
	terminated chan *delivery    // from the advisories
	work       chan *delivery
	finished   chan *delivery
	workers    sync.WaitGroup

	durable     durableState
	notReady    error           // from Ready; nil: ready
	changed     <-chan struct{} // closed when Ready may answer differently
	pull        *pull           // nil: none is open
	withdrawing bool            // the pull is being withdrawn
	next        []*delivery     // to be settled next, when a worker is free
	sessions    *sessionQueue
	inProgress  int              // deliveries that workers have
	requested   int              // messages of the last request
	noRoom      int              // how many of these were returned at once
	overrequest int              // how many times as many messages as there is room for are requested
	retry       <-chan time.Time // after a request failed, until the next may be made
}

func newFetcher(c *Consumer, m *streamMonitor) *fetcher {
	return &fetcher{
		c: c, monitor: m, states: make(chan durableState), terminated: make(chan *delivery),
		work: make(chan *delivery), finished: make(chan *delivery, c.cfg.Workers),
		sessions: newSessionQueue(c.cfg.Workers), overrequest: 1,
	}
}

// startWorkers starts the workers, which end when f.work is closed. ctx is the context of
// the Settle calls.
func (f *fetcher) startWorkers(ctx context.Context) {
	for range f.c.cfg.Workers {
		f.workers.Go(func() {
			for d := range f.work {
				f.c.process(ctx, d)
				f.finished <- d
			}
		})
	}
}

// run receives messages and hands them out until ctx ends. What is in progress then is
// left to stop.
func (f *fetcher) run(ctx context.Context, durable durableState) error {
	connection := f.c.js.Conn().StatusChanged(nats.CONNECTED, nats.RECONNECTING, nats.CLOSED)
	defer f.c.js.Conn().RemoveStatusListener(connection)
	tick := time.NewTicker(readyPeriod)
	defer tick.Stop()
	f.setDurable(durable)
	f.checkReady()
	for ctx.Err() == nil {
		f.adjust()
		f.updateStatus()
		if err := f.step(ctx, tick.C, connection); err != nil {
			return err
		}
	}
	return nil
}

// step waits for one event and handles it.
func (f *fetcher) step(ctx context.Context, tick <-chan time.Time, connection <-chan nats.Status) error {
	var work chan<- *delivery
	var next *delivery
	if len(f.next) > 0 {
		work, next = f.work, f.next[0]
	}
	var received <-chan *nats.Msg
	var closed <-chan struct{}
	var silence <-chan time.Time
	if f.pull != nil {
		received, closed = f.pull.received, f.pull.closed
		if f.pull.open > 0 {
			silence = f.pull.silence.C
		}
	}
	select {
	case <-ctx.Done():
	case work <- next:
		f.next = f.next[1:]
		f.inProgress++
	case d := <-f.finished:
		f.inProgress--
		if next := f.sessions.done(d, time.Now()); next != nil {
			f.next = append(f.next, next)
		}
	case m := <-received:
		f.receive(m)
	case d := <-f.terminated:
		d.generation = f.durable.generation
		f.enqueue(d)
	case <-closed:
		f.pullClosed()
	case <-silence:
		f.pull.open = 0
		f.monitor.loop.Soon()
	case s := <-f.states:
		f.setDurable(s)
	case <-connection:
		f.connectionChanged()
		return f.checkConnection()
	case <-f.retry:
		f.retry = nil
	case <-f.changed:
		f.checkReady()
	case <-tick:
		f.checkReady()
		return f.checkConnection()
	}
	return nil
}

// checkReady gets the channel before the answer, so that no change is missed.
func (f *fetcher) checkReady() {
	if f.c.cfg.Changed != nil {
		f.changed = f.c.cfg.Changed()
	}
	previous := f.notReady
	f.notReady = nil
	if f.c.cfg.Ready != nil {
		f.notReady = f.c.cfg.Ready()
	}
	switch {
	case previous == nil && f.notReady != nil:
		f.c.cfg.Log.Warn().Err(f.notReady).Msg("fetching paused until the node is ready")
	case previous != nil && f.notReady == nil:
		f.c.cfg.Log.Info().Msg("fetching resumed")
	}
}

func (f *fetcher) updateStatus() {
	f.c.setStatus(func(s *Status) {
		s.Beat = time.Now()
		s.InHand, s.Waiting = f.inProgress, len(f.next)+f.sessions.waiting
		s.Paused, s.PausedWhy = f.notReady != nil, ""
		if f.notReady != nil {
			s.PausedWhy = f.notReady.Error()
		}
	})
}

func (c *Consumer) setStatus(change func(*Status)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.status)
}

// adjust returns the messages that are not started while fetching is paused, and withdraws
// the open request or makes one, as the state demands.
func (f *fetcher) adjust() {
	if f.notReady != nil {
		f.returnUnstarted(pausedDelay)
	}
	mayFetch := f.notReady == nil && f.durable.err == nil
	switch {
	case f.withdrawing:
	case !mayFetch && f.pull != nil:
		f.withdrawing = true
		f.pull.withdraw()
	case mayFetch && f.retry == nil && f.c.js.Conn().IsConnected():
		f.request()
	}
}

// maxOverrequest bounds how many messages are kept if those of a request that were
// expected to be returned are settled instead.
const maxOverrequest = 8

// capacity is half of how many messages are kept in hand: the number of workers, or twice the
// limit of the node if that is less.
func (f *fetcher) capacity() int {
	if f.c.cfg.LimitFunc == nil {
		return f.c.cfg.Workers
	}
	return min(f.c.cfg.Workers, 2*f.c.cfg.LimitFunc())
}

// request requests as many messages as there is room for, once that is at least half the
// capacity: twice the capacity is kept, in progress or waiting for a worker. Those that wait
// for others of their session take up no room here.
//
// If nearly all messages of the last request were returned at once, many messages name
// few sessions, and those of other sessions follow them in the stream: then a multiple is
// requested.
func (f *fetcher) request() {
	if f.pull == nil {
		p, err := openPull(f.c.js, f.c.cfg.Prefix, f.c.cfg.Durable, 2*f.c.cfg.Workers)
		if err != nil {
			f.requestFailed(err)
			return
		}
		f.pull = p
	}
	capacity := f.capacity()
	room := 2*capacity - len(f.next) - f.inProgress
	if f.pull.open > 0 || room < max(1, capacity/2) {
		return
	}
	if f.requested > 0 && f.noRoom >= f.requested*7/8 {
		f.overrequest = min(2*f.overrequest, maxOverrequest)
	} else {
		f.overrequest = 1
	}
	room *= f.overrequest
	if f.durable.maxBatch > 0 {
		room = min(room, f.durable.maxBatch)
	}
	f.requested, f.noRoom = room, 0
	if err := f.pull.request(room); err != nil {
		f.requestFailed(err)
	}
}

// requestFailed delays the next request, and treats the durable as unavailable until the
// monitor has checked it.
func (f *fetcher) requestFailed(err error) {
	f.retry = time.After(retryDelay)
	f.c.cfg.Log.Debug().Err(err).Msg("request for messages failed")
	f.c.setStatus(func(s *Status) { s.State, s.Why = Rebuilding, err.Error() })
	f.monitor.loop.Soon()
}

// receive parses a message from the subscription. Only an outcome asks for an
// acknowledgement in its reply subject, which publishers can't set.
func (f *fetcher) receive(m *nats.Msg) {
	meta, err := m.Metadata()
	if err != nil {
		if reason := f.pull.control(m); reason != "" {
			f.requestFailed(errors.New(reason))
		}
		return
	}
	f.pull.outcomeReceived()
	f.monitor.sawSequence(meta.Sequence.Stream)
	d := &delivery{msg: m, meta: meta, generation: f.durable.generation}
	f.c.deliveries.add(d)
	d.parse(f.c.cfg.Prefix, f.c.cfg.TrustFunc)
	f.enqueue(d)
}

// enqueue lets a delivery be settled next, wait for others of its session, or go back.
func (f *fetcher) enqueue(d *delivery) {
	position, delay, logIt := f.sessions.add(d, time.Now())
	switch position {
	case isNext:
		f.next = append(f.next, d)
	case noRoom:
		f.noRoom++
		if logIt {
			f.c.cfg.Log.Warn().Str("session", d.outcome.Session.Token()).Uint64("sequence", d.meta.Sequence.Stream).
				Msg("more outcomes name this session than can wait for it: they are settled one by one, and the others are delivered again later")
		}
		f.returnDelivery(d, delay)
	}
}

// setDurable records the state of the durable consumer. Deliveries of an earlier one are
// dropped without an answer: its successor delivers them again.
func (f *fetcher) setDurable(s durableState) {
	if s.generation != f.durable.generation {
		f.c.deliveries.generation.Store(s.generation)
		f.returnUnstarted(0)
	}
	f.durable = s
	f.c.deliveries.setAckWait(s.ackWait)
	f.c.setStatus(func(status *Status) {
		status.State, status.Why = OK, ""
		if s.err != nil {
			status.State, status.Why = Rebuilding, s.err.Error()
			return
		}
		status.Pending, status.Unanswered = s.pending, s.unanswered
	})
}

// ErrClosed ends Run: a connection that was closed never comes back. The caller makes a
// new consumer.
var ErrClosed = errors.New("consumer: the NATS connection is closed for good")

func (f *fetcher) checkConnection() error {
	if f.c.js.Conn().IsClosed() {
		return ErrClosed
	}
	return nil
}

// connectionChanged forgets the open request, as the server does when the connection is
// lost.
func (f *fetcher) connectionChanged() {
	if f.pull != nil {
		f.pull.open = 0
		if f.withdrawing {
			_ = f.pull.sub.Unsubscribe() // its drain was interrupted, see withdraw
		}
	}
	f.monitor.loop.Soon()
}

// pullClosed ends a pull that was withdrawn, after receiving its last messages.
func (f *fetcher) pullClosed() {
	for {
		select {
		case m := <-f.pull.received:
			f.receive(m)
			continue
		default:
		}
		f.pull.silence.Stop()
		f.pull, f.withdrawing = nil, false
		return
	}
}

// returnUnstarted answers the deliveries that are not started, so that another replica can
// settle them.
func (f *fetcher) returnUnstarted(delay time.Duration) {
	waiting := f.sessions.removeWaiting()
	for _, d := range f.next {
		f.sessions.done(d, time.Now())
		f.returnDelivery(d, delay)
	}
	for _, d := range waiting {
		f.returnDelivery(d, delay)
	}
	f.next = nil
}

func (f *fetcher) returnDelivery(d *delivery, delay time.Duration) {
	answer := func() {
		if err := f.c.deliveries.answer(d, Verdict{Disposition: Returned, Delay: delay}); err != nil {
			f.c.cfg.Log.Debug().Err(err).Uint64("sequence", d.meta.Sequence.Stream).Msg("outcome not returned")
		}
	}
	if d.requeue != nil {
		f.workers.Go(answer) // waits for the server
		return
	}
	answer()
}

// drain withdraws the open request and receives the messages that are on their way, until
// the deadline: a server that hangs never reports that there are no more.
func (f *fetcher) drain(until time.Time) {
	if f.pull == nil {
		return
	}
	if !f.withdrawing {
		f.withdrawing = true
		f.pull.withdraw()
	}
	deadline := time.NewTimer(time.Until(until))
	defer deadline.Stop()
	for f.pull != nil {
		select {
		case m := <-f.pull.received:
			f.receive(m)
		case <-f.pull.closed:
			f.pullClosed()
		case <-f.finished:
			f.inProgress--
		case <-deadline.C:
			f.pull.abandon()
			f.pullClosed()
		}
	}
}

// stopWorkers waits until the workers have ended, or until the deadline.
func (f *fetcher) stopWorkers(until time.Time) bool {
	close(f.work)
	ended := make(chan struct{})
	go func() {
		f.workers.Wait()
		close(ended)
	}()
	deadline := time.NewTimer(time.Until(until))
	defer deadline.Stop()
	for {
		select {
		case <-f.finished:
			f.inProgress--
		case <-ended:
			return true
		case <-deadline.C:
			return false
		}
	}
}
