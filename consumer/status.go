package consumer

import (
	"fmt"
	"time"
)

// State is whether outcomes can be taken at all.
type State string

// The states of a Consumer.
const (
	OK         State = "ok"         // the durable is there
	Rebuilding State = "rebuilding" // the stream, the durable or NATS itself is away; Why says which
)

// Status is what the consumer does at this moment.
type Status struct {
	State State
	Why   string // of Rebuilding

	Paused    bool // the node isn't ready: nothing is fetched
	PausedWhy string

	InHand  int // messages being settled
	Waiting int // messages taken and not begun

	// Of all replicas together, when last looked (every few seconds): messages
	// not delivered yet, and delivered ones without a final answer, those given
	// back with a delay included.
	Pending    uint64
	Unanswered int

	Beat time.Time // when the loop that takes messages last went on; zero: it doesn't run

	Panics uint64 // Settle calls that panicked, since the start: each is a bug
}

// Err is nil where outcomes can be taken, paused or not.
func (s Status) Err() error {
	if s.State == OK {
		return nil
	}
	return fmt.Errorf("outcomes can't be taken: %s", s.Why)
}

// Status says what the consumer does.
func (c *Consumer) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.status
	s.Panics = c.panics.Load()
	return s
}

func (c *Consumer) setStatus(change func(*Status)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.status)
}
