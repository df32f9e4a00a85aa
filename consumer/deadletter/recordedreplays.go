package deadletter

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"settled/consumer"
	"settled/consumer/operations"
	"settled/ledger/streamreader"
)

// recordedReplays are the replays in the stream of operations. A replay that was published
// and recorded, but whose dead letter could not be removed, is completed by removing that,
// even after the stream of outcomes has forgotten its message id. The records are read for
// many dead letters at once, and again before a newer record could be older than the
// message ids that the stream of outcomes still knows.
type recordedReplays struct {
	mu     sync.Mutex
	readAt time.Time
	since  time.Time // records that were stored earlier were not read
	byID   map[string]operations.Record
}

// maxClockSkew is the largest difference between the clocks of two servers.
const maxClockSkew = time.Minute

func recordID(action string, l Letter) string {
	return fmt.Sprintf("%s/%d/%d", action, l.Sequence, l.Stored.UnixNano())
}

// find returns the recorded replay of a dead letter whose message is in the stream of
// outcomes, or nil. m is the message as it would be published now.
func (r *recordedReplays) find(ctx context.Context, q *Queue, l Letter, m *nats.Msg, edited bool) (*operations.Record, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l.Stored.Before(r.since) || time.Since(r.readAt) > consumer.DuplicateWindow/2 {
		if err := r.read(ctx, q, l.Stored); err != nil {
			return nil, fmt.Errorf("look for an earlier replay: %w", err)
		}
	}
	record, found := r.byID[recordID(operations.ActionReplay, l)]
	if !found || record.DeadLetter != l.Sequence || record.Origin != l.Origin {
		return nil, nil
	}
	// The record does not count if the stream of outcomes was restored from an older copy
	// since, or if the record is not genuine: then the dead letter may be all that is left
	// of the outcome.
	stored, err := consumer.ReadOutcome(ctx, q.js, consumer.OutcomesStream(q.cfg.Prefix), record.OutcomeSequence)
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read outcome %d, which an earlier replay published: %w", record.OutcomeSequence, err)
	case record.Stored.Add(maxClockSkew).Before(stored.Time): // a record is stored after its message
		return nil, nil
	}
	same := isSameOutcome(m, headerReplay)(stored)
	if edited || record.Edited {
		same = stored.Header.Get(headerReplay) == m.Header.Get(headerReplay)
	}
	if !same {
		return nil, nil
	}
	return &record, nil
}

func (r *recordedReplays) read(ctx context.Context, q *Queue, since time.Time) error {
	began, byID := time.Now(), map[string]operations.Record{}
	stream := consumer.OperationsStream(q.cfg.Prefix)
	replays := streamreader.Selection{Subjects: []string{consumer.OperationSubject(q.cfg.Prefix, operations.ActionReplay)}, Since: since.Add(-maxClockSkew)}
	_, err := streamreader.New(q.js, stream).List(ctx, replays, func(raw *jetstream.RawStreamMsg) error {
		record, err := operations.Parse(raw, operations.ActionReplay)
		if err != nil {
			q.cfg.ReportForeign(stream, raw, err)
			return nil
		}
		// The id is a recordID, with a suffix if another message already had that id.
		parts := strings.SplitN(raw.Header.Get(nats.MsgIdHdr), "/", 4)
		byID[strings.Join(parts[:min(len(parts), 3)], "/")] = record // the last one counts
		return nil
	})
	if err == nil {
		r.readAt, r.since, r.byID = began, since, byID
	}
	return err
}
