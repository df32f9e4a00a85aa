package consumer

import (
	"context"
	"encoding/json"
	"fmt"
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

func recordID(action string, l Letter) string {
	return fmt.Sprintf("%s/%d/%d", action, l.Sequence, l.Stored.UnixNano())
}

// find is the replay of a letter that is on record; nil where none is.
func (r *replays) find(ctx context.Context, d *DeadLetters, l Letter) (*Operation, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l.Stored.Before(r.since) || time.Since(r.read) > duplicateWindow/2 {
		if err := r.look(ctx, d, l.Stored); err != nil {
			return nil, fmt.Errorf("look for an earlier replay: %w", err)
		}
	}
	op, found := r.byID[recordID(ActionReplay, l)]
	if !found {
		return nil, nil
	}
	return &op, nil
}

func (r *replays) look(ctx context.Context, d *DeadLetters, since time.Time) error {
	began, byID := time.Now(), map[string]Operation{}
	recorded := streamreader.Selection{Subjects: []string{OperationSubject(d.cfg.Prefix, ActionReplay)}, Since: since.Add(-clocks)}
	_, err := streamreader.New(d.js, OperationsStream(d.cfg.Prefix)).List(ctx, recorded, func(raw *jetstream.RawStreamMsg) error {
		var op Operation
		if json.Unmarshal(raw.Data, &op) == nil {
			byID[raw.Header.Get(nats.MsgIdHdr)] = op
		}
		return nil
	})
	if err == nil {
		r.read, r.since, r.byID = began, since, byID
	}
	return err
}
