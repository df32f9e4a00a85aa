package dashboard

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"settled/ledger"
	"settled/ledger/streamreader"
	"settled/settlement"
)

// source reads single entries from the ledger's leader.
type source struct {
	js     jetstream.JetStream
	prefix string
}

// connected says at once that NATS is away: a request would wait for it.
func (s source) connected() error {
	if !s.js.Conn().IsConnected() {
		return fmt.Errorf("NATS is away from the dashboard: %w", nats.ErrDisconnected)
	}
	return nil
}

func (s source) reader() *streamreader.Reader {
	return streamreader.New(s.js, ledger.StreamName(s.prefix))
}

// info describes the ledger's stream.
func (s source) info(ctx context.Context) (*jetstream.StreamInfo, error) {
	if err := s.connected(); err != nil {
		return nil, err
	}
	return s.reader().Info(ctx)
}

// story is what the ledger has of a session.
type story struct {
	entries []ledger.Stored // oldest first: at most so many of the first, and the last one
	whole   bool            // no entry is left out
	foreign unread          // messages on its subjects that are not entries
}

// mostRead is how many messages of a session are read at most: whoever can write to the
// ledger could store any number.
const mostRead = 10_000

// errTooMany ends the reading of a session with more messages.
var errTooMany = errors.New("too many messages")

// session reads a session's entries.
func (s source) session(ctx context.Context, id settlement.SessionID, most int) (found story, err error) {
	if err := s.connected(); err != nil {
		return story{}, err
	}
	found.whole = true
	var last *ledger.Stored
	read := 0
	err = ledger.EachOf(ctx, ledger.Reading(s.reader(), false), s.prefix, id, func(m ledger.Stored) error {
		if read++; read > mostRead {
			return errTooMany
		}
		switch {
		case m.Foreign != nil:
			found.foreign.Count, found.foreign.Last = found.foreign.Count+1, m.Sequence
		case len(found.entries) < most:
			found.entries = append(found.entries, m)
		default:
			last = &m
		}
		return nil
	})
	if err != nil && !errors.Is(err, errTooMany) {
		return story{}, fmt.Errorf("session %s: %w", id.Token(), err)
	}
	if last != nil {
		found.entries = append(found.entries, *last)
	}
	found.whole = err == nil && len(found.entries) <= most
	return found, nil
}

// readAhead is how many entries of a page are read at once.
const readAhead = 8

// below are the messages at so many sequences below one, classified, newest first. What
// was removed is left out: nobody should be able to.
func (s source) below(ctx context.Context, sequence uint64, most uint64) ([]ledger.Stored, error) {
	if err := s.connected(); err != nil {
		return nil, err
	}
	stream := s.reader()
	count := min(most, sequence-1)
	found, errs := make([]ledger.Stored, count), make([]error, count)
	var readers sync.WaitGroup
	for reader := range uint64(readAhead) {
		readers.Go(func() {
			for i := reader; i < count; i += readAhead {
				var m *jetstream.RawStreamMsg
				if m, errs[i] = stream.Get(ctx, sequence-1-i); errs[i] == nil {
					found[i] = parsed(m)
				} else if errors.Is(errs[i], jetstream.ErrMsgNotFound) {
					errs[i] = nil
				}
			}
		})
	}
	readers.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("entries below %d: %w", sequence, err)
	}
	found = slices.DeleteFunc(found, func(s ledger.Stored) bool { return s.Sequence == 0 })
	slices.Reverse(found)
	chains := ledger.NewChains(ledger.Reading(stream, false), ledger.Later)
	err := chains.Prepare(ctx, found)
	for i := 0; i < len(found) && err == nil; i++ {
		found[i], err = chains.Classify(ctx, found[i])
	}
	if err != nil {
		return nil, fmt.Errorf("entries below %d: %w", sequence, err)
	}
	slices.Reverse(found)
	return found, nil
}

func parsed(m *jetstream.RawStreamMsg) ledger.Stored {
	s := ledger.Stored{Subject: m.Subject, Sequence: m.Sequence, Time: m.Time, Payload: m.Data}
	s.Entry, s.Err = ledger.ParseEntry(m.Subject, m.Data, m.Sequence)
	return s
}
