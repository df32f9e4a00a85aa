package deadletter

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"settled/consumer"
	"settled/consumer/cloudevent"
	"settled/consumer/internal/publish"
	"settled/consumer/operations"
	"settled/settlement"
)

// WasRequeued reports whether an outcome with these headers was published by Requeue, or
// is a replay of one that was.
func WasRequeued(headers nats.Header) bool { return headers.Get(headerRequeue) != "" }

// RequeueResult says where an outcome that was published again is now.
type RequeueResult struct {
	Origin    string // stream/sequence of the message that it repeats
	Stream    string
	Sequence  uint64
	Duplicate bool // it had been published again already
}

// Requeue publishes a stored outcome again that the broker no longer delivers: under a new
// Nats-Msg-Id, with a header that names the message it repeats. This is harmless whatever
// became of that message, because the ledger settles a session once. The requeue and its
// reason are recorded. After an error the call can be repeated.
func (q *Queue) Requeue(ctx context.Context, seq uint64, reason string) (RequeueResult, error) {
	stream := consumer.OutcomesStream(q.cfg.Prefix)
	r := RequeueResult{Origin: fmt.Sprintf("%s/%d", stream, seq), Stream: stream}
	raw, err := consumer.ReadOutcome(ctx, q.js, stream, seq)
	if err != nil {
		return r, fmt.Errorf("requeue %s: %w", r.Origin, err)
	}
	m := nats.NewMsg(raw.Subject)
	m.Data = raw.Data
	for name, values := range raw.Header {
		if !strings.HasPrefix(strings.ToLower(name), "nats-") && isWritable(name) {
			m.Header[name] = slices.Clone(values)
		}
	}
	m.Header.Set(headerRequeue, r.Origin)
	ack, err := publish.Once(ctx, q.js, stream, m, fmt.Sprintf("%s/%d/requeue", r.Origin, raw.Time.UnixNano()), isSameOutcome(m, headerRequeue))
	if err != nil {
		return r, fmt.Errorf("requeue %s: publish to %s: %w", r.Origin, raw.Subject, err)
	}
	r.Sequence, r.Duplicate = ack.Sequence, ack.Duplicate
	o, _ := settlement.ParseOutcome(cloudevent.Read(raw.Subject, raw.Header, raw.Data, stream, seq, q.cfg.Prefix)) // what can't be read is recorded as unknown
	letter := Letter{Origin: r.Origin, Session: o.Session, Scenario: o.Scenario, Stored: raw.Time}
	return r, q.record(ctx, letter, operations.Record{Action: operations.ActionRequeue, OutcomeSequence: ack.Sequence, Reason: consumer.OneLine(reason, 4<<10)})
}

// isSameOutcome returns a function that reports whether a stored message is the outcome m:
// with the same payload, signature, and value of the header that says why it was published
// again.
func isSameOutcome(m *nats.Msg, header string) func(*jetstream.RawStreamMsg) bool {
	return func(stored *jetstream.RawStreamMsg) bool {
		return stored != nil && stored.Subject == m.Subject && bytes.Equal(stored.Data, m.Data) &&
			stored.Header.Get(header) == m.Header.Get(header) &&
			stored.Header.Get(consumer.SignatureHeader) == m.Header.Get(consumer.SignatureHeader)
	}
}
