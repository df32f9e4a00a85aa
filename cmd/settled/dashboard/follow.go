package dashboard

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"settled/consumer"
	"settled/ledger"
)

// readBack is how many entries are read at the start: what the index holds, and for
// most the counts of a day.
const readBack = 100_000

// How often the streams are looked at, and how long one look may take.
const (
	lookPeriod = 2 * time.Second
	lookTime   = 5 * time.Second
)

// follow reads the ledger, entry by entry, until ctx ends, the stream is another
// one, or an error.
func (b *Board) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := b.src.stream(ctx)
	if err != nil {
		return err
	}
	info := stream.CachedInfo()
	from := max(info.State.FirstSeq, 1)
	if info.State.LastSeq > readBack {
		from = max(from, info.State.LastSeq-readBack+1)
	}
	from = b.model.begin(info.Created, from, info.State.LastSeq)
	entries, err := b.cfg.JS.OrderedConsumer(ctx, ledger.StreamName(b.cfg.Prefix), jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{b.cfg.Prefix + "settlement.*.*"}, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: from,
	})
	if err != nil {
		return fmt.Errorf("follow the ledger: %w", err)
	}
	messages, err := entries.Messages(jetstream.PullMaxMessages(500))
	if err != nil {
		return fmt.Errorf("follow the ledger: %w", err)
	}
	defer messages.Stop()
	return b.read(ctx, messages, info.Created)
}

// read hands every message to the model. A stream that was made anew is noticed
// where none comes.
func (b *Board) read(ctx context.Context, messages jetstream.MessagesContext, created time.Time) error {
	for {
		next, cancel := context.WithTimeout(ctx, lookPeriod)
		m, err := messages.Next(jetstream.NextContext(next))
		cancel()
		if b.outlook().madeAnew(created) {
			return errors.New("the ledger's stream was made anew")
		}
		if err != nil {
			if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
				continue
			}
			return fmt.Errorf("follow the ledger: %w", err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("follow the ledger: %w", err)
		}
		e, err := ledger.ParseEntry(m.Subject(), m.Data(), meta.Sequence.Stream)
		if err != nil {
			b.model.skip(meta.Sequence.Stream)
			continue
		}
		b.model.add(e, meta.Timestamp)
	}
}

// outlook is what a look at the streams found.
type outlook struct {
	created time.Time // of the ledger's stream; zero: not seen yet
	last    uint64    // its last sequence
	letters uint64    // dead letters
	stop    *Stop
	err     error
}

func (o outlook) madeAnew(created time.Time) bool {
	return !o.created.IsZero() && !o.created.Equal(created)
}

func (b *Board) outlook() outlook {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.seen
}

// look looks at the streams again and again until ctx ends.
func (b *Board) look(ctx context.Context) {
	for ctx.Err() == nil {
		one, cancel := context.WithTimeout(ctx, lookTime)
		found, err := b.lookOnce(one)
		cancel()
		b.mu.Lock()
		if err != nil {
			b.seen.err = err // what was seen last is shown, and that it is old
		} else {
			b.seen = found
		}
		b.mu.Unlock()
		pause(ctx, lookPeriod)
	}
}

func (b *Board) lookOnce(ctx context.Context) (o outlook, err error) {
	stream, err := b.src.stream(ctx)
	if err != nil {
		return o, err
	}
	o.created, o.last = stream.CachedInfo().Created, stream.CachedInfo().State.LastSeq
	letters, err := b.cfg.JS.Stream(ctx, consumer.DeadLettersStream(b.cfg.Prefix))
	if err != nil {
		return o, fmt.Errorf("stream %s: %w", consumer.DeadLettersStream(b.cfg.Prefix), err)
	}
	o.letters = letters.CachedInfo().State.Msgs
	o.stop, err = b.stop(ctx)
	return o, err
}

// stop is the stop in force, if any.
func (b *Board) stop(ctx context.Context) (*Stop, error) {
	op, err := b.operations.Stopped(ctx)
	if err != nil || op == nil {
		return nil, err
	}
	s := Stop{Sequence: op.Sequence, At: op.Stored, Who: op.Who, Reason: op.Reason}
	if op.Session != "" {
		s.Session = op.Session.Token()
	}
	return &s, nil
}
