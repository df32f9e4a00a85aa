package consumer

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// How often the durable is looked at, how soon again while something is wrong,
// and how long one look may take.
const (
	lookPeriod = 3 * time.Second
	lookAgain  = 500 * time.Millisecond
	lookTime   = 2 * time.Second
)

// freshStart is how far beyond the last known sequence a stream of outcomes
// begins that is made anew. The ledger compares sequences to tell a redelivery
// from a replay, and acknowledgements name them: none may ever be used twice.
const freshStart = 1_000_000

// binding is what a look at the durable found.
type binding struct {
	err        error  // nil: it is there
	generation uint64 // changes when the stream or the durable was made anew
	ackWait    time.Duration
	batch      int // the most that may be asked for at once; 0: no limit
	pending    uint64
	unanswered int
}

// watch sees to it that the streams and the durable are there, for a deleted one
// is only logged by the client library. It makes anew what may be made.
type watch struct {
	c       *Consumer
	hurried chan struct{}
	period  time.Duration

	last    binding
	created [2]time.Time // of the stream and of the durable
	lastSeq uint64       // of the stream, as it was looked at
	setBack bool         // the stream ends below what was seen of it
	missing bool         // the stream was missing at the last look
	warned  map[string]bool

	delivered atomic.Uint64 // the highest sequence of a message that was taken: it may be in hand before the stream was looked at
}

// took takes note of a message that was delivered.
func (w *watch) took(sequence uint64) {
	if sequence > w.delivered.Load() { // one goroutine takes messages
		w.delivered.Store(sequence)
	}
}

func newWatch(c *Consumer) *watch {
	return &watch{c: c, hurried: make(chan struct{}, 1), period: lookPeriod, warned: map[string]bool{}}
}

// hurry asks for a look now.
func (w *watch) hurry() {
	select {
	case w.hurried <- struct{}{}:
	default: // asked already
	}
}

// start looks again and again, and hands on what it finds.
func (w *watch) start(ctx context.Context, found chan<- binding) task {
	return startTask(ctx, func(ctx context.Context) {
		for w.wait(ctx) {
			select {
			case found <- w.look(ctx):
			case <-ctx.Done():
				return
			}
		}
	})
}

func (w *watch) wait(ctx context.Context) bool {
	pause := w.period
	if w.last.err != nil {
		pause = lookAgain
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-w.hurried:
	case <-timer.C:
	}
	return true
}

// look looks once, and mends.
func (w *watch) look(ctx context.Context) binding {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	b, created, err := w.bind(ctx)
	b.generation = w.last.generation
	switch {
	case err != nil:
		w.tell(ctx, err)
		b.err, b.ackWait, b.batch = err, w.last.ackWait, w.last.batch
	case created != w.created:
		if b.generation > 0 {
			w.c.cfg.Log.Error().Msg("the stream of outcomes or its durable consumer was deleted and made anew: outcomes are delivered again from the first, the ledger knows those that are settled")
		}
		b.generation++
		w.created = created
	case w.last.err != nil:
		w.c.cfg.Log.Info().Msg("outcomes can be taken again")
	}
	w.last = b
	return b
}

// tell logs what is wrong when it begins, not at every look.
func (w *watch) tell(ctx context.Context, err error) {
	if errors.Is(ctx.Err(), context.Canceled) {
		return // we are stopped
	}
	if w.last.err == nil || w.last.err.Error() != err.Error() {
		w.c.cfg.Log.Error().Err(err).Msg("outcomes can't be taken")
	}
}

var errDisconnected = errors.New("NATS is not connected")

func (w *watch) bind(ctx context.Context) (b binding, created [2]time.Time, err error) {
	cfg := w.c.cfg
	if !w.c.js.Conn().IsConnected() {
		return b, created, errDisconnected // at once: a request would wait for the connection
	}
	s, err := w.stream(ctx)
	if err != nil {
		return b, created, err
	}
	stream := s.CachedInfo()
	furthest := max(w.lastSeq, w.delivered.Load())
	setBack := stream.State.LastSeq < furthest
	if setBack && !w.setBack {
		w.c.cfg.Log.Error().Uint64("was", furthest).Uint64("is", stream.State.LastSeq).Msg("the last sequence of the stream of outcomes fell: it was restored from an older copy or created again; outcomes that were published since and have no result must be published again: run settled reconcile")
	}
	w.setBack = setBack
	w.lastSeq = max(w.lastSeq, stream.State.LastSeq)
	info, warnings, err := ensureDurable(ctx, s, cfg)
	w.warn(warnings)
	if err != nil {
		return b, created, fmt.Errorf("consumer %s of %s: %w", cfg.Durable, OutcomesStream(cfg.Prefix), err)
	}
	b = binding{
		ackWait: ackWaitOf(info.Config), batch: info.Config.MaxRequestBatch,
		pending: info.NumPending, unanswered: info.NumAckPending,
	}
	return b, [2]time.Time{stream.Created, info.Created}, nil
}

// ackWaitOf is after what time the server delivers again; a durable made by
// others may have a backoff instead.
func ackWaitOf(c jetstream.ConsumerConfig) time.Duration {
	wait := c.AckWait
	for _, b := range c.BackOff {
		wait = min(wait, b)
	}
	return wait
}

func (w *watch) warn(warnings []string) {
	for _, text := range warnings {
		if !w.warned[text] {
			w.warned[text] = true
			w.c.cfg.Log.Warn().Msg(text)
		}
	}
}

// stream is the stream of outcomes, made anew where it is gone and that is
// allowed. Gone is believed when seen twice in a row.
func (w *watch) stream(ctx context.Context) (jetstream.Stream, error) {
	cfg := w.c.cfg
	if cfg.ManageStreams {
		if err := w.others(ctx); err != nil {
			return nil, err
		}
	}
	name := OutcomesStream(cfg.Prefix)
	s, err := w.c.js.Stream(ctx, name)
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		w.missing = false
		return s, wrapStream(name, err)
	}
	want := StreamConfigs(cfg)[0]
	switch {
	case !cfg.ManageStreams:
		return nil, &MissingError{What: "stream " + name, Command: CreateCommand(want)}
	case !w.missing:
		w.missing = true
		return nil, fmt.Errorf("stream %s is missing", name)
	}
	return w.anew(ctx, want)
}

func wrapStream(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("stream %s: %w", name, err)
}

// anew makes the stream of outcomes again.
func (w *watch) anew(ctx context.Context, want jetstream.StreamConfig) (jetstream.Stream, error) {
	if last := max(w.lastSeq, w.delivered.Load()); last > 0 {
		want.FirstSeq = last + freshStart
	} else {
		var err error // it was gone before it was ever seen
		if want.FirstSeq, err = firstSequence(ctx, w.c.js, want.Name, w.c.cfg.Prefix); err != nil {
			return nil, wrapStream(want.Name, err)
		}
	}
	s, err := createStream(ctx, w.c.js, want)
	if err != nil {
		return nil, wrapStream(want.Name, err)
	}
	w.missing = false
	w.c.cfg.Log.Error().Str("stream", want.Name).Uint64("first_sequence", want.FirstSeq).
		Msg("the stream of outcomes was deleted and is made anew, empty: outcomes in it that had no result are lost, publish them again")
	return s, nil
}

// others makes the streams of dead letters and operations anew where they are gone.
func (w *watch) others(ctx context.Context) error {
	for _, want := range StreamConfigs(w.c.cfg)[1:] {
		_, err := w.c.js.Stream(ctx, want.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			w.c.cfg.Log.Error().Str("stream", want.Name).Msg("the stream is missing and is made anew, empty")
			_, err = createStream(ctx, w.c.js, want)
		}
		if err != nil {
			return wrapStream(want.Name, err)
		}
	}
	return nil
}
