package streamreader

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Selection says which messages are read.
type Selection struct {
	Subjects []string  // filters, any of which must match; empty: all messages
	From     uint64    // the first sequence; 0: the stream's first
	Since    time.Time // if From is 0: only messages stored since, by the server's clock
	Fresh    bool      // of Follow: only messages stored after it began
	Polled   bool      // of Follow: a message is read up to a second after it was stored
}

// ErrEnough, returned by the function that receives the messages, ends the reading
// without an error.
var ErrEnough = errors.New("enough")

const (
	// width is the number of concurrent reads by sequence.
	width = 64
	// chunk is the number of sequences that are read by sequence before the density of
	// the selected messages among them is computed again.
	chunk = 1024
	// dense is the distance of selected messages below which reading all messages is
	// faster than asking for each selected one.
	dense = 32
	// probes is the number of selected messages in a row that must be that close
	// together before reading by sequence begins.
	probes = 32
	// maxBuffered bounds the bytes of the messages that are read ahead, by the size of
	// the largest one so far: of large messages fewer are read concurrently.
	maxBuffered = 16 << 20
)

// List calls fn with every selected message, in order, up to the last message that the
// stream has when List begins, and returns the sequence of that message. Temporary
// failures are retried for half a minute. An error of fn ends it and is returned, except
// ErrEnough. Errors: jetstream.ErrStreamNotFound.
func (r *Reader) List(ctx context.Context, s Selection, fn func(*jetstream.RawStreamMsg) error) (last uint64, err error) {
	info, err := Retry(ctx, r, r.Info)
	if err != nil {
		return 0, err
	}
	last = info.State.LastSeq
	from, err := r.start(ctx, s)
	if err == nil {
		err = r.read(ctx, s, from, last, fn)
	}
	if errors.Is(err, ErrEnough) {
		err = nil
	}
	return last, err
}

// start returns the first sequence to read.
func (r *Reader) start(ctx context.Context, s Selection) (uint64, error) {
	if s.From > 0 || s.Since.IsZero() {
		return max(s.From, 1), nil
	}
	m, err := Retry(ctx, r, func(ctx context.Context) (*jetstream.RawStreamMsg, error) {
		return r.get(ctx, getRequest{Next: all, Since: &s.Since})
	})
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return ^uint64(0), nil
	case err != nil:
		return 0, err
	}
	return m.Sequence, nil
}

const all = ">"

// read calls fn with the selected messages between two sequences.
func (r *Reader) read(ctx context.Context, s Selection, from, end uint64, fn func(*jetstream.RawStreamMsg) error) error {
	next := func(ctx context.Context, filter string, from uint64) (*jetstream.RawStreamMsg, error) {
		return Retry(ctx, r, func(ctx context.Context) (*jetstream.RawStreamMsg, error) { return r.Next(ctx, filter, from) })
	}
	return Range(ctx, next, s.Subjects, from, end, fn)
}

// NextFunc returns the first message at or after a sequence whose subject the filter
// matches. Errors: jetstream.ErrMsgNotFound where there is none.
type NextFunc func(ctx context.Context, filter string, from uint64) (*jetstream.RawStreamMsg, error)

// Range calls fn, in order, with every message from one sequence to another whose subject
// one of the filters matches; without filters, with every message. An error of next or fn
// ends it and is returned.
//
// A filter that few messages match is asked for message by message. Where the matches are
// close together, all messages are read, many concurrently, and the filters are applied
// here: the server's search for the next match costs more than a message.
func Range(ctx context.Context, next NextFunc, filters []string, from, end uint64, fn func(*jetstream.RawStreamMsg) error) error {
	decode := func(_ context.Context, m *jetstream.RawStreamMsg) (*jetstream.RawStreamMsg, error) { return m, nil }
	return RangeDecoded(ctx, next, decode, filters, from, end, fn)
}

// RangeDecoded is Range with what decode makes of each message. decode is called by the
// goroutines that read, out of order and also for messages that fn is not called with; fn is
// called in order. An error of decode is returned when fn would be called with its result.
func RangeDecoded[T any](ctx context.Context, next NextFunc, decode func(context.Context, *jetstream.RawStreamMsg) (T, error), filters []string, from, end uint64, fn func(T) error) error {
	if len(filters) == 0 || len(filters) == 1 && filters[0] == all {
		return readAhead(ctx, next, decode, nil, from, end, fn)
	}
	found := make([]*jetstream.RawStreamMsg, len(filters)) // each filter's next match, if known
	for near := 0; from <= end; {
		if near < probes {
			m, err := firstMatch(ctx, next, filters, found, from)
			if err != nil || m == nil || m.Sequence > end {
				return err
			}
			if near++; m.Sequence-from >= dense {
				near = 0
			}
			decoded, err := decode(ctx, m)
			if err == nil {
				err = fn(decoded)
			}
			if err != nil {
				return err
			}
			from = m.Sequence + 1
			continue
		}
		matched, to := 0, min(end, from+chunk-1)
		err := readAhead(ctx, next, decode, filters, from, to, func(v T) error {
			matched++
			return fn(v)
		})
		if err != nil {
			return err
		}
		if from = to + 1; matched*dense < chunk {
			near = 0
		}
	}
	return nil
}

// firstMatch returns the first message at or after a sequence that one of the filters
// matches; nil where there is none. It keeps each filter's next match in found.
func firstMatch(ctx context.Context, next NextFunc, filters []string, found []*jetstream.RawStreamMsg, from uint64) (first *jetstream.RawStreamMsg, err error) {
	for i, filter := range filters {
		if found[i] == nil || found[i].Sequence < from {
			found[i], err = next(ctx, filter, from)
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				found[i] = &jetstream.RawStreamMsg{Sequence: ^uint64(0)}
			} else if err != nil {
				return nil, err
			}
		}
		if m := found[i]; m.Sequence < ^uint64(0) && (first == nil || m.Sequence < first.Sequence) {
			first = m
		}
	}
	return first, nil
}

// readAhead calls fn, in order, with what decode makes of every message from one sequence
// to another that one of the filters matches (without filters: of every message), and reads
// up to width messages concurrently.
func readAhead[T any](ctx context.Context, next NextFunc, decode func(context.Context, *jetstream.RawStreamMsg) (T, error), filters []string, from, end uint64, fn func(T) error) error {
	type answer struct {
		m         *jetstream.RawStreamMsg
		err       error // of next
		matches   bool
		decoded   T
		decodeErr error
	}
	ctx, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	var requested []chan answer
	largest := 0
	for last := uint64(0); ; {
		for ; len(requested) < width && len(requested)*largest < maxBuffered && from <= end; from++ {
			one, sequence := make(chan answer, 1), from
			requested = append(requested, one)
			running.Go(func() {
				var a answer
				if a.m, a.err = next(ctx, all, sequence); a.err == nil && a.m.Sequence <= end && matchesAny(filters, a.m.Subject) {
					a.matches = true
					a.decoded, a.decodeErr = decode(ctx, a.m)
				}
				one <- a
			})
		}
		if len(requested) == 0 {
			return nil
		}
		a := <-requested[0]
		requested = requested[1:]
		switch {
		case errors.Is(a.err, jetstream.ErrMsgNotFound):
			return nil // no message follows
		case a.err != nil:
			return a.err
		case a.m.Sequence > end:
			return nil
		case a.m.Sequence <= last:
			continue // where sequences are missing, several reads find the same message
		}
		if a.matches {
			err := a.decodeErr
			if err == nil {
				err = fn(a.decoded)
			}
			if err != nil {
				return err
			}
		}
		largest = max(largest, len(a.m.Data))
		last, from = a.m.Sequence, max(from, a.m.Sequence+1)
	}
}

// matchesAny reports whether one of the filters matches a subject; true without filters.
func matchesAny(filters []string, subject string) bool {
	return len(filters) == 0 || slices.ContainsFunc(filters, func(filter string) bool { return Matches(filter, subject) })
}

// Matches reports whether a filter matches a subject, as NATS does.
func Matches(filter, subject string) bool {
	for {
		want, moreFilter, hasMore := strings.Cut(filter, ".")
		if want == all {
			return true
		}
		have, moreSubject, hasRest := strings.Cut(subject, ".")
		if want != "*" && want != have || hasMore != hasRest {
			return false
		}
		if !hasMore {
			return true
		}
		filter, subject = moreFilter, moreSubject
	}
}
