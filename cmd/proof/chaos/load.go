package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"settled/cmd/proof/process"
	"settled/cmd/proof/workload"
	"settled/consumer"
	"settled/consumer/deadletter"
)

// load publishes outcomes as upstream services do: it repeats a message with the same
// id until the server acknowledges it.
type load struct {
	node        *workload.Node
	js          jetstream.JetStream // as the user upstream
	deadLetters *deadletter.Queue
	running     sync.WaitGroup
	slots       chan struct{} // one for each message that is being published

	mu          sync.Mutex
	outcomes    []*workload.Outcome
	acked       map[uint64]*workload.Outcome
	replayed    map[uint64]bool // dead letters whose replay was begun
	replays     int             // that succeeded
	unpublished []string        // outcomes that were given up, and why
}

// publishers limits the messages that are being published at once.
const publishers = 64

func newLoad(node *workload.Node, upstream, operator jetstream.JetStream) *load {
	return &load{
		node: node, js: upstream, deadLetters: deadletter.New(operator, consumer.Config{}), slots: make(chan struct{}, publishers),
		acked: map[uint64]*workload.Outcome{}, replayed: map[uint64]bool{},
	}
}

// prepared is how many stories get their session in advance. Sessions can't be opened
// while the node is down, but outcomes are published then.
const prepared = 150

// run publishes the stories evenly over the length. It returns when all messages are
// on their way; ctx ends it early.
func (l *load) run(ctx context.Context, stories []story, length time.Duration) {
	began := time.Now()
	ready := make(chan []publication, prepared)
	l.running.Go(func() {
		defer close(ready)
		for _, s := range stories {
			all, err := s.publications(l.node)
			for err != nil && process.Sleep(ctx, 50*time.Millisecond) { // the node's database is down
				all, err = s.publications(l.node)
			}
			if err != nil {
				l.giveUp(fmt.Sprintf("story %d", s.number), err)
			}
			ready <- all
		}
	})
	i := 0
	for all := range ready {
		at := time.Duration(i) * length / time.Duration(len(stories))
		_ = process.Sleep(ctx, time.Until(began.Add(at)))
		for _, p := range all {
			if p.copy == 0 {
				l.mu.Lock()
				l.outcomes = append(l.outcomes, p.outcome)
				l.mu.Unlock()
			}
			p.after = min(p.after, length-at) // recovery begins with the last message
			l.running.Go(func() { l.publish(ctx, p) })
		}
		i++
	}
}

func (l *load) publish(ctx context.Context, p publication) {
	_ = process.Sleep(ctx, p.after)
	l.slots <- struct{}{}
	defer func() { <-l.slots }()
	message := p.outcome.Message(p.copy)
	for {
		attempt, cancel := context.WithTimeout(ctx, 3*time.Second)
		ack, err := l.js.PublishMsg(attempt, message)
		cancel()
		if err == nil {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.acked[ack.Sequence] = p.outcome
			return
		}
		if !process.Sleep(ctx, 100*time.Millisecond) {
			l.giveUp(p.outcome.String(), err)
			return
		}
	}
}

func (l *load) giveUp(what string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unpublished = append(l.unpublished, what+": "+err.Error())
}

// published returns how many messages were acknowledged.
func (l *load) published() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acked)
}

// replayDeadLetters replays the oldest dead letters, as an operator may at any time.
// Any of the calls may fail while the servers are down.
func (l *load) replayDeadLetters(ctx context.Context, limit int) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	letters, err := l.deadLetters.List(ctx, deadletter.Filter{Limit: limit})
	if err != nil {
		return
	}
	for _, letter := range letters {
		l.mu.Lock()
		l.replayed[letter.Sequence] = true // a replay that fails may have removed it nevertheless
		l.mu.Unlock()
		if _, err := l.deadLetters.Replay(ctx, letter.Sequence); err == nil {
			l.mu.Lock()
			l.replays++
			l.mu.Unlock()
		}
	}
}
