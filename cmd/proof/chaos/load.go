package main

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"settled/cmd/proof/process"
	"settled/consumer"
)

// load publishes outcomes as upstream services do: again, under the same id, until
// the server says that it is stored.
type load struct {
	stage   *stage
	js      jetstream.JetStream // as user upstream
	letters *consumer.DeadLetters
	running sync.WaitGroup
	slots   chan struct{} // one for each message that is being published

	mu       sync.Mutex
	outcomes []*outcome
	acked    map[uint64]*outcome
	replayed map[uint64]bool // dead letters that a replay was begun of
	replays  int             // that succeeded
	missed   []string        // publications that were given up, and why
}

// publishers is how many messages are under way at once at most.
const publishers = 64

// connectParty connects this process to the servers as one of their users.
func connectParty(c *cluster, user string) (*nats.Conn, jetstream.JetStream, error) {
	nc, err := nats.Connect(c.url(runnerParty, user), nats.Name("chaos "+user), nats.MaxReconnects(-1), nats.ReconnectWait(200*time.Millisecond),
		nats.CustomInboxPrefix("_INBOX_"+user), nats.RetryOnFailedConnect(true), nats.PingInterval(time.Second), nats.MaxPingsOutstanding(2), nats.Timeout(2*time.Second),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		return nil, nil, err
	}
	if user == "settled" {
		js, err := jetstream.New(nc)
		return nc, js, err
	}
	js, err := jetstream.NewWithDomain(nc, "ledger") // deploy/nats/roles.conf
	return nc, js, err
}

func newLoad(s *stage, upstream, operator jetstream.JetStream) *load {
	return &load{
		stage: s, js: upstream, letters: consumer.NewDeadLetters(operator, consumer.Config{}), slots: make(chan struct{}, publishers),
		acked: map[uint64]*outcome{}, replayed: map[uint64]bool{},
	}
}

// ahead is how many stories have their session before they are told: outcomes come
// while the node is away, and sessions can't be opened then.
const ahead = 150

// run tells the stories evenly over length, and returns when all of their messages
// are on their way. ctx ends it early.
func (l *load) run(ctx context.Context, stories []story, length time.Duration) {
	began := time.Now()
	ready := make(chan []publication, ahead)
	l.running.Go(func() {
		defer close(ready)
		for _, s := range stories {
			ready <- l.prepare(ctx, s)
		}
	})
	i := 0
	for told := range ready {
		at := time.Duration(i) * length / time.Duration(len(stories))
		_ = process.Pause(ctx, time.Until(began.Add(at)))
		l.tell(ctx, told, length-at)
		i++
	}
}

// prepare makes a story's outcomes; while the node's database is away it tries again.
func (l *load) prepare(ctx context.Context, s story) []publication {
	for {
		told, err := l.stage.pair(s.number).tellStory(s)
		if err == nil {
			return told
		}
		if !process.Pause(ctx, 50*time.Millisecond) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.missed = append(l.missed, "story "+s.id("")+": "+err.Error())
			return nil
		}
	}
}

// tell publishes a story's messages, repetitions within what is left of the time:
// what comes after the last fault would not be recovery.
func (l *load) tell(ctx context.Context, told []publication, left time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, p := range told {
		p.after = min(p.after, left)
		if p.copy == 0 {
			l.outcomes = append(l.outcomes, told[i].outcome)
		}
		l.running.Go(func() { l.publish(ctx, p) })
	}
}

func (l *load) publish(ctx context.Context, p publication) {
	_ = process.Pause(ctx, p.after)
	l.slots <- struct{}{}
	defer func() { <-l.slots }()
	m := p.outcome.message(p.copy)
	for {
		attempt, cancel := context.WithTimeout(ctx, 3*time.Second)
		ack, err := l.js.PublishMsg(attempt, m)
		cancel()
		if err == nil {
			l.stored(p.outcome, ack.Sequence)
			return
		}
		if !process.Pause(ctx, 100*time.Millisecond) {
			l.gaveUp(p.outcome, err)
			return
		}
	}
}

func (l *load) stored(o *outcome, sequence uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked[sequence] = o
}

func (l *load) gaveUp(o *outcome, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.missed = append(l.missed, o.String()+": "+err.Error())
}

// published is how many messages are known to be stored.
func (l *load) published() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acked)
}

// replaySome replays the oldest dead letters, as an operator might at any time.
func (l *load) replaySome(ctx context.Context, most int) {
	l.running.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		letters, err := l.letters.List(ctx, consumer.Filter{Limit: most})
		if err != nil {
			return // the servers are away; there will be another replay
		}
		for _, letter := range letters {
			l.replay(ctx, letter.Sequence)
		}
	})
}

// replay notes a letter before it touches it: a replay whose answer was lost may
// have removed it all the same.
func (l *load) replay(ctx context.Context, sequence uint64) {
	l.mu.Lock()
	l.replayed[sequence] = true
	l.mu.Unlock()
	if _, err := l.letters.Replay(ctx, sequence); err != nil {
		return // it stays, or is gone; either is fine, and the verdict knows both
	}
	l.mu.Lock()
	l.replays++
	l.mu.Unlock()
}
