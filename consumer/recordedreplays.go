package consumer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"settled/ledger/streamreader"
)

// replays are the replays that the stream of operations has on record. One that was
// published and recorded, and whose letter could not be removed, is finished by
// removing that, also when the stream of outcomes has long forgotten its id. They
// are read for many letters at once, and again before what was recorded since could
// be older than the ids that the stream of outcomes knows.
type replays struct {
	mu    sync.Mutex
	read  time.Time // when
	since time.Time // from where
	byID  map[string]Operation
}

// clocks is by how much the clocks of two servers may differ.
const clocks = time.Minute

func recordID(action string, l DeadLetter) string {
	return fmt.Sprintf("%s/%d/%d", action, l.Sequence, l.Stored.UnixNano())
}

// recordOf is the recordID of a record. Where another message had that id, more follows
// it in the record's own.
func recordOf(raw *jetstream.RawStreamMsg) string {
	parts := strings.SplitN(raw.Header.Get(nats.MsgIdHdr), "/", 4)
	return strings.Join(parts[:min(len(parts), 3)], "/")
}

// find is the replay of a letter that is on record, and whose message is in OUTCOMES; nil
// where none is. m is the message as it would be published now, perhaps edited.
func (r *replays) find(ctx context.Context, d *DeadLetters, l DeadLetter, m *nats.Msg, edited bool) (*Operation, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l.Stored.Before(r.since) || time.Since(r.read) > duplicateWindow/2 {
		if err := r.look(ctx, d, l.Stored); err != nil {
			return nil, fmt.Errorf("look for an earlier replay: %w", err)
		}
	}
	op, found := r.byID[recordID(ActionReplay, l)]
	if !found || op.DeadLetter != l.Sequence || op.Origin != l.Origin {
		return nil, nil
	}
	if there, err := d.wasPublished(ctx, op, m, edited); err != nil || !there {
		return nil, err
	}
	return &op, nil
}

func (r *replays) look(ctx context.Context, d *DeadLetters, since time.Time) error {
	began, byID := time.Now(), map[string]Operation{}
	recorded := streamreader.Selection{Subjects: []string{OperationSubject(d.cfg.Prefix, ActionReplay)}, Since: since.Add(-clocks)}
	_, err := streamreader.New(d.js, OperationsStream(d.cfg.Prefix)).List(ctx, recorded, func(raw *jetstream.RawStreamMsg) error {
		op, err := parseOperation(raw, ActionReplay)
		if err != nil {
			d.cfg.foreign(OperationsStream(d.cfg.Prefix), raw, err)
			return nil
		}
		byID[recordOf(raw)] = op // the last one counts
		return nil
	})
	if err == nil {
		r.read, r.since, r.byID = began, since, byID
	}
	return err
}

// wasPublished reports whether the message that a recorded replay names is that replay.
// It is not where OUTCOMES was set back since, or where the record is not genuine: then the
// letter may be all that is left of the outcome.
func (d *DeadLetters) wasPublished(ctx context.Context, op Operation, m *nats.Msg, edited bool) (bool, error) {
	there, err := storedOutcome(ctx, d.js, OutcomesStream(d.cfg.Prefix), op.OutcomeSequence)
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("read outcome %d, which an earlier replay published: %w", op.OutcomeSequence, err)
	case op.Stored.Add(clocks).Before(there.Time): // a record is stored after the message
		return false, nil
	}
	if edited || op.Edited {
		return there.Header.Get(headerReplay) == m.Header.Get(headerReplay), nil
	}
	return sameOutcome(m, headerReplay)(there), nil
}
