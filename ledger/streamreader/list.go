package streamreader

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Selection says which messages are read.
type Selection struct {
	Subjects []string  // filters, any of which must match; empty: all messages
	From     uint64    // the first sequence; 0: the stream's first
	Since    time.Time // only what was stored since, by the server's clock, where From is 0
	Fresh    bool      // of Follow: only what is stored after it began
}

// ErrEnough ends a reading without an error, where the function that gets the messages
// returns it.
var ErrEnough = errors.New("enough")

const (
	// width is how many reads by sequence are under way at once.
	width = 64
	// chunk is how many sequences are read by sequence before the density of the
	// wanted messages among them is looked at.
	chunk = 1024
	// dense is among how many messages one must be wanted for reading all of them to
	// be faster than asking for each wanted one.
	dense = 32
	// probes is how many wanted messages in a row must be that close together before
	// reading by sequence begins.
	probes = 8
)

// List calls fn with every selected message, in order, up to what the stream has as its
// last message when List begins, and returns that sequence. Temporary failures are
// retried for half a minute. An error of fn ends it and is returned, except ErrEnough.
// Errors: jetstream.ErrStreamNotFound.
func (r *Reader) List(ctx context.Context, s Selection, fn func(*jetstream.RawStreamMsg) error) (last uint64, err error) {
	info, err := Retry(ctx, r, r.Info)
	if err != nil {
		return 0, err
	}
	last = info.State.LastSeq
	from, err := r.start(ctx, s)
	if err == nil {
		err = r.between(ctx, s, from, last, fn)
	}
	if errors.Is(err, ErrEnough) {
		err = nil
	}
	return last, err
}

// start is the first sequence to read.
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

// between reads the selected messages from a sequence to another. A filter that few
// messages match is asked for message by message; where they are close together, all
// messages are read, many at once, and the filter is applied here: the server's search
// for the next match of a filter costs more than a message.
func (r *Reader) between(ctx context.Context, s Selection, from, end uint64, fn func(*jetstream.RawStreamMsg) error) error {
	sparse := search{r: r, filters: s.Subjects, found: make([]*jetstream.RawStreamMsg, len(s.Subjects))}
	near := 0
	for from <= end {
		if !s.every() && near < probes {
			m, err := sparse.next(ctx, from)
			if err != nil || m == nil || m.Sequence > end {
				return err
			}
			if near++; m.Sequence-from >= dense {
				near = 0
			}
			if err := fn(m); err != nil {
				return err
			}
			from = m.Sequence + 1
			continue
		}
		to := end
		if !s.every() {
			to = min(end, from+chunk-1)
		}
		wanted, err := r.run(ctx, s, from, to, fn)
		if err != nil {
			return err
		}
		if from = to + 1; wanted*dense < chunk {
			near = 0
		}
	}
	return nil
}

// run reads all messages from a sequence to another, many at once, hands over the
// selected ones and returns their number.
func (r *Reader) run(ctx context.Context, s Selection, from, to uint64, fn func(*jetstream.RawStreamMsg) error) (wanted int, err error) {
	read := func(ctx context.Context, at uint64) (*jetstream.RawStreamMsg, bool, error) {
		m, err := Retry(ctx, r, func(ctx context.Context) (*jetstream.RawStreamMsg, error) { return r.Next(ctx, all, at) })
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil, false, nil
		}
		return m, true, err
	}
	err = Ahead(ctx, from, to, width, read, func(m *jetstream.RawStreamMsg) uint64 { return m.Sequence }, func(m *jetstream.RawStreamMsg) error {
		if !s.takes(m.Subject) {
			return nil
		}
		wanted++
		return fn(m)
	})
	return wanted, err
}

// search finds the next message that one of several filters matches.
type search struct {
	r       *Reader
	filters []string
	found   []*jetstream.RawStreamMsg // by filter: the next match, from an earlier search
}

// next is the first match at or after a sequence; nil where there is none.
func (s *search) next(ctx context.Context, from uint64) (first *jetstream.RawStreamMsg, err error) {
	for i, filter := range s.filters {
		if s.found[i] == nil || s.found[i].Sequence < from {
			s.found[i], err = Retry(ctx, s.r, func(ctx context.Context) (*jetstream.RawStreamMsg, error) { return s.r.Next(ctx, filter, from) })
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				s.found[i] = &jetstream.RawStreamMsg{Sequence: ^uint64(0)}
			} else if err != nil {
				return nil, err
			}
		}
		if m := s.found[i]; m.Sequence < ^uint64(0) && (first == nil || m.Sequence < first.Sequence) {
			first = m
		}
	}
	return first, nil
}

// every reports whether the selection leaves no message out.
func (s Selection) every() bool {
	return len(s.Subjects) == 0 || len(s.Subjects) == 1 && s.Subjects[0] == all
}

func (s Selection) takes(subject string) bool {
	if s.every() {
		return true
	}
	for _, filter := range s.Subjects {
		if matches(filter, subject) {
			return true
		}
	}
	return false
}

// matches reports whether a filter matches a subject, as NATS does.
func matches(filter, subject string) bool {
	for {
		want, more, hasMore := strings.Cut(filter, ".")
		if want == all {
			return true
		}
		have, rest, hasRest := strings.Cut(subject, ".")
		if want != "*" && want != have || hasMore != hasRest {
			return false
		}
		if !hasMore {
			return true
		}
		filter, subject = more, rest
	}
}
