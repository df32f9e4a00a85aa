package simulate

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"settled/consumer"
	"settled/consumer/cloudevent"
	"settled/settlement"
)

// broker is the stream of outcomes and its durable consumer. It delivers at least once,
// in any order, to any process.
type broker struct {
	w         *world
	messages  []*message // in the stream, by sequence
	published []*message // ever, by number
}

// message is one outcome message.
type message struct {
	number    uint64 // unlike sequence unique: a stream that was rolled back reuses its sequences
	sequence  uint64
	outcome   *expectedOutcome
	parsed    settlement.Outcome
	stored    time.Time
	answered  bool // acknowledged or terminated
	removed   bool // the stream was rolled back
	delivered uint64
	turn      uint64 // of its deliveries; answers to earlier ones delay nothing

	forged         bool   // not signed by a trusted publisher
	replayOf       uint64 // the dead letter that an operator replayed as this message; 0: none
	replayRecorded bool
}

type delivery struct {
	message *message
	to      *replica
	life    int // of the process
	turn    uint64
}

// publish stores a message and schedules its delivery.
func (b *broker) publish(o *expectedOutcome) *message {
	m := &message{number: uint64(len(b.published) + 1), sequence: uint64(len(b.messages) + 1), outcome: o, stored: b.w.now}
	if n := len(b.published); n > 0 && !m.stored.After(b.published[n-1].stored) {
		m.stored = b.published[n-1].stored.Add(1) // stored times are unique
	}
	e := cloudevent.Read(o.subject(), map[string][]string{"Content-Type": {"application/cloudevents+json"}}, o.payload, "OUTCOMES", m.sequence, "")
	e.Stored = m.stored
	m.parsed, _ = settlement.ParseOutcome(e) // the outcome contains the error
	b.messages, b.published = append(b.messages, m), append(b.published, m)
	b.w.tracef("OUTCOMES", "message %d: %s", m.sequence, o)
	b.redeliver(m, b.w.choices.between(0, 50*time.Millisecond))
	return m
}

// messageOf finds the message that carried an outcome.
func (b *broker) messageOf(o settlement.OutcomeRef) *message {
	for _, m := range slices.Backward(b.published) {
		if m.sequence == o.Sequence && m.parsed.Ref.Stored == o.Stored {
			return m
		}
	}
	panic(fmt.Sprintf("no message had sequence %d at %s", o.Sequence, o.Stored))
}

// redeliver delivers a message after a delay, unless it is delivered otherwise before.
func (b *broker) redeliver(m *message, delay time.Duration) {
	m.turn++
	turn := m.turn
	b.w.after(delay, func() { b.deliver(m, turn) })
}

// deliver gives a message to a process that runs.
func (b *broker) deliver(m *message, turn uint64) {
	if m.answered || m.removed || m.turn != turn {
		return
	}
	running := slices.DeleteFunc(slices.Clone(b.w.replicas), func(r *replica) bool { return !r.responsive() })
	if len(running) == 0 {
		b.w.after(time.Second, func() { b.deliver(m, turn) })
		return
	}
	r := running[b.w.choices.pick(len(running))]
	m.turn++
	m.delivered++
	d := delivery{m, r, r.life, m.turn}
	b.awaitAnswer(d)
	r.settle(d)
}

// awaitAnswer delivers a message again when its process has reported no progress for
// an ack wait.
func (b *broker) awaitAnswer(d delivery) {
	b.w.after(ackWait, func() {
		switch m := d.message; {
		case m.answered || m.turn != d.turn:
		case d.to.responsive() && d.to.life == d.life && !b.w.faultOccurs(b.w.faults.progressLost) && d.to.worksOn(m):
			b.awaitAnswer(d)
		default:
			b.w.tracef("OUTCOMES", "message %d: ack wait is over", m.sequence)
			b.deliver(m, d.turn)
		}
	})
}

// answer handles the answer to a delivery.
func (b *broker) answer(d delivery, v consumer.Verdict) {
	m := d.message
	switch v.Disposition {
	case consumer.Acked, consumer.Terminated:
		b.w.checker.checkAnswer(m, v)
		if m.removed {
			return
		}
		m.answered = true
		if b.w.faultOccurs(b.w.faults.ackLost) { // a server that is killed can lose it
			b.w.after(b.w.choices.between(time.Second, 3*time.Minute), func() { b.loseAck(m) })
		}
	case consumer.Returned:
		if !m.answered && m.turn == d.turn {
			b.redeliver(m, v.Delay)
		}
	}
}

func (b *broker) loseAck(m *message) {
	if m.answered && !m.removed {
		b.w.tracef("OUTCOMES", "message %d: its acknowledgement is lost", m.sequence)
		m.answered = false
		m.turn++
		b.deliver(m, m.turn)
	}
}

// rollBack restores an earlier state of the stream and its durable: the last messages
// are removed, and some answers are lost. Publishers without a result publish again,
// under sequences that were used before.
func (b *broker) rollBack() {
	if len(b.messages) == 0 {
		return
	}
	kept := len(b.messages) - 1 - b.w.choices.pick(min(len(b.messages), 4))
	b.w.tracef("OUTCOMES", "is ROLLED BACK to message %d of %d", kept, len(b.messages))
	removed := b.messages[kept:]
	b.messages = b.messages[:kept:kept]
	for _, m := range b.messages {
		if m.answered && b.w.choices.pick(3) == 2 {
			m.answered = false
			b.redeliver(m, time.Second)
		}
	}
	for _, m := range removed {
		m.removed = true
		m.turn++
		if !m.answered && !m.forged || b.w.choices.pick(3) == 2 {
			b.w.after(b.w.choices.between(100*time.Millisecond, time.Minute), func() { b.publish(m.outcome).forged = m.forged })
		}
	}
}

// unansweredText lists the messages without an answer.
func (b *broker) unansweredText() string {
	var left []string
	for _, m := range b.messages {
		if !m.answered {
			left = append(left, fmt.Sprintf("message %d (%s), delivered %d times", m.sequence, m.outcome, m.delivered))
		}
	}
	if len(left) == 0 {
		return "every message is answered"
	}
	return strings.Join(left, ", ")
}
