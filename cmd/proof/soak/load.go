package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go/jetstream"

	"settled/consumer"
	"settled/ledger"
	"settled/ledger/streamreader"
	"settled/settlement"
)

// load publishes the outcomes, so many ahead of their results that settled always
// has work and never more than that.
type load struct {
	stage    *stage
	js       jetstream.JetStream
	sessions uint64 // to settle
	next     atomic.Uint64
	settled  atomic.Uint64 // sessions whose result is there
	results  atomic.Uint64 // of all kinds
	running  sync.WaitGroup
	slots    chan struct{} // one for each outcome whose result isn't there yet

	mu       sync.Mutex
	outcomes []*outcome
	waiting  map[string]*outcome // by id
	acked    map[uint64]*outcome // by sequence
	err      error               // the first
}

// ahead is how many outcomes have no result yet at most; publishers are how many
// publish at once.
const (
	ahead      = 512
	publishers = 16
)

func newLoad(d *deployment, sessions uint64) *load {
	return &load{
		stage: d.stage, js: d.js, sessions: sessions, slots: make(chan struct{}, ahead),
		waiting: map[string]*outcome{}, acked: map[uint64]*outcome{},
	}
}

// run publishes until all sessions are told; what comes after a result is published
// by the goroutine that follows the results.
func (l *load) run(ctx context.Context) {
	for range publishers {
		l.running.Go(func() {
			for number := l.next.Add(1); number <= l.sessions && ctx.Err() == nil; number = l.next.Add(1) {
				told, err := l.stage.story(number)
				if err != nil {
					l.failed(err)
					return
				}
				for _, o := range told {
					l.tell(ctx, o)
				}
			}
		})
	}
}

// tell publishes an outcome and its copies, as soon as there is room for it.
func (l *load) tell(ctx context.Context, o *outcome) {
	if o.session != "" { // what has none can't be told from its result
		select {
		case l.slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
	}
	l.mu.Lock()
	l.outcomes = append(l.outcomes, o)
	if o.session != "" {
		l.waiting[o.id] = o
	}
	l.mu.Unlock()
	for i := range o.again + 1 {
		l.publish(ctx, o, i)
	}
}

func (l *load) publish(ctx context.Context, o *outcome, copyNumber int) {
	ack, err := l.js.PublishMsg(ctx, o.message(copyNumber))
	if err != nil {
		l.failed(fmt.Errorf("publish outcome %s: %w", o.id, err))
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked[ack.Sequence] = o
}

func (l *load) failed(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = err
	}
}

// follow takes every result as a subscriber does, until the returned function is
// called.
func (l *load) follow(ctx context.Context) (stop func()) {
	ctx, end := context.WithCancel(ctx)
	done := make(chan struct{})
	results := streamreader.Selection{Subjects: []string{"settlement.closed.*", "settlement.failed.*"}}
	go func() {
		defer close(done)
		_ = streamreader.New(l.js, ledger.StreamName("")).Follow(ctx, results, nil, func(m *jetstream.RawStreamMsg) error {
			l.result(ctx, m.Data)
			return nil
		})
	}()
	return func() {
		end()
		<-done
	}
}

// result notes that an outcome has its result. Whether it is the right one is found
// out from the ledger, when all is over.
func (l *load) result(ctx context.Context, entry []byte) {
	var e struct {
		Data struct {
			Outcome settlement.OutcomeRef `json:"outcome"`
		} `json:"data"`
	}
	if err := json.Unmarshal(entry, &e); err != nil {
		l.failed(fmt.Errorf("a result can't be read: %w", err))
		return
	}
	l.results.Add(1)
	l.mu.Lock()
	o := l.waiting[e.Data.Outcome.ID]
	delete(l.waiting, e.Data.Outcome.ID)
	l.mu.Unlock()
	if o == nil {
		return
	}
	<-l.slots
	if o.paid != "" {
		l.settled.Add(1)
	}
	switch o.after {
	case nil:
	case o:
		l.running.Go(func() { l.publish(ctx, o, o.again+1) })
	default:
		l.running.Go(func() { l.tell(ctx, o.after) })
	}
}

// left is how many outcomes have no result yet.
func (l *load) left() (waiting int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting), l.err
}

// answered reports whether every stored message has its final answer.
func (l *load) answered(ctx context.Context) (bool, error) {
	c, err := l.js.Consumer(ctx, consumer.OutcomesStream(""), "settled")
	if err != nil {
		return false, err
	}
	info := c.CachedInfo()
	return info.NumPending == 0 && info.NumAckPending == 0, nil
}
