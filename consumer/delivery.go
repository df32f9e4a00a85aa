package consumer

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"settled/settlement"
)

// ackTime is how long a confirmed acknowledgement is waited for. It is never
// tried again: one of an earlier delivery gets no answer, and a redelivery is
// harmless, for the ledger has the entry.
const ackTime = 2 * time.Second

// message is one delivery of one outcome, until it is answered.
type message struct {
	nc         *nats.Conn
	msg        *nats.Msg
	meta       *nats.MsgMetadata
	generation uint64 // of the consumer that delivered it

	outcome  settlement.Outcome // as read from it
	panicked *panicError        // reading it panicked; outcome then holds its position only
	noTurn   bool               // it is not trusted: its session's turn is not waited for

	mu       sync.Mutex // an answer and a sign of life must not cross
	answered bool
}

// read reads the outcome, whatever the bytes are. A panic is a bug, and ends as one
// of Settle does: with the message given back.
func (m *message) read(prefix string, trust func(settlement.Outcome) *settlement.Failure) {
	defer func() {
		if value := recover(); value != nil {
			m.panicked = &panicError{value: value, stack: debug.Stack()}
			m.outcome = settlement.Outcome{Ref: settlement.OutcomeRef{Stream: m.meta.Stream, Sequence: m.meta.Sequence.Stream}}
		}
	}()
	envelope := ReadEnvelope(m.msg.Subject, m.msg.Header, m.msg.Data, m.meta.Stream, m.meta.Sequence.Stream, prefix)
	envelope.Stored = m.meta.Timestamp
	m.outcome, _ = settlement.ParseOutcome(envelope) // its error stands in Invalid, and Settle records it
	m.noTurn = trust != nil && trust(m.outcome) != nil
}

// session is that whose turn the message waits for; empty where it waits for none.
func (m *message) session() settlement.SessionID {
	if m.noTurn {
		return ""
	}
	return m.outcome.Session
}

// delivered is how often the message was delivered, this time included: a hint.
func (m *message) delivered() uint64 {
	if m.meta == nil {
		return 1
	}
	return m.meta.NumDelivered
}

// beat tells the server that the message is being worked on.
func (m *message) beat() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.answered {
		_ = m.nc.Publish(m.msg.Reply, []byte("+WPI")) // lost with the connection: the message is delivered again
	}
}

// close ends the signs of life: after an answer they would undo its delay.
func (m *message) close() (first bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	first, m.answered = !m.answered, true
	return first
}

// held are the messages taken and not answered, which are kept alive.
type held struct {
	generation atomic.Uint64 // of the consumer that delivers now
	period     atomic.Int64  // between two signs of life, nanoseconds

	mu       sync.Mutex
	messages map[*message]struct{}
}

func (h *held) add(m *message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.messages == nil {
		h.messages = map[*message]struct{}{}
	}
	h.messages[m] = struct{}{}
}

func (h *held) all() []*message {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := make([]*message, 0, len(h.messages))
	for m := range h.messages {
		list = append(list, m)
	}
	return list
}

// keepAlive sets how often: a third of the ack wait, so that two may be lost.
func (h *held) keepAlive(ackWait time.Duration) {
	if ackWait > 0 {
		h.period.Store(int64(ackWait / 3))
	}
}

// start begins to keep messages alive.
func (h *held) start(ackWait time.Duration) task {
	h.keepAlive(ackWait)
	return startTask(context.Background(), func(ctx context.Context) {
		for {
			timer := time.NewTimer(max(time.Duration(h.period.Load()), 10*time.Millisecond))
			select {
			case <-ctx.Done():
				timer.Stop()
				return
			case <-timer.C:
			}
			for _, m := range h.all() {
				m.beat()
			}
		}
	})
}

// errAbandoned: who delivered the message is gone.
var errAbandoned = errors.New("the consumer that delivered the message is gone: answer withheld, its successor delivers it again")

// answer sends the one answer of a message, and lets go of it.
func (h *held) answer(m *message, v Verdict) error {
	defer h.remove(m)
	if !m.close() {
		return errors.New("answered already")
	}
	if m.generation != h.generation.Load() {
		return errAbandoned
	}
	switch v.Disposition {
	case Acked:
		return m.ack()
	case Terminated:
		return m.respond("+TERM " + v.Reason)
	default:
		if v.Delay <= 0 {
			return m.respond("-NAK")
		}
		return m.respond(fmt.Sprintf(`-NAK {"delay": %d}`, v.Delay.Nanoseconds()))
	}
}

func (h *held) remove(m *message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.messages, m)
}

func (m *message) respond(answer string) error {
	if err := m.nc.Publish(m.msg.Reply, []byte(answer)); err != nil {
		return fmt.Errorf("answer %s: %w", answer, err)
	}
	return nil
}

func (m *message) ack() error {
	ctx, cancel := context.WithTimeout(context.Background(), ackTime)
	defer cancel()
	if _, err := m.nc.RequestWithContext(ctx, m.msg.Reply, []byte("+ACK")); err != nil {
		return fmt.Errorf("acknowledgement not confirmed: %w", err)
	}
	return nil
}
