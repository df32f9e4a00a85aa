package operations

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"settled/consumer"
	"settled/ledger/streamreader"
)

// Reader reads the records of one action and remembers them: each message is
// read once. Messages that are not records are reported to Config.ForeignFunc.
type Reader struct {
	js      jetstream.JetStream
	cfg     consumer.Config
	subject string

	mu       sync.Mutex
	created  time.Time // the creation time of the stream that was read; zero: none was read
	last     uint64    // the sequence of the last message read, a record or not
	storedAt time.Time // when that message was stored
	records  []Record
}

// NewReader returns a reader of the records of an action.
func (l *Log) NewReader(action string) *Reader {
	return &Reader{js: l.js, cfg: l.cfg, subject: consumer.OperationSubject(l.cfg.Prefix, action)}
}

// Records returns all records, oldest first, and the sequence of the last message on
// their subject, which need not be a record. The caller must not change them.
func (r *Reader) Records(ctx context.Context) (records []Record, last uint64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.readOn(ctx); err != nil {
		return nil, 0, fmt.Errorf("read %s: %w", r.subject, err)
	}
	return r.records, r.last, nil
}

// readOn reads what was stored since the last call, or everything if the stream was
// created again or restored from an older copy since then.
func (r *Reader) readOn(ctx context.Context) error {
	stream := streamreader.New(r.js, consumer.OperationsStream(r.cfg.Prefix))
	info, err := stream.Info(ctx)
	if err != nil {
		return err
	}
	same := info.Created.Equal(r.created)
	if same && r.last > 0 {
		raw, err := stream.Get(ctx, r.last)
		if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
			return err
		}
		same = err == nil && raw.Time.Equal(r.storedAt)
	}
	if !same {
		r.created, r.last, r.storedAt, r.records = info.Created, 0, time.Time{}, nil
	}
	for {
		raw, err := stream.Next(ctx, r.subject, r.last+1)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		r.last, r.storedAt = raw.Sequence, raw.Time
		record, err := Parse(raw, strings.TrimPrefix(raw.Subject, consumer.OperationSubject(r.cfg.Prefix, "")))
		if err != nil {
			r.cfg.ReportForeign(consumer.OperationsStream(r.cfg.Prefix), raw, err)
			continue
		}
		r.records = append(r.records, record)
	}
}
