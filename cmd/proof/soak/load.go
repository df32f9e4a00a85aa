package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go/jetstream"

	"settled/cmd/proof/workload"
	"settled/consumer"
	"settled/ledger"
	"settled/ledger/streamreader"
	"settled/settlement"
)

// load publishes the outcomes. It limits how many of them have no result yet, so that
// settled always has work but never a backlog.
type load struct {
	node     *workload.Node
	js       jetstream.JetStream
	sessions uint64        // to settle
	started  atomic.Uint64 // sessions
	settled  atomic.Uint64 // sessions
	results  atomic.Uint64 // closed and failed entries
	running  sync.WaitGroup
	slots    chan struct{} // one for each outcome without a result

	mu       sync.Mutex
	outcomes []*workload.Outcome
	waiting  map[string]*publication      // by the id of the outcome
	acked    map[uint64]*workload.Outcome // by sequence
	err      error                        // the first
}

const (
	maxWaiting = 512 // outcomes without a result
	publishers = 16
)

func newLoad(node *workload.Node, js jetstream.JetStream, sessions uint64) *load {
	return &load{
		node: node, js: js, sessions: sessions, slots: make(chan struct{}, maxWaiting),
		waiting: map[string]*publication{}, acked: map[uint64]*workload.Outcome{},
	}
}

// start starts the publishers, and a follower of the results, which publishes what
// follows a result. They end with ctx.
func (l *load) start(ctx context.Context) {
	for range publishers {
		l.running.Go(func() {
			for number := l.started.Add(1); number <= l.sessions && ctx.Err() == nil; number = l.started.Add(1) {
				all, err := publications(l.node, number)
				if err != nil {
					l.fail(err)
					return
				}
				for _, p := range all {
					l.publish(ctx, p)
				}
			}
		})
	}
	results := streamreader.Selection{Subjects: []string{ledger.Subject("", settlement.EntryClosed, "*"), ledger.Subject("", settlement.EntryFailed, "*")}}
	l.running.Go(func() {
		open := func(context.Context) (*streamreader.Reader, error) {
			return streamreader.New(l.js, ledger.StreamName("")), nil
		}
		_ = streamreader.Follow(ctx, open, results, nil, func(m *jetstream.RawStreamMsg) error {
			l.handleResult(ctx, m.Data)
			return nil
		})
	})
}

// publish publishes an outcome and its copies as soon as there is a slot for it.
func (l *load) publish(ctx context.Context, p *publication) {
	o := p.outcome
	waits := o.Session != "" // otherwise its result doesn't carry its id
	if waits {
		select {
		case l.slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
	}
	l.mu.Lock()
	l.outcomes = append(l.outcomes, o)
	if waits {
		l.waiting[o.ID] = p
	}
	l.mu.Unlock()
	for i := range p.copies + 1 {
		l.publishMessage(ctx, o, i)
	}
}

func (l *load) publishMessage(ctx context.Context, o *workload.Outcome, copyNumber int) {
	ack, err := l.js.PublishMsg(ctx, o.Message(copyNumber))
	if err != nil {
		l.fail(fmt.Errorf("publish %s: %w", o, err))
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked[ack.Sequence] = o
}

func (l *load) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = err
	}
}

// handleResult frees the slot of the outcome and publishes what follows. The verdict
// checks later whether the result is correct.
func (l *load) handleResult(ctx context.Context, entry []byte) {
	var e struct {
		Data struct {
			Outcome settlement.OutcomeRef `json:"outcome"`
		} `json:"data"`
	}
	if err := json.Unmarshal(entry, &e); err != nil {
		l.fail(fmt.Errorf("read a result: %w", err))
		return
	}
	l.results.Add(1)
	l.mu.Lock()
	p := l.waiting[e.Data.Outcome.ID]
	delete(l.waiting, e.Data.Outcome.ID)
	l.mu.Unlock()
	if p == nil {
		return
	}
	<-l.slots
	if p.outcome.Paid != "" {
		l.settled.Add(1)
	}
	if p.repeat {
		l.running.Go(func() { l.publishMessage(ctx, p.outcome, p.copies+1) })
	}
	if p.next != nil {
		l.running.Go(func() { l.publish(ctx, p.next) })
	}
}

// progress returns how many outcomes have no result yet, and the first error.
func (l *load) progress() (waiting int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting), l.err
}

// answered reports whether settled has acknowledged every stored message.
func (l *load) answered(ctx context.Context) (bool, error) {
	c, err := l.js.Consumer(ctx, consumer.OutcomesStream(""), "settled")
	if err != nil {
		return false, err
	}
	info := c.CachedInfo()
	return info.NumPending == 0 && info.NumAckPending == 0, nil
}
