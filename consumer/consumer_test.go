package consumer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"settled/ledger/natstest"
	"settled/settlement"
)

func TestSettledIsAcknowledged(t *testing.T) {
	r := newRig(t, nil).start()
	seq := r.publish("1")
	res := r.result()
	if res.Disposition != Acked || res.Reason != "closed" || res.Outcome.Ref.Sequence != seq || res.Outcome.Ref.ID != "1" || res.Delivered != 1 || res.Err != nil || res.Published.IsZero() {
		t.Errorf("got %+v", res)
	}
	r.settledAll(seq)
	e := r.log.Events(t, "outcome settled")
	if len(e) != 1 || e[0]["level"] != "info" || e[0]["session"] != natstest.Session || e[0]["disposition"] != "ack" || e[0]["attempt"] != 1.0 {
		t.Errorf("log: %v", e)
	}
}

func TestFailedIsTerminated(t *testing.T) {
	r := newRig(t, nil)
	r.settler.do = func(context.Context, settlement.Outcome, int) (settlement.Settlement, error) {
		return settlement.Settlement{}, failedWith(settlement.ClosedElsewhere)
	}
	advisories := natstest.Must(r.js.Conn().SubscribeSync("$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.>"))
	r.start()
	seq := r.publish("1")
	if res := r.result(); res.Disposition != Terminated || res.Reason != "closed_elsewhere" {
		t.Errorf("got %+v", res)
	}
	advisory, err := advisories.NextMsg(natstest.Patience)
	if err != nil || !strings.Contains(string(advisory.Data), `"reason":"closed_elsewhere"`) {
		t.Errorf("advisory %v, %v: want the code as its reason", advisory, err)
	}
	r.settledAll(seq)
	if e := r.log.Events(t, "outcome failed"); len(e) != 1 || e[0]["level"] != "warn" {
		t.Errorf("log: %v", e)
	}
}

// Every result that decides nothing gives the message back, and it is delivered again.
func TestWaitingIsGivenBackUntilItEnds(t *testing.T) {
	r := newRig(t, nil)
	answers := []error{
		&settlement.Waiting{Reason: settlement.NodeUnavailable}, &settlement.Waiting{Reason: settlement.InDoubt, Delay: time.Millisecond},
		errors.New("nobody foresaw this"), context.Canceled, nil,
	}
	r.settler.do = func(_ context.Context, o settlement.Outcome, nth int) (settlement.Settlement, error) {
		if nth > len(answers) {
			return closedBy(o), nil
		}
		return settlement.Settlement{}, answers[nth-1] // the nil comes without an entry
	}
	r.start()
	seq := r.publish("1")
	for i, want := range []string{"node_away", "in_doubt", "error", "error", "unrecorded", "closed"} {
		res := r.result()
		if res.Reason != want || res.Delivered != uint64(i+1) {
			t.Errorf("delivery %d: %s (delivered %d), want %s", i+1, res.Reason, res.Delivered, want)
		}
		if give := res.Disposition == Returned; give != (want != "closed") || give && res.Delay <= 0 {
			t.Errorf("delivery %d: %s after %s", i+1, res.Disposition, res.Delay)
		}
	}
	r.settledAll(seq)
}

func TestAnUnavailableNodeIsLoggedOnce(t *testing.T) {
	r := newRig(t, nil)
	r.settler.do = func(_ context.Context, o settlement.Outcome, nth int) (settlement.Settlement, error) {
		if nth < 4 {
			return settlement.Settlement{}, &settlement.Waiting{Reason: settlement.NodeUnavailable, Err: errors.New("connection\r\nrefused")}
		}
		return closedBy(o), nil
	}
	r.start()
	r.settledAll(r.publish("1"))
	var levels []any
	for _, e := range r.log.Events(t, "outcome waits") {
		levels = append(levels, e["level"])
	}
	if fmt.Sprint(levels) != "[info debug debug]" {
		t.Errorf("levels %v, want one info and then debug", levels)
	}
}

func TestAPanicIsGivenBackAndLogged(t *testing.T) {
	r := newRig(t, nil)
	r.settler.do = func(_ context.Context, o settlement.Outcome, nth int) (settlement.Settlement, error) {
		if nth == 1 {
			panic("a bug in the settler")
		}
		return closedBy(o), nil
	}
	r.start()
	seq := r.publish("1")
	if res := r.result(); res.Disposition != Returned || res.Reason != "panic" || res.Delay <= 0 {
		t.Errorf("got %+v", res)
	}
	r.settledAll(seq)
	if n := r.c.Status().Panics; n != 1 {
		t.Errorf("%d panics counted, want 1", n)
	}
	if !strings.Contains(r.log.String(), "a bug in the settler") || !strings.Contains(r.log.String(), "stack") {
		t.Errorf("log:\n%s", r.log)
	}
}

// A message in progress for longer than the ack wait is not delivered again, and neither
// is one that waits for a worker for that long.
func TestProgressPreventsRedelivery(t *testing.T) {
	r := newRig(t, func(c *Config) { c.AckWait, c.Workers = 400*time.Millisecond, 2 })
	goOn := make(chan struct{})
	r.settler.do = func(_ context.Context, o settlement.Outcome, nth int) (settlement.Settlement, error) {
		<-goOn
		return closedBy(o), nil
	}
	r.start()
	var last uint64
	for i := range 3 {
		last = r.publish(fmt.Sprint(i))
	}
	r.until("two in hand, one waiting, and asking for more", func() bool {
		s := r.c.Status()
		return s.InHand == 2 && s.Waiting == 1 && r.durable().NumWaiting == 1
	})
	<-time.After(3 * r.cfg.AckWait) // what is tested is that nothing happens in this time
	if d := r.durable(); d.Delivered.Consumer != 3 {
		t.Errorf("delivered %d times, want 3", d.Delivered.Consumer)
	}
	close(goOn)
	r.settledAll(last)
	for seq := uint64(1); seq <= last; seq++ {
		if n := r.settler.count(seq); n != 1 {
			t.Errorf("sequence %d was settled %d times, want once", seq, n)
		}
	}
}

// A message without progress messages is delivered again: the test above can fail.
func TestWhatAnotherProcessDroppedIsDelivered(t *testing.T) {
	r := newRig(t, func(c *Config) { c.AckWait = 300 * time.Millisecond })
	_, _, err := EnsureDurable(t.Context(), r.js, r.cfg)
	if err != nil {
		t.Fatal(err)
	}
	seq := r.publish("1")
	other := natstest.Must(r.js.Consumer(t.Context(), "OUTCOMES", "settled"))
	natstest.Must(other.Next()) // taken, and never answered
	r.start()
	if res := r.result(); res.Delivered != 2 || res.Outcome.Ref.Sequence != seq {
		t.Errorf("got %+v, want the second delivery", res)
	}
	r.settledAll(seq)
}

// Messages that look like control messages of the protocol are outcomes too.
func TestNoMessageCanHide(t *testing.T) {
	r := newRig(t, nil)
	r.settler.do = func(_ context.Context, o settlement.Outcome, nth int) (settlement.Settlement, error) {
		if o.Invalid != nil {
			return settlement.Settlement{}, &settlement.Failed{Failure: *o.Invalid}
		}
		return closedBy(o), nil
	}
	r.start()
	for _, h := range []nats.Header{
		natstest.Header("Status", "100", "Description", "Idle Heartbeat"),
		natstest.Header("Status", "404"), natstest.Header("Status", "408"), natstest.Header("Status", "503"),
		natstest.Header("Status", "409", "Description", "Consumer Deleted"),
		natstest.Header("Status", "409", "Description", "Server Shutdown"),
		natstest.Header("Status", "100", "Nats-Consumer-Stalled", "outcome.cancellation"),
	} {
		r.publishMsg(&nats.Msg{Subject: "outcome.cancellation", Header: h})
		if res := r.result(); res.Disposition != Terminated || res.Reason != "invalid_outcome" || res.Delivered != 1 {
			t.Errorf("%v: %s %s, delivery %d", h, res.Disposition, res.Reason, res.Delivered)
		}
	}
	r.settledAll(r.publish("good"))
	if s := r.c.Status(); s.State != OK {
		t.Errorf("status %+v", s)
	}
}

func TestWorkersBoundWhatIsInHand(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Workers = 3 })
	goOn := make(chan struct{})
	r.settler.do = func(_ context.Context, o settlement.Outcome, nth int) (settlement.Settlement, error) {
		<-goOn
		return closedBy(o), nil
	}
	var last uint64
	for i := range 20 {
		last = r.publish(fmt.Sprint(i))
	}
	r.start()
	r.until("all workers busy", func() bool {
		s := r.c.Status()
		return s.InHand == 3 && s.Waiting == 3 && r.settler.mostAtOnce() == 3
	})
	if n := r.durable().NumAckPending; n != 6 {
		t.Errorf("%d messages taken, want 6: twice the workers", n)
	}
	close(goOn)
	r.settledAll(last)
	if most := r.settler.mostAtOnce(); most != 3 {
		t.Errorf("%d at once, want 3", most)
	}
}

// At most four times as many messages are in hand as can be in flight at the node, also when
// that changes.
func TestLimitBoundsWhatIsInHand(t *testing.T) {
	var limit atomic.Int64
	limit.Store(1)
	r := newRig(t, func(c *Config) { c.Workers, c.LimitFunc = 64, func() int { return int(limit.Load()) } })
	goOn := make(chan struct{})
	r.settler.do = func(_ context.Context, o settlement.Outcome, _ int) (settlement.Settlement, error) {
		<-goOn
		return closedBy(o), nil
	}
	var last uint64
	for i := range 40 {
		last = r.publish(fmt.Sprint(i))
	}
	r.start()
	for _, n := range []int64{1, 3} {
		limit.Store(n)
		r.until("all are in hand", func() bool { return int64(r.c.Status().InHand) == 4*n })
		if taken := r.durable().NumAckPending; int64(taken) != 4*n {
			t.Errorf("%d messages taken, want %d", taken, 4*n)
		}
	}
	close(goOn)
	r.settledAll(last)
}

// A stop finishes what is in progress, and returns the rest for other replicas at once.
func TestStop(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Workers = 2 })
	goOn := make(chan struct{})
	r.settler.do = func(ctx context.Context, o settlement.Outcome, nth int) (settlement.Settlement, error) {
		<-goOn
		return closedBy(o), ctx.Err()
	}
	for i := range 10 {
		r.publish(fmt.Sprint(i))
	}
	r.start()
	r.until("busy", func() bool { s := r.c.Status(); return s.InHand == 2 && s.Waiting == 2 })
	r.stop()
	next := natstest.Must(r.js.Consumer(t.Context(), "OUTCOMES", "settled"))
	others := 0 // 8: 6 that were never taken, and, long before the ack wait ends, 2 that were returned
	r.until("what is not started is there for others", func() bool {
		batch := natstest.Must(next.FetchNoWait(10))
		for range batch.Messages() {
			others++
		}
		return others == 8
	})
	close(goOn)
	if err := r.end(); err != nil {
		t.Errorf("Run: %v", err)
	}
	for range 2 {
		if res := r.result(); res.Disposition != Acked {
			t.Errorf("in hand at the stop: %+v, want it finished", res)
		}
	}
	if s := r.c.Status(); s.Err() == nil {
		t.Errorf("status %+v after the end", s)
	}
}

// A call of Settle that doesn't end by itself is cancelled, and its message is returned
// without delay.
func TestCutShort(t *testing.T) {
	r := newRig(t, nil)
	r.settler.do = func(ctx context.Context, o settlement.Outcome, nth int) (settlement.Settlement, error) {
		<-ctx.Done()
		return settlement.Settlement{}, &settlement.Waiting{Reason: settlement.NodeUnavailable, Delay: time.Hour, Err: ctx.Err()}
	}
	if _, _, err := EnsureDurable(t.Context(), r.js, r.cfg); err != nil {
		t.Fatal(err)
	}
	c := natstest.Must(New(r.js, r.settler, r.cfg))
	stopped, cancel := context.WithCancelCause(context.Background())
	seq := r.publish("1")
	msg, meta := r.takeOne()
	d := &delivery{msg: msg, meta: meta}
	d.parse("", nil)
	cancel(errStopping)
	c.process(stopped, d)
	if res := r.result(); res.Disposition != Returned || res.Reason != "stopping" || res.Delay != 0 {
		t.Errorf("got %+v", res)
	}
	r.settler.do = nil
	r.start()
	if res := r.result(); res.Disposition != Acked || res.Delivered != 2 {
		t.Errorf("got %+v", res)
	}
	r.settledAll(seq)
}

// takeOne fetches one message of the durable without a Consumer.
func (r *rig) takeOne() (*nats.Msg, *nats.MsgMetadata) {
	r.t.Helper()
	p := natstest.Must(openPull(r.js, r.cfg.Prefix, "settled", 1))
	defer p.abandon()
	natstest.OK(r.t, p.request(1))
	select {
	case msg := <-p.received:
		meta, err := msg.Metadata()
		if err != nil {
			r.t.Fatalf("no outcome: %+v", msg)
		}
		return msg, meta
	case <-time.After(natstest.Patience):
		r.t.Fatal("nothing came")
		return nil, nil
	}
}

// readiness is a node's readiness that a test turns on and off.
type readiness struct {
	state atomic.Pointer[readyState]
}

type readyState struct {
	err     error
	changed chan struct{}
}

func (n *readiness) set(err error) {
	if was := n.state.Swap(&readyState{err, make(chan struct{})}); was != nil {
		close(was.changed)
	}
}

func (n *readiness) Ready() error             { return n.state.Load().err }
func (n *readiness) Changed() <-chan struct{} { return n.state.Load().changed }

func TestPauseAndResume(t *testing.T) {
	var node readiness
	node.set(errors.New("signed out"))
	r := newRig(t, func(c *Config) { c.Workers, c.Ready, c.Changed = 1, node.Ready, node.Changed })
	goOn := make(chan struct{}, 10)
	r.settler.do = func(_ context.Context, o settlement.Outcome, nth int) (settlement.Settlement, error) {
		<-goOn
		return closedBy(o), nil
	}
	first, second := r.publish("1"), r.publish("2")
	r.start()
	r.until("paused", func() bool { s := r.c.Status(); return s.State == OK && s.Paused && s.PausedWhy == "signed out" })
	if d := r.durable(); d.NumAckPending != 0 || d.NumWaiting != 0 || d.Delivered.Consumer != 0 {
		t.Errorf("fetched while paused: %+v", d)
	}
	node.set(nil)
	r.until("one in hand, one waiting", func() bool { s := r.c.Status(); return !s.Paused && s.InHand == 1 && s.Waiting == 1 })

	node.set(errors.New("away"))
	r.until("what was not started is returned, and nothing is asked for", func() bool {
		s := r.c.Status()
		return s.Paused && s.InHand == 1 && s.Waiting == 0 && r.durable().NumWaiting == 0
	})
	third := r.publish("3")
	goOn <- struct{}{} // what is in hand goes on
	if res := r.result(); res.Disposition != Acked || res.Outcome.Ref.Sequence != first {
		t.Errorf("in hand: %+v", res)
	}
	if n := r.settler.count(second) + r.settler.count(third); n != 0 {
		t.Errorf("%d settled while paused", n)
	}
	node.set(nil)
	close(goOn)
	r.settledAll(third)
	for seq, want := range map[uint64]int{first: 1, second: 1, third: 1} {
		if n := r.settler.count(seq); n != want {
			t.Errorf("sequence %d settled %d times, want %d", seq, n, want)
		}
	}
}

func TestADeletedDurableIsRecreated(t *testing.T) {
	r := newRig(t, nil)
	r.start()
	r.settledAll(r.publish("1"))
	natstest.OK(t, r.js.DeleteConsumer(t.Context(), "OUTCOMES", "settled"))
	seq := r.publish("2")
	r.settledAll(seq)
	r.until("ok again", func() bool { return r.c.Status().State == OK })
	if !strings.Contains(r.log.String(), "was deleted and created again") {
		t.Errorf("not logged; log:\n%s", r.log)
	}
	if n := r.settler.count(1); n != 2 {
		t.Errorf("the first outcome was settled %d times, want 2: the new durable begins at the beginning", n)
	}
}

// An answer to a message of a stream that was deleted must not reach a message of its
// successor.
func TestADeletedStreamIsRecreatedAndOldAnswersWithheld(t *testing.T) {
	deletedWithAMessageInHand(t, func(*rig) {})
}

// The same if the stream was empty at each check: only the message itself shows that the
// stream had one.
func TestADeletedStreamWasEmptyWhenItWasLookedAt(t *testing.T) {
	deletedWithAMessageInHand(t, func(r *rig) {
		r.until("checked", func() bool { return r.c.Status().Err() == nil })
	})
}

func deletedWithAMessageInHand(t *testing.T, before func(*rig)) {
	r := newRig(t, nil)
	goOn := make(chan struct{})
	r.settler.do = func(_ context.Context, o settlement.Outcome, nth int) (settlement.Settlement, error) {
		if o.Ref.ID == "old" {
			<-goOn
		}
		return closedBy(o), nil
	}
	r.start()
	before(r)
	old := r.publish("old")
	r.until("in hand", func() bool { return r.c.Status().InHand == 1 })
	natstest.OK(t, r.js.DeleteStream(t.Context(), "OUTCOMES"))
	r.until("said so", func() bool { return r.c.Status().Err() != nil })
	r.until("created again", func() bool { return r.durable() != nil && r.c.Status().Err() == nil })
	fresh := r.publish("fresh")
	if fresh < old+sequenceGap {
		t.Errorf("the new stream begins at %d, want it well beyond %d", fresh, old)
	}
	if res := r.result(); res.Outcome.Ref.ID != "fresh" || res.Disposition != Acked {
		t.Errorf("got %+v", res)
	}
	close(goOn)
	if res := r.result(); res.Outcome.Ref.ID != "old" || res.Disposition != Abandoned {
		t.Errorf("got %+v, want its answer withheld", res)
	}
	r.settledAll(fresh)
}

func TestADeletedStreamIsNotRecreatedWithoutPermission(t *testing.T) {
	r := newRig(t, nil)
	if _, _, err := EnsureDurable(t.Context(), r.js, r.cfg); err != nil {
		t.Fatal(err)
	}
	r.cfg.ManageStreams = false
	r.start()
	r.settledAll(r.publish("1"))
	natstest.OK(t, r.js.DeleteStream(t.Context(), "OUTCOMES"))
	r.until("said what to do", func() bool {
		err := r.c.Status().Err()
		return err != nil && strings.Contains(err.Error(), "nats stream add OUTCOMES")
	})
	if r.durable() != nil {
		t.Error("created again")
	}
	r.cfg.ManageStreams = true // someone makes it
	ensureAgain(t, r.js, r.cfg)
	r.until("said that the durable is missing too", func() bool {
		err := r.c.Status().Err()
		return err != nil && strings.Contains(err.Error(), "nats consumer add OUTCOMES settled")
	})
	if _, _, err := EnsureDurable(t.Context(), r.js, r.cfg); err != nil {
		t.Fatal(err)
	}
	r.settledAll(r.publish("2"))
}

func TestTwoConsumersShareTheWork(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Workers = 2 })
	other := natstest.Must(New(natstest.Connect(t, r.server), r.settler, r.cfg))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- other.Run(ctx) }()
	r.start()
	var last uint64
	for i := range 200 {
		last = r.publish(fmt.Sprint(i))
	}
	r.settledAll(last)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for seq := uint64(1); seq <= last; seq++ {
		if n := r.settler.count(seq); n != 1 {
			t.Errorf("sequence %d settled %d times, want once", seq, n)
		}
	}
}

func TestPrefix(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Prefix, c.Durable = "prod.eu.", "mine" }).start()
	seq := r.publish("1")
	res := r.result()
	if ref := res.Outcome.Ref; res.Disposition != Acked || ref.Stream != "PROD_EU_OUTCOMES" || res.Outcome.Envelope.Subject != "outcome.cancellation" {
		t.Errorf("got %+v", res)
	}
	r.settledAll(seq)
}

func TestRunRefusesADangerousDurable(t *testing.T) {
	r := newRig(t, nil)
	bad := DurableConfig(r.cfg)
	bad.MaxDeliver = 5
	natstest.Must(r.js.CreateConsumer(t.Context(), "OUTCOMES", bad))
	c := natstest.Must(New(r.js, r.settler, r.cfg))
	var refused *RefusedError
	if err := c.Run(t.Context()); !errors.As(err, &refused) || !strings.Contains(err.Error(), "max_deliver 5") {
		t.Errorf("got %v", err)
	}
}

func TestRunEndsWithAClosedConnection(t *testing.T) {
	r := newRig(t, nil).start()
	r.settledAll(r.publish("1"))
	r.js.Conn().Close()
	select {
	case err := <-r.ended:
		r.ended <- nil
		if !errors.Is(err, ErrClosed) {
			t.Errorf("got %v", err)
		}
	case <-time.After(natstest.Patience):
		t.Fatal("Run goes on")
	}
}

func TestConfigValidate(t *testing.T) {
	if err := (Config{}).Validate(); err != nil {
		t.Errorf("all zero: %v", err)
	}
	for name, c := range map[string]Config{
		"nats.prefix":              {Prefix: "prod"},
		`nats.prefix "prod.*."`:    {Prefix: "prod.*."},
		"nats.replicas":            {Replicas: 6},
		"consumer.durable":         {Durable: "a.b"},
		"consumer.workers":         {Workers: -1},
		"consumer.workers 99":      {Workers: 99999},
		"consumer.ack_wait":        {AckWait: -1},
		"consumer.backoff.initial": {BackoffInitial: -1},
		"consumer.backoff.max":     {BackoffInitial: time.Hour, BackoffMax: time.Minute},
	} {
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%+v: %v, want %q named", c, err, name)
		}
	}
}

// After a restart of the server everything continues with the same durable, which does not
// count as created again.
func TestAServerThatRestarts(t *testing.T) {
	r := newRig(t, func(c *Config) { c.AckWait = 500 * time.Millisecond })
	goOn := make(chan struct{})
	r.settler.do = func(_ context.Context, o settlement.Outcome, nth int) (settlement.Settlement, error) {
		if o.Ref.ID == "held" {
			<-goOn
		}
		return closedBy(o), nil
	}
	r.start()
	r.settledAll(r.publish("1"))
	r.publish("held")
	r.until("in hand", func() bool { return r.c.Status().InHand == 1 })
	r.restart()
	close(goOn)
	r.until("back", func() bool { return r.js.Conn().IsConnected() })
	var last uint64
	r.until("published", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		ack, err := r.js.Publish(ctx, "outcome.cancellation", []byte(natstest.EventOf("2")))
		if err == nil {
			last = ack.Sequence
		}
		return err == nil
	})
	r.settledAll(last)
	r.until("ok", func() bool { return r.c.Status().State == OK })
	if strings.Contains(r.log.String(), "was deleted and created again") {
		t.Errorf("counts as created again; log:\n%s", r.log)
	}
}

// A message gets one answer, and no progress message after it, which would cancel its
// delay.
func TestOneAnswerAndNothingAfter(t *testing.T) {
	nc := natstest.Connect(t, natstest.StartServer(t)).Conn()
	sub := natstest.Must(nc.SubscribeSync("answers"))
	ds := &deliveries{nc: nc, open: map[*delivery]struct{}{}}
	d := &delivery{msg: &nats.Msg{Reply: "answers"}}
	ds.add(d)
	ds.sendProgress()
	if err := ds.answer(d, Verdict{Disposition: Returned, Delay: 1500 * time.Millisecond}); err != nil {
		t.Error(err)
	}
	ds.add(d) // as if it was answered after the open ones were listed
	ds.sendProgress()
	if err := ds.answer(d, Verdict{Disposition: Terminated}); err == nil {
		t.Error("answered twice")
	}
	natstest.OK(t, nc.Publish("answers", []byte("end")))
	var got []string
	for len(got) == 0 || got[len(got)-1] != "end" {
		msg := natstest.Must(sub.NextMsg(natstest.Patience))
		got = append(got, string(msg.Data))
	}
	if want := []string{"+WPI", `-NAK {"delay": 1500000000}`, "end"}; !slices.Equal(got, want) || len(ds.open) != 0 {
		t.Errorf("got %q, want %q; still open: %d", got, want, len(ds.open))
	}
}

// A panic while a message is parsed ends as one of Settle does: the message is returned.
func TestAPanicWhileParsingLosesNothing(t *testing.T) {
	var calls atomic.Int32
	r := newRig(t, func(c *Config) {
		c.TrustFunc = func(settlement.Outcome) *settlement.Failure {
			if calls.Add(1) == 1 {
				panic("a bug in the parser")
			}
			return nil
		}
	})
	r.start()
	seq := r.publish("1")
	if res := r.result(); res.Disposition != Returned || res.Reason != ReasonPanic || res.Outcome.Ref.Sequence != seq || r.settler.count(seq) != 0 {
		t.Errorf("got %+v", res)
	}
	if res := r.result(); res.Disposition != Acked || res.Outcome.Ref.Sequence != seq {
		t.Errorf("delivered again: %+v", res)
	}
	if n := r.c.Status().Panics; n != 1 {
		t.Errorf("%d panics counted, want 1", n)
	}
}
