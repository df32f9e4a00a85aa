package simulate

import (
	"fmt"
	"strings"
	"time"

	"settled/consumer"
	"settled/settlement"
)

// broker is the stream of outcomes and its durable consumer: at least once, in any
// order, to anybody.
type broker struct {
	w        *world
	messages []*message
}

// message is one outcome message.
type message struct {
	sequence  uint64
	deal      *deal
	outcome   settlement.Outcome
	done      bool // acknowledged or terminated
	delivered uint64
	turn      uint64 // of its deliveries: answers to older ones delay nothing any more
}

type delivery struct {
	message *message
	to      *replica
	life    int
	turn    uint64
}

// publish stores a message, and has it delivered.
func (b *broker) publish(d *deal) {
	sequence := uint64(len(b.messages) + 1)
	e := consumer.ReadEnvelope(d.subject(), map[string][]string{"Content-Type": {"application/cloudevents+json"}}, d.payload, "OUTCOMES", sequence, "")
	m := &message{sequence: sequence, deal: d}
	m.outcome, _ = settlement.ParseOutcome(e) // its error stands in the outcome
	b.messages = append(b.messages, m)
	b.w.note("OUTCOMES", "message %d: %s", sequence, d)
	b.w.after(b.w.choices.between(0, 50*time.Millisecond), func() { b.deliver(m, m.turn) })
}

// deliver hands a message to a process that is up, if this is still wanted.
func (b *broker) deliver(m *message, turn uint64) {
	if m.done || m.turn != turn {
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
	prefix := fmt.Sprintf("%s/%d.", d.to.name, d.message.sequence)
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
		m.done = true
		b.forget(m)
	case consumer.GivenBack:
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
		if m.done {
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
