package simulate

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"settled/consumer"
	"settled/settlement"
)

// broker is the stream of outcomes and its durable consumer: at least once, in any
// order, to anybody.
type broker struct {
	w        *world
	messages []*message // in the stream, by sequence
	all      []*message // that were ever in it, by number
}

// message is one outcome message.
type message struct {
	number    uint64 // of all messages: a stream that was set back uses its sequences again
	sequence  uint64
	deal      *deal
	outcome   settlement.Outcome
	stored    time.Time
	done      bool // acknowledged or terminated
	lost      bool // the stream was set back, and has it no more
	delivered uint64
	turn      uint64 // of its deliveries: answers to older ones delay nothing any more

	forged   bool   // nobody who may say what happened signed it
	letter   uint64 // the dead letter that an operator published again as this message; 0: none
	recorded bool   // that it was published by an operator is on record
}

type delivery struct {
	message *message
	to      *replica
	life    int
	turn    uint64
}

// publish stores a message, and has it delivered.
func (b *broker) publish(d *deal) *message {
	m := &message{number: uint64(len(b.all) + 1), sequence: uint64(len(b.messages) + 1), deal: d, stored: b.w.now}
	if len(b.all) > 0 && !m.stored.After(b.all[len(b.all)-1].stored) {
		m.stored = b.all[len(b.all)-1].stored.Add(1) // the server stores one after the other
	}
	e := consumer.ReadEnvelope(d.subject(), map[string][]string{"Content-Type": {"application/cloudevents+json"}}, d.payload, "OUTCOMES", m.sequence, "")
	e.Stored = m.stored
	m.outcome, _ = settlement.ParseOutcome(e) // its error stands in the outcome
	b.messages, b.all = append(b.messages, m), append(b.all, m)
	b.w.note("OUTCOMES", "message %d: %s", m.sequence, d)
	b.w.after(b.w.choices.between(0, 50*time.Millisecond), func() { b.deliver(m, m.turn) })
	return m
}

// of is the message that carried an outcome.
func (b *broker) of(o settlement.OutcomeRef) *message {
	for _, m := range slices.Backward(b.all) {
		if m.sequence == o.Sequence && m.outcome.Ref.Stored == o.Stored {
			return m
		}
	}
	panic(fmt.Sprintf("no message had sequence %d at %s", o.Sequence, o.Stored))
}

// setBack puts an older copy in the place of the stream and its durable: the last
// messages are gone, and so are some answers to others. What a publisher has no result
// of it publishes again, under sequences that were used before.
func (b *broker) setBack() {
	if len(b.messages) == 0 {
		return
	}
	kept := len(b.messages) - 1 - b.w.choices.pick(min(len(b.messages), 4))
	b.w.note("OUTCOMES", "is SET BACK to message %d of %d", kept, len(b.messages))
	gone := b.messages[kept:]
	b.messages = b.messages[:kept:kept]
	for _, m := range b.messages {
		if m.done && b.w.choices.pick(3) == 2 {
			m.done = false
			m.turn++
			turn := m.turn
			b.w.after(time.Second, func() { b.deliver(m, turn) })
		}
	}
	for _, m := range gone {
		m.lost = true
		m.turn++
		if !m.done && !m.forged || b.w.choices.pick(3) == 2 {
			b.w.after(b.w.choices.between(100*time.Millisecond, time.Minute), func() { b.publish(m.deal).forged = m.forged })
		}
	}
}

// deliver hands a message to a process that is up, if this is still wanted.
func (b *broker) deliver(m *message, turn uint64) {
	if m.done || m.lost || m.turn != turn {
		return
	}
	var free []*replica
	for _, r := range b.w.replicas {
		if r.alive() {
			free = append(free, r)
		}
	}
	if len(free) == 0 {
		b.w.after(time.Second, func() { b.deliver(m, turn) })
		return
	}
	r := free[b.w.choices.pick(len(free))]
	m.turn++
	m.delivered++
	d := delivery{m, r, r.life, m.turn}
	b.await(d)
	r.take(d)
}

// await delivers a message again that its process says nothing of for an ack wait.
func (b *broker) await(d delivery) {
	b.w.after(ackWait, func() {
		switch {
		case d.message.done || d.message.turn != d.turn:
		case d.to.alive() && d.to.life == d.life && !b.w.faulty(b.w.weather.beatsLost) && d.works():
			b.await(d)
		default:
			b.w.note("OUTCOMES", "message %d: ack wait is over", d.message.sequence)
			b.deliver(d.message, d.turn)
		}
	})
}

// works: the process that has the message still holds it, rather than having sent
// an answer that was lost.
func (d delivery) works() bool {
	prefix := fmt.Sprintf("%s/%d.", d.to.name, d.message.number)
	for _, a := range d.to.hands {
		if !a.dead && strings.HasPrefix(a.name, prefix) {
			return true
		}
	}
	return false
}

// answered takes an answer.
func (b *broker) answered(d delivery, v consumer.Verdict) {
	m := d.message
	switch v.Disposition {
	case consumer.Acked, consumer.Terminated:
		b.w.laws.answered(m, v)
		if m.lost {
			return
		}
		m.done = true
		b.forget(m)
	case consumer.Requeued:
		if !m.done && m.turn == d.turn {
			m.turn++
			turn := m.turn
			b.w.after(v.Delay, func() { b.deliver(m, turn) })
		}
	}
}

// forget loses an acknowledgement that was confirmed: a server that is killed does.
func (b *broker) forget(m *message) {
	if !b.w.faulty(b.w.weather.unacked) {
		return
	}
	b.w.after(b.w.choices.between(time.Second, 3*time.Minute), func() {
		if m.done && !m.lost {
			b.w.note("OUTCOMES", "message %d: its acknowledgement is lost", m.sequence)
			m.done = false
			m.turn++
			b.deliver(m, m.turn)
		}
	})
}

// unanswered names what still waits.
func (b *broker) unanswered() string {
	var left []string
	for _, m := range b.messages {
		if !m.done {
			left = append(left, fmt.Sprintf("message %d (%s), delivered %d times", m.sequence, m.deal, m.delivered))
		}
	}
	if len(left) == 0 {
		return "nothing that waits for an answer"
	}
	return strings.Join(left, ", ")
}
