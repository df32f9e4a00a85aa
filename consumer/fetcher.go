package consumer

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	pausedDelay = time.Second            // for which messages are given back that were taken before a pause
	readyPeriod = time.Second            // in which Ready is asked beside Changed
	retryDelay  = 250 * time.Millisecond // between a request that failed and the next
)

// feed takes messages and hands them to the workers. One goroutine runs it and
// owns all it holds; how many messages are out follows from that, without a lock.
type feed struct {
	c        *Consumer
	watch    *watch
	bindings chan binding
	work     chan *message
	finished chan *message

	bound   binding
	ready   error
	changed <-chan struct{} // closed when Ready may answer otherwise
	pull    *pull           // nil: none is open
	leaving bool            // the pull is being withdrawn
	queue   []*message      // whose turn it is, and no worker has them yet
	turns   *turns
	inHand  int
	asked   int              // messages of the last request
	noRoom  int              // of these, those that were given back at once
	factor  int              // how many times as many as there is room for are asked for
	retry   <-chan time.Time // after a request failed: until then none is made; nil: none failed
}

func newFeed(c *Consumer, w *watch) *feed {
	return &feed{
		c: c, watch: w,
		bindings: make(chan binding), work: make(chan *message), finished: make(chan *message, c.cfg.Workers),
		turns: newTurns(c.cfg.Workers), factor: 1,
	}
}

// run takes and hands out messages until ctx ends; what is still under way then
// is left to drain.
func (f *feed) run(ctx context.Context, first binding) error {
	connection := f.c.js.Conn().StatusChanged(nats.CONNECTED, nats.RECONNECTING, nats.CLOSED)
	defer f.c.js.Conn().RemoveStatusListener(connection)
	tick := time.NewTicker(readyPeriod)
	defer tick.Stop()
	f.bind(first)
	f.askReady()
	for ctx.Err() == nil {
		f.steer()
		f.tell()
		if err := f.step(ctx, tick.C, connection); err != nil {
			return err
		}
	}
	return nil
}

// step waits for one thing to happen.
func (f *feed) step(ctx context.Context, tick <-chan time.Time, connection <-chan nats.Status) error {
	work, next := f.next()
	arrived, closed, silence := f.channels()
	select {
	case <-ctx.Done():
	case work <- next:
		f.queue = f.queue[1:]
		f.inHand++
	case m := <-f.finished:
		f.inHand--
		if next := f.turns.ended(m, time.Now()); next != nil {
			f.queue = append(f.queue, next)
		}
	case m := <-arrived:
		f.take(m)
	case <-closed:
		f.left()
	case <-silence:
		f.pull.lost()
		f.watch.hurry()
	case b := <-f.bindings:
		f.bind(b)
	case <-connection:
		f.broke()
		return f.connected()
	case <-f.retry:
		f.retry = nil
	case <-f.changed:
		f.askReady()
	case <-tick:
		f.askReady()
		return f.connected()
	}
	return nil
}

// next is the oldest message that is not begun, and where it goes.
func (f *feed) next() (chan<- *message, *message) {
	if len(f.queue) == 0 {
		return nil, nil
	}
	return f.work, f.queue[0]
}

func (f *feed) channels() (arrived <-chan *nats.Msg, closed <-chan struct{}, silence <-chan time.Time) {
	if f.pull == nil {
		return nil, nil, nil
	}
	if f.pull.left > 0 {
		silence = f.pull.silence.C
	}
	return f.pull.arrived, f.pull.closed, silence
}

// askReady asks for the channel before the answer, so that no change is missed.
func (f *feed) askReady() {
	if f.c.cfg.Changed != nil {
		f.changed = f.c.cfg.Changed()
	}
	was := f.ready
	f.ready = nil
	if f.c.cfg.Ready != nil {
		f.ready = f.c.cfg.Ready()
	}
	switch {
	case was == nil && f.ready != nil:
		f.c.cfg.Log.Warn().Err(f.ready).Msg("fetching paused until the node is ready")
	case was != nil && f.ready == nil:
		f.c.cfg.Log.Info().Msg("fetching resumed")
	}
}

// tell brings the status up to date.
func (f *feed) tell() {
	f.c.setStatus(func(s *Status) {
		s.Beat = time.Now()
		s.InHand, s.Waiting = f.inHand, len(f.queue)+f.turns.waiting
		s.Paused, s.PausedWhy = f.ready != nil, ""
		if f.ready != nil {
			s.PausedWhy = f.ready.Error()
		}
	})
}

// steer opens, asks or withdraws, whatever the moment wants.
func (f *feed) steer() {
	if f.ready != nil {
		f.giveBack(pausedDelay)
	}
	may := f.ready == nil && f.bound.err == nil
	switch {
	case f.leaving:
	case !may && f.pull != nil:
		f.leaving = true
		f.pull.withdraw()
	case may && f.retry == nil && f.c.js.Conn().IsConnected():
		f.ask()
	}
}

// ask asks for as many messages as there is room for, once that is worth it:
// twice as many as there are workers are held, in hand or waiting for a worker.
// What waits for its session's turn takes no room here: it has bounds of its own.
func (f *feed) ask() {
	workers := f.c.cfg.Workers
	if f.pull == nil {
		p, err := openPull(f.c.js, f.c.cfg.Prefix, f.c.cfg.Durable, 2*workers)
		if err != nil {
			f.troubled(err)
			return
		}
		f.pull = p
	}
	room := 2*workers - len(f.queue) - f.inHand
	if f.pull.left > 0 || room < max(1, workers/2) {
		return
	}
	room *= f.overask()
	if f.bound.batch > 0 {
		room = min(room, f.bound.batch)
	}
	f.asked, f.noRoom = room, 0
	if err := f.pull.ask(room); err != nil {
		f.troubled(err)
	}
}

// mostFactor bounds overask, and by that what is held where a batch of messages that
// were expected to be given back are settled instead.
const mostFactor = 8

// overask is how many times as many messages as there is room for are asked for. It
// doubles while nearly all that arrive are given back at once, because many messages
// name few sessions: other sessions' stand behind them in the stream.
func (f *feed) overask() int {
	if f.asked > 0 && f.noRoom >= f.asked*7/8 {
		f.factor = min(2*f.factor, mostFactor)
	} else {
		f.factor = 1
	}
	return f.factor
}

// troubled notes that a request failed: the next one waits a moment, and the
// durable counts as away until it was looked at.
func (f *feed) troubled(err error) {
	f.retry = time.After(retryDelay)
	f.c.cfg.Log.Debug().Err(err).Msg("request for messages failed")
	f.c.setStatus(func(s *Status) { s.State, s.Why = Rebuilding, err.Error() })
	f.watch.hurry()
}

// take reads what the subscription brought.
func (f *feed) take(m *nats.Msg) {
	meta, isOutcome := outcome(m)
	if !isOutcome {
		if ended, why := f.pull.ended(m); ended && why != "" {
			f.troubled(errors.New(why))
		}
		return
	}
	f.pull.took()
	f.watch.took(meta.Sequence.Stream)
	held := &message{nc: f.c.js.Conn(), msg: m, meta: meta, generation: f.bound.generation}
	held.read(f.c.cfg.Prefix, f.c.cfg.TrustFunc)
	f.c.held.add(held)
	f.place(held)
}

// place lets a message be settled next, wait for its session's turn, or go back.
func (f *feed) place(m *message) {
	p, delay, tell := f.turns.arrived(m, time.Now())
	switch p {
	case itsTurn:
		f.queue = append(f.queue, m)
	case noRoom:
		f.noRoom++
		if tell {
			f.c.cfg.Log.Warn().Str("session", m.outcome.Session.Token()).Uint64("sequence", m.meta.Sequence.Stream).
				Msg("more outcomes name this session than can wait for it: one after the other is settled, the others are given back meanwhile")
		}
		f.answerUnbegun(m, delay)
	}
}

// bind takes note of the durable. What an earlier one delivered is let go of
// unanswered: its successor delivers it again.
func (f *feed) bind(b binding) {
	if b.generation != f.bound.generation {
		f.c.held.generation.Store(b.generation)
		f.giveBack(0)
	}
	f.bound = b
	f.c.held.keepAlive(b.ackWait)
	f.c.setStatus(func(s *Status) {
		s.State, s.Why = OK, ""
		if b.err != nil {
			s.State, s.Why = Rebuilding, b.err.Error()
			return
		}
		s.Pending, s.Unanswered = b.pending, b.unanswered
	})
}

// ErrClosed ends Run: a connection closed for good never comes back. Whoever runs the
// consumer makes a new one.
var ErrClosed = errors.New("consumer: the NATS connection is closed for good")

// broke takes note of a connection that broke or came back: the server forgot
// what it was asked over it.
func (f *feed) broke() {
	if f.pull != nil {
		f.pull.lost()
	}
	if f.leaving && f.pull != nil {
		_ = f.pull.sub.Unsubscribe() // its drain was cut off, see withdraw
	}
	f.watch.hurry()
}

func (f *feed) connected() error {
	if f.c.js.Conn().IsClosed() {
		return ErrClosed
	}
	return nil
}

// left ends a pull that was withdrawn, taking what came last.
func (f *feed) left() {
	for {
		select {
		case m := <-f.pull.arrived:
			f.take(m)
			continue
		default:
		}
		f.pull.silence.Stop()
		f.pull, f.leaving = nil, false
		return
	}
}
