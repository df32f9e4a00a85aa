package operations

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"settled/consumer"
	"settled/ledger/streamreader"
)

// The documents of the periodic reconciliation, by the last token of their subjects. They
// are not records of actions, and no Reader reads them. Of all roles in deploy/nats only
// settled may publish them.
const (
	ReconcileLease      = "reconcile-lease"
	ReconcileCheckpoint = "reconcile-checkpoint"
)

// ErrChanged says that another process stored the document since it was loaded.
var ErrChanged = errors.New("another process stored it meanwhile")

// Document is the last message on a subject of OPERATIONS, by which replicas share a state.
// Store replaces it by compare-and-set. It is not safe for concurrent use.
type Document struct {
	js       jetstream.JetStream
	reader   *streamreader.Reader
	stream   string
	subject  string
	sequence uint64 // of the message last loaded or stored; 0: there was none
}

// NewDocument returns the document whose subject ends in this token.
func NewDocument(js jetstream.JetStream, prefix, token string) *Document {
	stream := consumer.OperationsStream(prefix)
	return &Document{js: js, reader: streamreader.New(js, stream), stream: stream, subject: consumer.OperationSubject(prefix, token)}
}

// Load returns the content and when the server stored it; nil if there is no document.
func (d *Document) Load(ctx context.Context) (data []byte, stored time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, refreshTime)
	defer cancel()
	m, err := d.reader.Last(ctx, d.subject)
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		d.sequence = 0
		return nil, time.Time{}, nil
	case err != nil:
		return nil, time.Time{}, fmt.Errorf("read %s: %w", d.subject, err)
	}
	d.sequence = m.Sequence
	return m.Data, m.Time, nil
}

// Store replaces the document, provided that it is still the one that was loaded or stored
// last; otherwise the error is ErrChanged. The upper half of a size limit of the stream is
// left to the records: a stop must always find room.
func (d *Document) Store(ctx context.Context, data []byte) error {
	ctx, cancel := context.WithTimeout(ctx, refreshTime)
	defer cancel()
	info, err := d.reader.Info(ctx)
	if err != nil {
		return fmt.Errorf("store %s: %w", d.subject, err)
	}
	if limit := info.Config.MaxBytes; limit > 0 && info.State.Bytes > uint64(limit)/2 {
		return fmt.Errorf("store %s: %s has used more than half of its max_bytes %d, and the rest is left to records such as stops: raise nats.max_bytes.operations and the stream's limit", d.subject, d.stream, limit)
	}
	ack, err := d.js.Publish(ctx, d.subject, data, jetstream.WithExpectStream(d.stream), jetstream.WithExpectLastSequencePerSubject(d.sequence))
	var api *jetstream.APIError
	switch {
	case errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence:
		return fmt.Errorf("store %s: %w", d.subject, ErrChanged)
	case err != nil:
		return fmt.Errorf("store %s: %w", d.subject, err)
	}
	d.sequence = ack.Sequence
	return nil
}
