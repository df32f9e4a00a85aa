package consumer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"settled/ledger/natstest"
	"settled/settlement"
)

const hotSession = "0x00000000000000000000000000000000000000000000000000000000000000aa"

func (r *rig) publishHot(id string) uint64 {
	r.t.Helper()
	return r.publishMsg(&nats.Msg{
		Subject: OutcomeSubject(r.cfg.Prefix, settlement.Cancellation), Data: []byte(eventOfHot(id)),
	})
}

// oneAtATime verifies that one Settle call of a session runs at a time, and records the
// order in which those of the hot session began. They wait until goOn is closed.
type oneAtATime struct {
	t    *testing.T
	goOn chan struct{}

	mu      sync.Mutex
	open    map[settlement.SessionID]bool
	started []uint64
}

func (o *oneAtATime) settle(ctx context.Context, out settlement.Outcome, _ int) (settlement.Settlement, error) {
	o.mu.Lock()
	if o.open[out.Session] {
		o.t.Errorf("two outcomes of session %s at once", out.Session)
	}
	o.open[out.Session] = true
	if out.Session == hotSession {
		o.started = append(o.started, out.Ref.Sequence)
	}
	o.mu.Unlock()
	defer func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.open[out.Session] = false
	}()
	if out.Session == hotSession {
		select {
		case <-o.goOn:
		case <-ctx.Done():
			return settlement.Settlement{}, ctx.Err()
		}
	}
	return closedBy(out), nil
}

func (o *oneAtATime) order() []uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.started)
}

// hotRig is a rig whose Settle blocks for outcomes of the hot session.
func hotRig(t *testing.T, workers int) (*rig, *oneAtATime) {
	t.Helper()
	r := newRig(t, func(c *Config) { c.Workers = workers })
	o := &oneAtATime{t: t, goOn: make(chan struct{}), open: map[settlement.SessionID]bool{}}
	r.settler.do = o.settle
	return r, o
}

// Thousands of outcomes of one session, before all others in the stream, make no progress:
// the others are settled.
func TestAHotSessionHoldsUpNoOther(t *testing.T) {
	r, hot := hotRig(t, 8)
	r.start()
	const flood, others = 300, 50
	for i := range flood {
		r.publishHot(fmt.Sprint("hot ", i))
	}
	for i := range others {
		r.publish(fmt.Sprint("other ", i))
	}
	for range others {
		if res := r.result(); res.Outcome.Session == hotSession || res.Disposition != Acked {
			t.Fatalf("%s of session %s, while the hot one can't get on", res.Disposition, res.Outcome.Session)
		}
	}
	if n := len(hot.order()); n != 1 {
		t.Errorf("%d outcomes of the hot session started, want one", n)
	}
	r.until("one in hand, and no more waiting than may", func() bool { s := r.c.Status(); return s.InHand == 1 && s.Waiting <= maxWaitingOfSession })
	close(hot.goOn)
	r.settledAll(flood + others)
	for seq := range uint64(flood) {
		if n := r.settler.count(seq + 1); n != 1 {
			t.Errorf("outcome %d was settled %d times", seq+1, n)
		}
	}
	if n := len(r.log.Events(t, "more outcomes name this session than can wait for it: they are settled one by one, and the others are delivered again later")); n == 0 {
		t.Error("the hot session was not logged")
	}
}

// Untrusted outcomes don't delay a trusted one of the same session.
func TestUntrustedDelaysNoOther(t *testing.T) {
	r := newRig(t, func(c *Config) {
		c.Workers = 4
		c.TrustFunc = func(o settlement.Outcome) *settlement.Failure {
			if o.Ref.ID == "signed" {
				return nil
			}
			return settlement.Fail(settlement.UntrustedOutcome, "unsigned")
		}
	})
	goOn := make(chan struct{})
	r.settler.do = func(ctx context.Context, out settlement.Outcome, _ int) (settlement.Settlement, error) {
		if out.Ref.ID != "signed" {
			select {
			case <-goOn:
			case <-ctx.Done():
			}
		}
		return closedBy(out), nil
	}
	r.start()
	for _, id := range []string{"unsigned 1", "unsigned 2", "signed"} {
		r.publishHot(id)
	}
	if res := r.result(); res.Outcome.Ref.ID != "signed" {
		t.Errorf("%q was settled first", res.Outcome.Ref.ID)
	}
	close(goOn)
	r.settledAll(2)
}

// flood publishes messages of several sessions that make no progress, without waiting for
// each confirmation.
func (r *rig) flood(n int, sessions ...string) {
	r.t.Helper()
	for i := range n {
		data := fmt.Sprintf(`{"specversion":"1.0","id":"flood %d","source":"/test","type":"outcome.cancellation","data":{"session_id":%q}}`, i, sessions[i%len(sessions)])
		natstest.Must(r.js.PublishMsgAsync(&nats.Msg{Subject: OutcomeSubject(r.cfg.Prefix, settlement.Cancellation), Data: []byte(data)}, jetstream.WithStallWait(time.Minute)))
	}
	<-r.js.PublishAsyncComplete()
}

// More messages than any limit of the durable name one session, or a few, none of which
// makes progress: the outcome behind them is settled while all of theirs are unfinished,
// also on a durable that an earlier version created.
func TestNoNumberOfMessagesOfASessionDelaysAnother(t *testing.T) {
	const flood = 2*earlierMaxAckPending + 1000
	for name, sessions := range map[string]int{"one session": 1, "three sessions": 3} {
		t.Run(name, func(t *testing.T) {
			r, hot := hotRig(t, 8)
			earlier := DurableConfig(r.cfg)
			earlier.MaxAckPending = earlierMaxAckPending
			natstest.Must(r.js.CreateConsumer(t.Context(), "OUTCOMES", earlier))
			stuck := []string{hotSession}
			for i := 1; i < sessions; i++ {
				stuck = append(stuck, fmt.Sprintf("0x%064x", i))
			}
			r.settler.do = func(ctx context.Context, o settlement.Outcome, nth int) (settlement.Settlement, error) {
				if slices.Contains(stuck, string(o.Session)) {
					o.Session = hotSession
				}
				if o.Session == hotSession {
					<-ctx.Done()
					return settlement.Settlement{}, ctx.Err()
				}
				return hot.settle(ctx, o, nth)
			}
			r.flood(flood, stuck...)
			behind := r.publish("other")
			r.start()
			if res := r.result(); res.Outcome.Ref.Sequence != behind || res.Disposition != Acked {
				t.Fatalf("%s of sequence %d, want %d first", res.Disposition, res.Outcome.Ref.Sequence, behind)
			}
			d := r.durable()
			if d.Config.MaxAckPending != -1 || d.NumAckPending+int(d.NumPending) < flood {
				t.Errorf("max_ack_pending %d; %d unanswered and %d not delivered, want all %d unfinished", d.Config.MaxAckPending, d.NumAckPending, d.NumPending, flood)
			}
		})
	}
}

// Outcomes that wait for others of their session are settled in the order of arrival, and
// are delivered once.
func TestASessionsOutcomesAreSettledInTheirOrder(t *testing.T) {
	r, hot := hotRig(t, 4)
	r.cfg.AckWait = 400 * time.Millisecond
	var want []uint64
	for i := range maxWaitingPerWorker * 4 {
		want = append(want, r.publishHot(fmt.Sprint("hot ", i)))
	}
	r.start()
	r.until("one in hand, all others waiting, and asking for more", func() bool {
		s := r.c.Status()
		return s.InHand == 1 && s.Waiting == len(want)-1 && r.durable().NumWaiting == 1
	})
	<-time.After(3 * r.cfg.AckWait) // what is tested is that nothing happens in this time
	if d := r.durable(); d.Delivered.Consumer != uint64(len(want)) {
		t.Errorf("delivered %d times, want %d", d.Delivered.Consumer, len(want))
	}
	close(hot.goOn)
	r.settledAll(want[len(want)-1])
	if got := hot.order(); !slices.Equal(got, want) {
		t.Errorf("settled in the order %v, want %v", got, want)
	}
}

// A pause, like a stop, returns at once what waits for others of its session.
func TestWaitingOutcomesAreGivenBack(t *testing.T) {
	t.Run("pause", func(t *testing.T) {
		var node readiness
		node.set(nil)
		r, hot := hotRig(t, 2)
		r.cfg.Ready, r.cfg.Changed = node.Ready, node.Changed
		r.start()
		r.waiting(3)
		node.set(errors.New("away"))
		r.until("returned", func() bool { s := r.c.Status(); return s.Paused && s.InHand == 1 && s.Waiting == 0 })
		close(hot.goOn)
		r.until("what is in hand has ended", func() bool { return r.c.Status().InHand == 0 })
		if n := len(hot.order()); n != 1 {
			t.Errorf("%d outcomes started while paused", n-1)
		}
		node.set(nil)
		r.settledAll(4)
	})
	t.Run("stop", func(t *testing.T) {
		r, hot := hotRig(t, 2)
		r.start()
		r.waiting(3)
		r.stop()
		next := natstest.Must(r.js.Consumer(t.Context(), "OUTCOMES", "settled"))
		others := 0
		r.until("what waited is there for others", func() bool {
			batch := natstest.Must(next.FetchNoWait(10))
			for range batch.Messages() {
				others++
			}
			return others == 3
		})
		close(hot.goOn)
		if err := r.end(); err != nil {
			t.Errorf("Run: %v", err)
		}
		if n := len(hot.order()); n != 1 {
			t.Errorf("%d outcomes started after the stop", n-1)
		}
	})
}

// waiting publishes one outcome of the hot session and more, and waits until these wait for
// it.
func (r *rig) waiting(more int) {
	r.t.Helper()
	for i := range more + 1 {
		r.publishHot(fmt.Sprint("hot ", i))
	}
	r.until("one in hand, the others waiting", func() bool { s := r.c.Status(); return s.InHand == 1 && s.Waiting == more })
}

func TestSessionQueue(t *testing.T) {
	now := time.Unix(1e9, 0)
	queue := newSessionQueue(100)
	hot := func() *delivery {
		return &delivery{outcome: settlement.Outcome{Session: hotSession}, meta: &nats.MsgMetadata{}}
	}
	first := hot()
	if p, _, _ := queue.add(first, now); p != isNext {
		t.Fatalf("the first: %d", p)
	}
	var waiting []*delivery
	for range maxWaitingOfSession {
		m := hot()
		if p, _, _ := queue.add(m, now); p != waits {
			t.Fatalf("waiting: %d", p)
		}
		waiting = append(waiting, m)
	}
	if p, _, _ := queue.add(&delivery{outcome: settlement.Outcome{Session: natstest.Session}}, now); p != isNext {
		t.Errorf("of another session: %d", p)
	}
	untrusted := hot()
	untrusted.untrusted = true
	for range 2 {
		for _, m := range []*delivery{{}, untrusted} {
			if p, _, _ := queue.add(m, now); p != isNext {
				t.Errorf("of no session: %d", p)
			}
			if next := queue.done(m, now); next != nil {
				t.Errorf("it returned one of another session: %v", next)
			}
		}
	}
	last := time.Duration(0)
	for i := range 5000 {
		p, delay, logIt := queue.add(hot(), now)
		if p != noRoom || logIt != (i == 0) || delay < minDelay/2 {
			t.Fatalf("number %d without room: %d, %s, to be logged %t", i, p, delay, logIt)
		}
		last = delay
	}
	if want := time.Duration(maxWaitingOfSession+4999) * initialPace / 2; last != want {
		t.Errorf("the last returns after %s, want %s", last, want)
	}
	for n := range uint64(40) {
		m := hot()
		m.meta = &nats.MsgMetadata{NumDelivered: n + 1}
		if _, delay, _ := queue.add(m, now); delay < min(minDelay<<min(n, 20), maxDelay)/2 || delay > maxDelay {
			t.Errorf("delivery %d returns after %s", n+1, delay)
		}
	}
	m := first
	for i, want := range waiting {
		now = now.Add(50 * time.Millisecond)
		if m = queue.done(m, now); m != want {
			t.Fatalf("number %d is another one", i)
		}
	}
	if pace := queue.sessions[hotSession].pace; pace < 49*time.Millisecond || pace > 50*time.Millisecond {
		t.Errorf("the pace is %s, want 50ms", pace)
	}
	if next := queue.done(m, now); next != nil || len(queue.sessions) != 1 || queue.waiting != 0 {
		t.Errorf("at the end: %v, %d sessions, %d waiting", next, len(queue.sessions), queue.waiting)
	}
}

// However many there are, no delay exceeds its limit, and not all are the same.
func TestSessionQueueIsBounded(t *testing.T) {
	now, queue := time.Unix(1e9, 0), newSessionQueue(1)
	delays := map[time.Duration]int{}
	for range 100_000 {
		_, delay, _ := queue.add(&delivery{outcome: settlement.Outcome{Session: hotSession}, meta: &nats.MsgMetadata{}}, now)
		if delay > maxDelay {
			t.Fatalf("a delay of %s", delay)
		}
		delays[delay.Round(time.Millisecond)]++
	}
	if queue.waiting != maxWaitingPerWorker || len(delays) < 1000 {
		t.Errorf("%d wait, want %d; %d different delays", queue.waiting, maxWaitingPerWorker, len(delays))
	}
	if all := queue.removeWaiting(); len(all) != maxWaitingPerWorker || queue.waiting != 0 {
		t.Errorf("%d returned, %d waiting", len(all), queue.waiting)
	}
}

func eventOfHot(id string) string {
	return strings.Replace(natstest.EventOf(id), natstest.SessionOf(id), hotSession, 1)
}
