package ledger

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"settled/ledger/streamreader"
	"settled/settlement"
)

// Reading is the ledger's stream as a Source for commands that only read. A temporary
// failure is returned; of a patient Reading it is retried for half a minute.
func Reading(r *streamreader.Reader, patient bool) Source { return &reading{r, patient} }

type reading struct {
	r       *streamreader.Reader
	patient bool
}

func (s *reading) Get(ctx context.Context, filter string, from uint64) (Message, error) {
	get := func(ctx context.Context) (*jetstream.RawStreamMsg, error) {
		if from == 0 {
			return s.r.Last(ctx, filter)
		}
		return s.r.Next(ctx, filter, from)
	}
	m, err := retried(ctx, s, get)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return Message{}, ErrNoMessage
	}
	if err != nil {
		return Message{}, err
	}
	return messageOf(m), nil
}

func (s *reading) Gaps(ctx context.Context) (bool, error) {
	info, err := retried(ctx, s, s.r.Info)
	if err != nil {
		return false, err
	}
	return info.State.NumDeleted > 0 || info.State.Msgs < info.State.LastSeq, nil
}

func retried[T any](ctx context.Context, s *reading, read func(context.Context) (T, error)) (T, error) {
	if !s.patient {
		return read(ctx)
	}
	return streamreader.Retry(ctx, s.r, read)
}

func messageOf(m *jetstream.RawStreamMsg) Message {
	return Message{Subject: m.Subject, Sequence: m.Sequence, Time: m.Time, Payload: m.Data}
}

// batch is how many messages List prepares together.
const batch = 256

// List calls fn with every message of the ledger that a selection chooses, classified, in
// order, up to what is the last one when List begins, and returns that sequence. chosen
// says that the selection's subjects leave out messages of a session. Errors: as of
// streamreader.Reader.List.
func List(ctx context.Context, r *streamreader.Reader, s streamreader.Selection, chosen bool, fn func(Stored) error) (last uint64, err error) {
	passed := passedBy(s)
	if chosen {
		passed = Chosen
	}
	chains := NewChains(Reading(r, true), passed)
	var waiting []Stored
	flush := func() error {
		next := waiting
		waiting = waiting[:0]
		if err := chains.Prepare(ctx, next); err != nil {
			return err
		}
		for _, s := range next {
			s, err := chains.Classify(ctx, s)
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
		if waiting = append(waiting, read(messageOf(m))); len(waiting) < batch && passed != Whole {
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

// passedBy is what a selection passes that leaves out no message of a session.
func passedBy(s streamreader.Selection) Passed {
	if s.From > 1 || !s.Since.IsZero() || s.Fresh {
		return Later
	}
	return Whole
}

// Follow is streamreader.FollowWith with classified messages. The selection must not leave
// out messages of a session. It remembers at most so many sessions that a process can
// follow the ledger without end.
func Follow(ctx context.Context, open func(context.Context) (*streamreader.Reader, error), s streamreader.Selection, report func(error) error, fn func(Stored) error) error {
	src := &reading{}
	begin := func(passed Passed) *Chains {
		c := NewChains(src, passed)
		c.most = mostFollowed
		return c
	}
	chains := begin(passedBy(s))
	reopen := func(ctx context.Context) (*streamreader.Reader, error) {
		r, err := open(ctx)
		if err == nil {
			src.r = r
		}
		return r, err
	}
	return streamreader.FollowWith(ctx, reopen, s, func(err error) error {
		if errors.Is(err, streamreader.ErrSetBack) {
			chains = begin(Later)
		}
		if report == nil {
			return nil
		}
		return report(err)
	}, func(m *jetstream.RawStreamMsg) error {
		s, err := chains.Classify(ctx, read(messageOf(m)))
		if err != nil {
			return fmt.Errorf("%w: %w", streamreader.ErrRead, err)
		}
		return fn(s)
	})
}

// EachOf calls fn with every message on a session's subjects, classified, in order, up to
// the last one when it begins; for the empty id with those of unknown sessions.
func EachOf(ctx context.Context, src Source, prefix string, id settlement.SessionID, fn func(Stored) error) error {
	_, filter := subjects(prefix, "", id)
	chains := NewChains(src, Whole)
	return follow(ctx, src, filter, func(s Stored) error {
		s, err := chains.Classify(ctx, s)
		if err != nil {
			return err
		}
		return fn(s)
	})
}

// Walk hands over every message of the ledger from a sequence on (0: from the
// first), in order, up to what is the last when it begins, and returns that
// sequence; 0 for an empty ledger. What can't be read as an entry is handed over
// with its Err. fn's error ends the walk and is returned.
func (l *Ledger) Walk(ctx context.Context, from uint64, fn func(Stored) error) (last uint64, err error) {
	all := every(l.cfg.Prefix)
	end, err := l.get(ctx, all, 0)
	if errors.Is(err, ErrNoMessage) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("ledger: last entry: %w", err)
	}
	read := func(ctx context.Context, at uint64) (Stored, bool, error) {
		m, err := l.get(ctx, all, at)
		switch {
		case errors.Is(err, ErrNoMessage):
			return Stored{}, false, fmt.Errorf("ledger: entries from %d: %w: entries vanished while they were read", at, err)
		case err != nil:
			return Stored{}, false, fmt.Errorf("ledger: entries from %d: %w", at, err)
		}
		return read(m), true, nil
	}
	if err := streamreader.Ahead(ctx, max(from, 1), end.Sequence, readAhead, read, func(s Stored) uint64 { return s.Sequence }, fn); err != nil {
		return 0, err
	}
	return end.Sequence, nil
}

// readAhead is how many reads of a walk are under way at once: enough that none waits
// for another's way there and back.
const readAhead = 128

// follow hands over what one filter matches, in order, up to what is the last when
// it begins.
func follow(ctx context.Context, src Source, filter string, fn func(Stored) error) error {
	end, err := src.Get(ctx, filter, 0)
	if errors.Is(err, ErrNoMessage) {
		return nil
	}
	for from := uint64(1); err == nil && from <= end.Sequence; {
		var m Message
		if m, err = src.Get(ctx, filter, from); err == nil {
			from = m.Sequence + 1
			err = fn(read(m))
		}
	}
	return err
}
