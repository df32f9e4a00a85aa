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

// stored is one message of the ledger, and why it is no entry, if it is none.
func stored(m *jetstream.RawStreamMsg) ledger.Stored {
	s := ledger.Stored{Subject: m.Subject, Sequence: m.Sequence, Time: m.Time, Payload: m.Data}
	s.Entry, s.Err = ledger.ParseEntry(m.Subject, m.Data, m.Sequence)
	return s
}

// session is a session's entries, oldest first, at most so many of the first, and
// the last where that leaves some out. whole says that none is left out.
func (s source) session(ctx context.Context, id settlement.SessionID, most int) (entries []ledger.Stored, whole bool, err error) {
	if err := s.connected(); err != nil {
		return nil, false, err
	}
	stream, filter := s.reader(), s.prefix+"settlement.*."+id.Token()
	last, err := stream.Last(ctx, filter)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, true, nil
	}
	for from := uint64(1); err == nil && from <= last.Sequence; {
		if len(entries) == most {
			return append(entries, stored(last)), false, nil
		}
		var m *jetstream.RawStreamMsg
		if m, err = stream.Next(ctx, filter, from); err == nil {
			entries, from = append(entries, stored(m)), m.Sequence+1
		}
	}
	if err != nil {
		return nil, false, fmt.Errorf("session %s: %w", id.Token(), err)
	}
	return entries, true, nil
}

// readAhead is how many entries of a page are read at once.
const readAhead = 8

// below are the entries at so many sequences below one, newest first. What was
// removed is left out: nobody should be able to.
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
					found[i] = stored(m)
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
	return slices.DeleteFunc(found, func(s ledger.Stored) bool { return s.Sequence == 0 }), nil
}
