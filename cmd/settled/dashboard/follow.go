package dashboard

import (
	"context"
	"errors"
	"fmt"
	"time"

	"settled/consumer"
	"settled/ledger"
	"settled/ledger/streamreader"
)

// readBack is how many entries are read at the start: what the index holds, and for
// most the counts of a day.
const readBack = 100_000

// How often the streams are looked at, and how long one look may take.
const (
	lookPeriod = 2 * time.Second
	lookTime   = 5 * time.Second
)

// follow reads the ledger, entry by entry, until ctx ends or the stream is set back.
func (b *Board) follow(ctx context.Context) error {
	info, err := b.src.info(ctx)
	if err != nil {
		return err
	}
	from := max(info.State.FirstSeq, 1)
	if info.State.LastSeq > readBack {
		from = max(from, info.State.LastSeq-readBack+1)
	}
	from = b.model.begin(info.Created, from, info.State.LastSeq)
	entries := streamreader.Selection{Subjects: []string{b.cfg.Prefix + "settlement.*.*"}, From: from}
	last, err := ledger.List(ctx, b.src.reader(), entries, false, b.take) // many sessions at once
	if err == nil {
		entries.From = max(last+1, from)
		open := func(context.Context) (*streamreader.Reader, error) { return b.src.reader(), nil }
		err = ledger.Follow(ctx, open, entries, b.report, b.take)
	}
	if err != nil {
		return fmt.Errorf("follow the ledger: %w", err)
	}
	return nil
}

// report shows why the ledger can't be followed at the moment. A ledger that was set
// back is read from the beginning.
func (b *Board) report(err error) error {
	if errors.Is(err, streamreader.ErrSetBack) {
		b.model.forget()
		return err
	}
	b.model.broken(err)
	return nil
}

// take hands a message to the model.
func (b *Board) take(s ledger.Stored) error {
	if s.Foreign != nil && b.cfg.ForeignFunc != nil {
		b.cfg.ForeignFunc(*s.Foreign)
	}
	if s.Err != nil {
		b.model.skip(s.Sequence)
	} else {
		b.model.add(s.Entry, s.Time)
	}
	return nil
}

// outlook is what a look at the streams found.
type outlook struct {
	last    uint64 // the ledger's last sequence
	letters uint64 // dead letters
	stop    *Stop
	err     error
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
	info, err := b.src.info(ctx)
	if err != nil {
		return o, err
	}
	o.last = info.State.LastSeq
	letters, err := streamreader.New(b.cfg.JS, consumer.DeadLettersStream(b.cfg.Prefix)).Info(ctx)
	if err != nil {
		return o, err
	}
	o.letters = letters.State.Msgs
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
