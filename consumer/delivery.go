package consumer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"settled/consumer/cloudevent"
	"settled/consumer/internal/refresh"
	"settled/settlement"
)

// ackTime is how long a confirmed acknowledgement is waited for. It is not repeated: the
// server does not answer one of an earlier delivery, and a redelivery is harmless, because
// the ledger has the entry.
const ackTime = 2 * time.Second

// delivery is one delivery of one outcome, until it is answered.
type delivery struct {
	msg        *nats.Msg
	meta       *nats.MsgMetadata
	generation uint64 // of the durable consumer that delivered it

	// requeue publishes the outcome again. It is nil for what the server delivers again by
	// itself, and set for a message that it will not deliver again, which has no answer.
	requeue func(context.Context) error

	outcome   settlement.Outcome // as parsed
	panicked  *panicError        // parsing panicked: outcome holds its position only
	untrusted bool               // it does not wait for other outcomes of its session

	mu       sync.Mutex // excludes a progress message after the answer
	answered bool
}

// parse parses the outcome, whatever the bytes are. A panic is a bug; it ends as one of
// Settle does, with a negative acknowledgement.
func (d *delivery) parse(prefix string, trust func(settlement.Outcome) *settlement.Failure) {
	defer func() {
		if value := recover(); value != nil {
			d.panicked = &panicError{value: value, stack: debug.Stack()}
			d.outcome = settlement.Outcome{Ref: settlement.OutcomeRef{Stream: d.meta.Stream, Sequence: d.meta.Sequence.Stream}}
		}
	}()
	envelope := cloudevent.Read(d.msg.Subject, d.msg.Header, d.msg.Data, d.meta.Stream, d.meta.Sequence.Stream, prefix)
	envelope.Stored = d.meta.Timestamp
	d.outcome, _ = settlement.ParseOutcome(envelope) // the error is in Invalid, and Settle records it
	d.outcome.FirstDelivery = d.meta.NumDelivered == 1 && d.requeue == nil
	d.untrusted = trust != nil && trust(d.outcome) != nil
}

// deliveries are the deliveries that were received and not answered yet. The server is
// told of each that it is in progress, so that it doesn't deliver it again.
type deliveries struct {
	nc         *nats.Conn
	generation atomic.Uint64 // of the durable consumer that delivers now
	period     atomic.Int64  // nanoseconds between two progress messages

	mu   sync.Mutex
	open map[*delivery]struct{}
}

func (ds *deliveries) add(d *delivery) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	ds.open[d] = struct{}{}
}

// setAckWait sets the period to a third of the ack wait, so that two messages may be lost.
func (ds *deliveries) setAckWait(ackWait time.Duration) {
	if ackWait > 0 {
		ds.period.Store(int64(ackWait / 3))
	}
}

// reportProgress sends progress messages until ctx ends.
func (ds *deliveries) reportProgress(ctx context.Context) {
	period := func() time.Duration { return max(time.Duration(ds.period.Load()), 10*time.Millisecond) }
	refresh.New().Run(ctx, period(), func(context.Context) time.Duration {
		ds.sendProgress()
		return period()
	})
}

func (ds *deliveries) sendProgress() {
	ds.mu.Lock()
	open := slices.Collect(maps.Keys(ds.open))
	ds.mu.Unlock()
	for _, d := range open {
		d.mu.Lock()
		if !d.answered {
			_ = ds.nc.Publish(d.msg.Reply, []byte("+WPI")) // fails with the connection: then the message is delivered again
		}
		d.mu.Unlock()
	}
}

// errAbandoned says that the durable consumer that delivered the message no longer exists.
var errAbandoned = errors.New("the consumer that delivered the message is gone: answer withheld, its successor delivers it again")

// answer sends the one answer of a delivery, after which no progress message follows: it
// would cancel the delay.
func (ds *deliveries) answer(d *delivery, v Verdict) error {
	d.mu.Lock()
	again := d.answered
	d.answered = true
	d.mu.Unlock()
	ds.mu.Lock()
	delete(ds.open, d)
	ds.mu.Unlock()

	var answer string
	switch {
	case again:
		return errors.New("answered already")
	case d.generation != ds.generation.Load():
		return errAbandoned
	case d.requeue != nil && v.Disposition != Returned:
		return nil
	case d.requeue != nil:
		ctx, cancel := context.WithTimeout(context.Background(), ackTime)
		defer cancel()
		return d.requeue(ctx)
	case v.Disposition == Acked:
		ctx, cancel := context.WithTimeout(context.Background(), ackTime)
		defer cancel()
		if _, err := ds.nc.RequestWithContext(ctx, d.msg.Reply, []byte("+ACK")); err != nil {
			return fmt.Errorf("acknowledgement not confirmed: %w", err)
		}
		return nil
	case v.Disposition == Terminated:
		answer = "+TERM " + v.Reason
	case v.Delay > 0:
		answer = fmt.Sprintf(`-NAK {"delay": %d}`, v.Delay.Nanoseconds())
	default:
		answer = "-NAK"
	}
	if err := ds.nc.Publish(d.msg.Reply, []byte(answer)); err != nil {
		return fmt.Errorf("answer %s: %w", answer, err)
	}
	return nil
}
