package consumer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"settled/settlement"
)

// headerRequeue is of an outcome that was published again without having failed:
// the stream and sequence of the message that it repeats.
const headerRequeue = "Settled-Requeue"

// WasRequeued reports whether an outcome with these headers was published by Requeue,
// or is a replay of one that was.
func WasRequeued(headers nats.Header) bool { return headers.Get(headerRequeue) != "" }

// RequeueResult is where an outcome stands now that was published again.
type RequeueResult struct {
	Origin    string // stream/sequence of the message that it repeats
	Stream    string
	Sequence  uint64
	Duplicate bool // somebody else had published it again a moment ago
}

// Requeue publishes a stored outcome again, for one that the broker lost sight of:
// under a fresh Nats-Msg-Id, with a header that says what it repeats. The ledger
// makes it harmless, whatever became of the first: a session is settled once. It is
// recorded as operation.requeue, with the reason. An error says what was not done;
// the call can be repeated.
func (d *DeadLetters) Requeue(ctx context.Context, seq uint64, reason string) (RequeueResult, error) {
	stream := OutcomesStream(d.cfg.Prefix)
	r := RequeueResult{Origin: fmt.Sprintf("%s/%d", stream, seq), Stream: stream}
	raw, err := storedOutcome(ctx, d.js, stream, seq)
	if err != nil {
		return r, fmt.Errorf("requeue %s: %w", r.Origin, err)
	}
	m := nats.NewMsg(raw.Subject)
	m.Data = raw.Data
	for name, values := range raw.Header {
		if !strings.HasPrefix(strings.ToLower(name), "nats-") && writable(name) {
			m.Header[name] = slices.Clone(values)
		}
	}
	m.Header.Set(headerRequeue, r.Origin)
	ack, err := publishTo(ctx, d.js, stream, m, fmt.Sprintf("%s/%d/requeue", r.Origin, raw.Time.UnixNano()), sameOutcome(m, headerRequeue))
	if err != nil {
		return r, fmt.Errorf("requeue %s: publish to %s: %w", r.Origin, raw.Subject, err)
	}
	r.Sequence, r.Duplicate = ack.Sequence, ack.Duplicate
	o, _ := settlement.ParseOutcome(ReadEnvelope(raw.Subject, raw.Header, raw.Data, stream, seq, d.cfg.Prefix)) // what can't be read is recorded as unknown
	of := DeadLetter{Origin: r.Origin, Session: o.Session, Scenario: o.Scenario, Stored: raw.Time}
	return r, d.record(ctx, ActionRequeue, of, Operation{OutcomeSequence: ack.Sequence, Reason: line(reason, 4<<10)})
}

// sameOutcome reports whether a stored message is the outcome m, with the same value of
// the header that says why it was published again, and with m's signature.
func sameOutcome(m *nats.Msg, header string) func(*jetstream.RawStreamMsg) bool {
	return func(there *jetstream.RawStreamMsg) bool {
		return there != nil && there.Subject == m.Subject && bytes.Equal(there.Data, m.Data) &&
			there.Header.Get(header) == m.Header.Get(header) && there.Header.Get(SignatureHeader) == m.Header.Get(SignatureHeader)
	}
}

// storedOutcome reads one message of the stream of outcomes. The error is
// jetstream.ErrMsgNotFound where it is gone.
func storedOutcome(ctx context.Context, js jetstream.JetStream, name string, seq uint64) (*jetstream.RawStreamMsg, error) {
	s, err := js.Stream(ctx, name)
	if err != nil {
		return nil, wrapStream(name, err)
	}
	raw, err := s.GetMsg(ctx, seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, fmt.Errorf("%w: it is no longer in the stream; have its publisher publish it again", err)
	}
	return raw, err
}
