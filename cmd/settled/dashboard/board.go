package dashboard

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"settled/cmd/settled/internal/background"
	"settled/cmd/settled/internal/status"
	"settled/consumer"
	"settled/consumer/deadletter"
	"settled/consumer/operations"
	"settled/ledger"
	"settled/ledger/streamreader"
)

// DeadLetters lists, replays and discards dead letters; deadletter.Queue is one.
type DeadLetters interface {
	List(ctx context.Context, f deadletter.Filter) ([]deadletter.Letter, error)
	Get(ctx context.Context, sequence uint64) (deadletter.Letter, error)
	Replay(ctx context.Context, sequence uint64) (deadletter.ReplayResult, error)
	Discard(ctx context.Context, sequence uint64, reason string) error
}

// Outcomes tells what became of an outcome; status.Reader is one.
type Outcomes interface {
	Ask(ctx context.Context, q status.Question, most uint64) (status.Answer, error)
}

// Config configures a Board.
type Config struct {
	JS          jetstream.JetStream // on a connection that only the board uses
	Prefix      string              // nats.prefix
	DeadLetters DeadLetters
	Outcomes    Outcomes
	// Status describes the process. It must not block for long.
	Status func() Status
	// ForeignFunc, if not nil, is called for each message of the ledger that is not an
	// entry. It may be called several times for the same message.
	ForeignFunc func(ledger.Foreign)
	// EntryFunc, if not nil, is called with the message of each entry, as ledger.Skim does. It
	// may be called several times for the same message.
	EntryFunc func(ledger.Message)
	// Recent is what this process stored in the ledger; nil if it stores nothing.
	Recent *ledger.Recent
	// Token is what requests that change something must carry. Empty: they are refused.
	Token string
	// Loopback reports that the board listens on a loopback address: requests for the
	// names of other hosts are then refused.
	Loopback bool
	// Origin is the address at which browsers open the board behind a proxy, as they send
	// it in the header Origin. Empty: the address at which the board listens.
	Origin  string
	Version string
	Log     zerolog.Logger

	idleAfter time.Duration // zero: the constant of this name; only tests change it
}

// Board is the dashboard. Its methods may be called concurrently.
type Board struct {
	cfg        Config
	model      *model
	reader     ledgerReader
	operations *operations.Log

	mu        sync.Mutex
	streams   streamState
	overviews map[string]cachedOverview // by window

	questions chan struct{} // holds one for each question about an outcome that is being answered

	watched  watched
	reported uint64 // sequence of the last foreign message that skim reported

	subscribers     []*subscriber // oldest first
	stopped         chan struct{}
	subscribersDone sync.WaitGroup
}

// New returns a Board. It does not contact NATS; Run does.
func New(cfg Config) *Board {
	return &Board{
		cfg: cfg, model: newModel(), reader: ledgerReader{cfg.JS, cfg.Prefix},
		operations: operations.New(cfg.JS, consumer.Config{Prefix: cfg.Prefix}),
		overviews:  map[string]cachedOverview{}, stopped: make(chan struct{}), questions: make(chan struct{}, maxQuestions),
		watched: watched{idleAfter: cmp.Or(cfg.idleAfter, idleAfter), begun: make(chan struct{}, 1)},
	}
}

// Run follows the ledger until ctx ends; then it ends all event streams and waits for
// them. It may be called once.
func (b *Board) Run(ctx context.Context) {
	var reading sync.WaitGroup
	reading.Go(func() { b.pollStreams(ctx) })
	if b.cfg.ForeignFunc != nil {
		reading.Go(func() { b.keepReading(ctx, b.skim, func(error) {}) })
	}
	for b.watched.wait(ctx) {
		watching, stop := context.WithCancel(ctx)
		idle := background.Run(watching, func(ctx context.Context) {
			b.watched.waitIdle(ctx)
			stop()
		})
		b.keepReading(watching, b.follow, func(err error) {
			b.model.setProblem(err)
			b.watched.caughtUp() // as far as it can be
		})
		b.model.pause()
		idle()
	}
	reading.Wait()
	b.mu.Lock()
	close(b.stopped)
	b.mu.Unlock()
	b.subscribersDone.Wait()
}

// keepReading calls read again and again until ctx ends. It calls failed with its errors.
func (b *Board) keepReading(ctx context.Context, read func(context.Context) error, failed func(error)) {
	for ctx.Err() == nil {
		if err := read(ctx); err != nil && ctx.Err() == nil {
			failed(err)
			b.cfg.Log.Debug().Err(err).Msg("the dashboard can't follow the ledger; it tries again")
		}
		background.Sleep(ctx, time.Second)
	}
}

// maxReadAtStart is how many entries are read at the start, and after a pause. They fill the
// search index and, in most deployments, the counters of a day.
const maxReadAtStart = 100_000

// skim reports the foreign messages of the ledger until ctx ends. Somebody who can write to
// it must be noticed whether or not anybody watches.
func (b *Board) skim(ctx context.Context) error {
	from, info, err := b.firstToRead(ctx)
	if err != nil {
		return err
	}
	if b.reported <= info.State.LastSeq { // else the stream was replaced
		from = max(from, b.reported+1)
	}
	return ledger.Skim(ctx, b.open, b.reader.allFrom(from), b.cfg.Recent, func(f ledger.Foreign) {
		b.reported = f.Sequence
		b.cfg.ForeignFunc(f)
	}, b.cfg.EntryFunc)
}

// firstToRead returns the sequence from which the ledger is read at the start.
func (b *Board) firstToRead(ctx context.Context) (uint64, *jetstream.StreamInfo, error) {
	info, err := b.reader.info(ctx)
	if err != nil {
		return 0, nil, err
	}
	from := max(info.State.FirstSeq, 1)
	if info.State.LastSeq > maxReadAtStart {
		from = max(from, info.State.LastSeq-maxReadAtStart+1)
	}
	return from, info, nil
}

func (b *Board) open(context.Context) (*streamreader.Reader, error) { return b.reader.stream(), nil }

// follow reads the ledger, entry by entry, until ctx ends or the stream is replaced by an older copy.
func (b *Board) follow(ctx context.Context) error {
	from, info, err := b.firstToRead(ctx)
	if err != nil {
		return err
	}
	from = b.model.startReading(info.Created, from, info.State.LastSeq)
	entries := b.reader.allFrom(from)
	last, err := ledger.List(ctx, b.reader.stream(), entries, false, b.handleMessage) // reads many messages at once
	if err == nil {
		b.watched.caughtUp()
		entries.From = max(last+1, from)
		err = ledger.Follow(ctx, b.open, entries, b.reportProblem, b.handleMessage)
	}
	if err != nil {
		return fmt.Errorf("follow the ledger: %w", err)
	}
	return nil
}

// reportProblem shows why the ledger can't be followed; nil: it can be again. A ledger
// that was replaced by an older copy is read from the beginning.
func (b *Board) reportProblem(err error) error {
	if errors.Is(err, streamreader.ErrRestored) {
		b.model.invalidate()
		return err
	}
	b.model.setProblem(err)
	return nil
}

func (b *Board) handleMessage(s ledger.Stored) error {
	if s.Err != nil {
		b.model.addUnreadable(s.Sequence)
	} else {
		b.model.add(s.Entry, s.Time)
	}
	return nil
}

// How often the state of the streams is read, and how long one read may take.
const (
	pollInterval = 2 * time.Second
	pollTimeout  = 5 * time.Second
)

// streamState is what the overview shows of the streams themselves.
type streamState struct {
	lastSequence uint64 // of the ledger
	deadLetters  uint64
	stop         *Stop // in force
	err          error // of the last read
}

// pollStreams reads the state of the streams again and again until ctx ends. After a
// failure the last known state stays, with the error.
func (b *Board) pollStreams(ctx context.Context) {
	for ctx.Err() == nil {
		pollCtx, cancel := context.WithTimeout(ctx, pollTimeout)
		state, err := b.readStreamState(pollCtx)
		cancel()
		b.mu.Lock()
		if err != nil {
			b.streams.err = err
		} else {
			b.streams = state
		}
		b.mu.Unlock()
		background.Sleep(ctx, pollInterval)
	}
}

func (b *Board) readStreamState(ctx context.Context) (state streamState, err error) {
	info, err := b.reader.info(ctx)
	if err != nil {
		return state, err
	}
	state.lastSequence = info.State.LastSeq
	deadLetters, err := streamreader.New(b.cfg.JS, consumer.DeadLettersStream(b.cfg.Prefix)).Info(ctx)
	if err != nil {
		return state, err
	}
	state.deadLetters = deadLetters.State.Msgs
	op, err := b.operations.Stopped(ctx)
	if err != nil || op == nil {
		return state, err
	}
	state.stop = &Stop{Sequence: op.Sequence, At: op.Stored, Who: op.Who, Reason: op.Reason}
	if op.Session != "" {
		state.stop.Session = op.Session.Token()
	}
	return state, nil
}
