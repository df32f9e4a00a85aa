package ledger

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"settled/ledger/streamreader"
	"settled/settlement"
)

// StreamSource returns the ledger's stream as a Source for commands that only read.
func StreamSource(r *streamreader.Reader) Source { return &streamSource{r} }

type streamSource struct{ r *streamreader.Reader }

func (s *streamSource) Get(ctx context.Context, filter string, from uint64) (Message, error) {
	m, err := streamreader.Retry(ctx, s.r, func(ctx context.Context) (*jetstream.RawStreamMsg, error) {
		if from == 0 {
			return s.r.Last(ctx, filter)
		}
		return s.r.Next(ctx, filter, from)
	})
	if err != nil {
		return Message{}, err
	}
	return messageOf(m), nil
}

func (s *streamSource) Gaps(ctx context.Context) (bool, error) {
	info, err := streamreader.Retry(ctx, s.r, s.r.Info)
	return err == nil && hasGaps(info), err
}

// nextOf adapts the Get of a Source for streamreader.Range.
func nextOf(get func(ctx context.Context, filter string, from uint64) (Message, error)) streamreader.NextFunc {
	return func(ctx context.Context, filter string, from uint64) (*jetstream.RawStreamMsg, error) {
		m, err := get(ctx, filter, from)
		return &jetstream.RawStreamMsg{Subject: m.Subject, Sequence: m.Sequence, Time: m.Time, Data: m.Payload}, err
	}
}

// Parse decodes a message of the ledger's stream. It does not decide whether the message is
// foreign; a Classifier does.
func Parse(m *jetstream.RawStreamMsg) Stored { return parse(messageOf(m)) }

// PolicyOf returns the policy that an entry was made by, without decoding the rest of its
// payload. ok is false if it names none, as a failed entry does.
func PolicyOf(payload []byte) (ref settlement.PolicyRef, ok bool) {
	_, rest, found := bytes.Cut(payload, []byte(`"policy":`)) // in a text, the quotes would be escaped
	if !found {
		return ref, false
	}
	err := json.NewDecoder(bytes.NewReader(rest)).Decode(&ref)
	return ref, err == nil && ref.Name != ""
}

// Walk calls fn with every message of the ledger from a sequence on (0: from the first), in
// order, up to the last one when it begins, and returns the sequence of that; 0 for an empty
// ledger. A message that can't be read as an entry is passed with its Err. An error of fn
// ends the walk and is returned. Temporary failures are retried for half a minute.
func (l *Ledger) Walk(ctx context.Context, from uint64, fn func(Stored) error) (last uint64, err error) {
	end, err := l.lastSequence(ctx)
	if end == 0 || err != nil {
		return 0, err
	}
	decode := func(_ context.Context, m *jetstream.RawStreamMsg) (Stored, error) { return Parse(m), nil }
	if err := walk(ctx, l, max(from, 1), end, decode, fn); err != nil {
		return 0, err
	}
	return end, nil
}

// lastSequence returns the sequence of the ledger's last message; 0: it has none.
func (l *Ledger) lastSequence(ctx context.Context) (uint64, error) {
	end, err := l.get(ctx, allSubjects(l.cfg.Prefix), 0)
	if err != nil && !errors.Is(err, ErrNoMessage) {
		return 0, fmt.Errorf("ledger: last entry: %w", err)
	}
	return end.Sequence, nil
}

// walk calls fn, in order, with what decode makes of every message of the ledger from one
// sequence to another, which the ledger must have had. decode is called concurrently.
func walk[T any](ctx context.Context, l *Ledger, from, end uint64, decode func(context.Context, *jetstream.RawStreamMsg) (T, error), fn func(T) error) error {
	get := func(ctx context.Context, filter string, at uint64) (Message, error) {
		m, err := l.getPatiently(ctx, filter, at)
		switch {
		case errors.Is(err, ErrNoMessage):
			return Message{}, fmt.Errorf("ledger: entries from %d: no such message: entries vanished while they were read", at)
		case err != nil:
			return Message{}, fmt.Errorf("ledger: entries from %d: %w", at, err)
		}
		return m, nil
	}
	return streamreader.RangeDecoded(ctx, nextOf(get), decode, []string{allSubjects(l.cfg.Prefix)}, from, end, fn)
}

// readPatience is how long getPatiently retries a read, and readPause the time between two
// attempts.
const readPatience, readPause = 30 * time.Second, 500 * time.Millisecond

// getPatiently is get for commands that read much: temporary failures are retried.
func (l *Ledger) getPatiently(ctx context.Context, filter string, from uint64) (Message, error) {
	for began := l.cfg.MonotonicFunc(); ; {
		m, err := l.get(ctx, filter, from)
		if err == nil || ctx.Err() != nil || !streamreader.Temporary(err) || l.cfg.MonotonicFunc().Sub(began) >= readPatience {
			return m, err
		}
		if err := l.cfg.WaitFunc(ctx, readPause); err != nil {
			return m, err
		}
	}
}

// Session returns every message on a session's subjects, oldest first, up to the last one
// when it is called, and marks foreign ones; for the empty id those of unknown sessions.
func (l *Ledger) Session(ctx context.Context, id settlement.SessionID) ([]Stored, error) {
	var all []Stored
	err := EachInSession(ctx, l.source(), l.cfg.Prefix, id, func(s Stored) error {
		all = append(all, s)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("ledger: entries of %s: %w", id.Token(), err)
	}
	return all, nil
}

// source returns the ledger's stream as a Source whose reads the loss detector observes.
func (l *Ledger) source() Source { return observedSource{l.stream, l} }

type observedSource struct {
	Stream
	l *Ledger
}

func (s observedSource) Get(ctx context.Context, filter string, from uint64) (Message, error) {
	return s.l.get(ctx, filter, from)
}

// EachInSession calls fn with every message on a session's subjects, classified, in order,
// up to the last one when it begins; for the empty id with those of unknown sessions.
func EachInSession(ctx context.Context, src Source, prefix string, id settlement.SessionID, fn func(Stored) error) error {
	c := NewClassifier(src, AllMessages)
	return eachMatching(ctx, src, prefix, id, func(s Stored) error {
		s, err := c.Classify(ctx, s)
		if err != nil {
			return err
		}
		return fn(s)
	})
}

// eachMatching calls fn with every message on a session's subjects, not classified.
func eachMatching(ctx context.Context, src Source, prefix string, id settlement.SessionID, fn func(Stored) error) error {
	_, filter := subjects(prefix, "", id)
	end, err := src.Get(ctx, filter, 0)
	if errors.Is(err, ErrNoMessage) {
		return nil
	}
	if err != nil {
		return err
	}
	last := uint64(0)
	err = streamreader.Range(ctx, nextOf(src.Get), []string{filter}, 1, end.Sequence, func(m *jetstream.RawStreamMsg) error {
		last = m.Sequence
		return fn(Parse(m))
	})
	if err == nil && last != end.Sequence {
		err = errors.New("messages vanished while they were read")
	}
	return err
}

// batch is the number of messages that List prepares together.
const batch = 256

// List calls fn with every message of the ledger that the selection includes, classified, in
// order, up to the last one when List begins, and returns the sequence of that. some says
// that the selection's subjects leave out messages of a session. Errors: as of
// streamreader.Reader.List.
func List(ctx context.Context, r *streamreader.Reader, s streamreader.Selection, some bool, fn func(Stored) error) (last uint64, err error) {
	coverage := coverageOf(s)
	if some {
		coverage = SomeMessages
	}
	return list(ctx, r, s, NewClassifier(StreamSource(r), coverage), fn)
}

func list(ctx context.Context, r *streamreader.Reader, s streamreader.Selection, c *Classifier, fn func(Stored) error) (last uint64, err error) {
	var waiting []Stored
	flush := func() error {
		next := waiting
		waiting = waiting[:0]
		if err := c.Prepare(ctx, next); err != nil {
			return err
		}
		for _, s := range next {
			s, err := c.Classify(ctx, s)
			if err == nil {
				err = fn(s)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	last, err = r.List(ctx, s, func(m *jetstream.RawStreamMsg) error {
		if waiting = append(waiting, c.decode(messageOf(m))); len(waiting) < batch && c.coverage != AllMessages {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	if errors.Is(err, streamreader.ErrEnough) {
		err = nil
	}
	return last, err
}

// coverageOf returns the coverage of a selection that leaves out no message of a session.
func coverageOf(s streamreader.Selection) Coverage {
	if s.From > 1 || !s.Since.IsZero() || s.Fresh {
		return LaterMessages
	}
	return AllMessages
}

// Follow is streamreader.Follow with classified messages. The selection must not leave out
// messages of a session. The number of sessions that it remembers is bounded.
func Follow(ctx context.Context, open streamreader.OpenFunc, s streamreader.Selection, report func(error) error, fn func(Stored) error) error {
	f := classifiedFollower{src: &streamSource{}, open: open, report: report, fn: fn}
	f.c = f.newClassifier(coverageOf(s))
	return f.run(ctx, s)
}

// Skim is List and then Follow, for a caller that needs only the foreign messages, within
// about a second. It decodes no message that continues the chain of its session, and does
// not read those that recent has. For any other message it finds what Follow does. entry, if
// not nil, is called with the messages of entries; the Time of those in recent is zero.
func Skim(ctx context.Context, open streamreader.OpenFunc, s streamreader.Selection, recent *Recent, foreign func(Foreign), entry func(Message)) error {
	s.Polled = true
	openKnowing := func(ctx context.Context) (*streamreader.Reader, error) {
		r, err := open(ctx)
		if err != nil {
			return nil, err
		}
		return r.Knowing(recent.get), nil
	}
	f := classifiedFollower{src: &streamSource{}, open: openKnowing, skim: true, fn: func(s Stored) error {
		if s.Foreign != nil {
			foreign(*s.Foreign)
		} else if entry != nil {
			entry(s.Message)
		}
		return nil
	}}
	f.c = f.newClassifier(coverageOf(s))
	r, err := openKnowing(ctx)
	if err != nil {
		return err
	}
	f.src.r = r
	last, err := list(ctx, r, s, f.c, f.fn)
	if err != nil {
		return err
	}
	s.From = max(last+1, s.From)
	return f.run(ctx, s)
}

// classifiedFollower follows the ledger. Its Classifier has received every message before.
type classifiedFollower struct {
	src    *streamSource
	open   streamreader.OpenFunc
	report func(error) error
	fn     func(Stored) error
	skim   bool
	c      *Classifier
}

func (f *classifiedFollower) newClassifier(coverage Coverage) *Classifier {
	c := NewClassifier(f.src, coverage)
	c.most, c.skim = maxFollowed, f.skim
	return c
}

func (f *classifiedFollower) reopen(ctx context.Context) (*streamreader.Reader, error) {
	r, err := f.open(ctx)
	if err == nil {
		f.src.r = r.Once() // Follow itself retries
	}
	return r, err
}

func (f *classifiedFollower) run(ctx context.Context, s streamreader.Selection) error {
	return streamreader.Follow(ctx, f.reopen, s, func(err error) error {
		if errors.Is(err, streamreader.ErrRestored) {
			f.c = f.newClassifier(LaterMessages)
		}
		if f.report == nil {
			return nil
		}
		return f.report(err)
	}, func(m *jetstream.RawStreamMsg) error {
		s, err := f.c.Classify(ctx, f.c.decode(messageOf(m)))
		if err != nil {
			return fmt.Errorf("%w: %w", streamreader.ErrRead, err)
		}
		return f.fn(s)
	})
}
