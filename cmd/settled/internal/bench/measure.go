package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"settled/consumer"
	"settled/ledger"
	"settled/settlement"
)

// The arms; see the package's comment.
const (
	armRaw      = "raw"
	armRawReads = "raw_reads"
	armBare     = "bare"
	armSettled  = "settled"
	armScript   = "script"
)

// measurement is one arm in one kind of loop.
type measurement struct {
	Arm  string `json:"arm"`
	Open bool   `json:"open_loop"`
}

func (o *Options) measurements() []measurement {
	all := []measurement{{Arm: armRaw}, {Arm: armRawReads}, {Arm: armBare}, {Arm: armSettled}, {Arm: armScript}}
	if o.OpenLoop > 0 {
		all = append(all, measurement{armRawReads, true}, measurement{armSettled, true})
	}
	return all
}

// settlements is how many are measured. The script is slower by the number of connections.
func (m measurement) settlements(o *Options) int {
	switch {
	case m.Open:
		return max(1, int(o.Rate*o.OpenLoop.Seconds()))
	case m.Arm == armScript:
		return max(1, o.Settlements/o.Connections)
	}
	return o.Settlements
}

// sessions is how many are needed.
func (m measurement) sessions(o *Options) int {
	n := m.settlements(o)
	return n + warmUp(n)
}

// connections is how many the arm uses.
func (m measurement) connections(o *Options) int {
	if m.Arm == armScript {
		return 1
	}
	return o.Connections
}

// Run measures all rounds, and prints the result. Its error names a wrong or missing payout.
func Run(ctx context.Context, o Options) error {
	if err := o.prepare(); err != nil {
		return err
	}
	report, used := newReport(&o), 0
	for round := range o.Rounds {
		all := o.measurements()
		for i := range all {
			m := all[(i+round)%len(all)] // no arm is always the first
			e := &environment{o: &o}
			if o.Node != "" {
				e.sessions = o.given.Sessions[used : used+m.sessions(&o)]
				used += len(e.sessions)
			}
			c, err := e.measure(ctx, m, round+1)
			e.close()
			if ctx.Err() != nil {
				return errors.New("interrupted; no process and no file is left behind")
			}
			if err != nil {
				return fmt.Errorf("round %d, %s: %w", round+1, m.Arm, err)
			}
			report.Cells = append(report.Cells, c)
			_, _ = fmt.Fprintln(o.Err, c.line())
		}
	}
	report.compare()
	if o.Plot != "" {
		if err := report.plot(o.Plot); err != nil {
			return fmt.Errorf("--plot: %w", err)
		}
	}
	return o.Print(report, report.text())
}

// measure measures one arm once.
func (e *environment) measure(ctx context.Context, m measurement, round int) (c cell, err error) {
	if err := e.open(ctx, m); err != nil {
		return c, err
	}
	settle, workers, err := e.target(m)
	if err != nil {
		return c, err
	}
	count, warm := m.settlements(e.o), warmUp(m.settlements(e.o))
	if err := closedLoop(ctx, workers, warm, settle); err != nil {
		return c, e.explain(ctx, err)
	}
	before, err := e.snapshot(ctx)
	if err != nil {
		return c, err
	}
	times, began := make([]record, count), time.Now()
	progress, done := e.o.Progress(fmt.Sprintf("round %d of %d, %s", round, e.o.Rounds, m.Arm)), atomic.Uint64{}
	defer progress.Clear()
	var third snapshot // when a third is done: until then a node that limits the rate allows a burst
	timed := func(ctx context.Context, i int) (err error) {
		if err := settle(ctx, warm+i); err != nil {
			return err
		}
		times[i].closed = time.Now()
		n := done.Add(1)
		progress.Update(n, uint64(count), "")             // #nosec G115 -- not negative
		if n == uint64(count/3) && e.o.frameLimit() > 0 { // #nosec G115 -- not negative
			third, err = e.snapshot(ctx)
		}
		return err
	}
	if m.Open {
		err = openLoop(ctx, e.o.Rate, times, timed)
	} else {
		err = closedLoop(ctx, workers, count, timed)
	}
	took := time.Since(began)
	if err == nil && e.js != nil {
		err = e.waitAcknowledged(ctx)
	}
	if err != nil {
		return c, e.explain(ctx, err)
	}
	after, err := e.snapshot(ctx)
	if err != nil {
		return c, err
	}
	c = newCell(m, round, count, time.Since(began), before, after)
	if sent := after.requests() - third.requests(); third.cpu != nil && !m.Open {
		c.Share = sent / began.Add(took).Sub(third.at).Seconds() / (e.o.frameLimit() * float64(m.connections(e.o)))
	}
	if e.js != nil {
		if took, err = e.readResults(ctx, times, warm); err != nil {
			return c, err
		}
	}
	c.Seconds, c.PerSecond = took.Seconds(), float64(count)/took.Seconds()
	c.addTimes(times)
	return c, e.checkNode(ctx)
}

// target returns the function by which the arm settles a session, and by how many workers.
func (e *environment) target(m measurement) (settleFunc, int, error) {
	if e.js != nil {
		p, err := newPublisher(e)
		return p.settle, e.o.InFlight, err
	}
	workers := len(e.conns) * outstanding
	if m.Arm == armScript {
		workers = 1
	}
	return func(ctx context.Context, i int) error {
		c := e.conns[i%len(e.conns)]
		if m.Arm == armRawReads {
			if _, err := c.readSession(ctx, e.sessions[i]); err != nil {
				return err
			}
		}
		_, err := c.closeSession(ctx, e.sessions[i])
		return err
	}, workers, nil
}

// settleFunc settles a session and returns when that is done.
type settleFunc func(ctx context.Context, index int) error

// closedLoop settles sessions by so many workers, each one after the other.
func closedLoop(ctx context.Context, workers, sessions int, settle settleFunc) error {
	group, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range min(workers, sessions) {
		group.Go(func() error {
			for i := int(next.Add(1)) - 1; i < sessions; i = int(next.Add(1)) - 1 {
				if err := settle(ctx, i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// openLoop begins to settle a session at fixed intervals, however long those before it take.
// It sets the instant at which each was due.
func openLoop(ctx context.Context, perSecond float64, times []record, settle settleFunc) error {
	group, ctx := errgroup.WithContext(ctx)
	began := time.Now()
	for i := range times {
		times[i].due = began.Add(time.Duration(float64(i) / perSecond * float64(time.Second)))
		if !sleep(ctx, time.Until(times[i].due)) {
			break
		}
		group.Go(func() error { return settle(ctx, i) })
	}
	return group.Wait()
}

// sleep waits, and reports whether ctx is still alive.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// publisher publishes outcomes and waits for their results. It learns of them by a
// subscription, which only sets the pace: what is reported is read from the stream.
type publisher struct {
	*environment
	mu      sync.Mutex
	waiting map[string]chan error // by session
	last    time.Time             // when the last result came
}

func newPublisher(e *environment) (*publisher, error) {
	p := &publisher{environment: e, waiting: map[string]chan error{}}
	for _, state := range []settlement.EntryState{settlement.EntryClosed, settlement.EntryFailed} {
		_, err := e.js.Conn().Subscribe(ledger.Subject(e.prefix, state, "*"), func(m *nats.Msg) {
			var failed error
			if state == settlement.EntryFailed {
				failed = failureOf(m.Data)
			}
			p.handleResult(m.Subject[strings.LastIndexByte(m.Subject, '.')+1:], failed)
		})
		if err != nil {
			return p, err
		}
	}
	return p, e.js.Conn().Flush()
}

func (p *publisher) handleResult(session string, failed error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = time.Now()
	if result := p.waiting[session]; result != nil {
		delete(p.waiting, session)
		result <- failed
	}
}

// stallTimeout is how long there may be no result at all.
const stallTimeout = time.Minute

// scenario is that of all outcomes: the provider gets everything.
const scenario = "payment_completed"

func (p *publisher) settle(ctx context.Context, i int) error {
	s, result := p.sessions[i], make(chan error, 1)
	event, err := json.Marshal(map[string]any{
		"specversion": "1.0", "id": fmt.Sprint(i), "source": "/settled/bench", "type": "outcome." + scenario, "time": time.Now().UTC().Format(time.RFC3339Nano), "data": s.Outcome,
	})
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.waiting[s.ID.Token()], p.last = result, time.Now()
	p.mu.Unlock()
	m := nats.NewMsg(consumer.OutcomeSubject(p.prefix, scenario))
	m.Header.Set("Content-Type", "application/cloudevents+json")
	m.Data = event
	if _, err := p.js.PublishMsg(ctx, m); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	check := time.NewTicker(time.Second)
	defer check.Stop()
	for {
		select {
		case err := <-result:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-check.C:
			p.mu.Lock()
			silent := time.Since(p.last)
			p.mu.Unlock()
			if silent > stallTimeout {
				return fmt.Errorf("WRONG RESULT: the outcome of session %s has none, and no outcome has had one for %s", s.ID, stallTimeout)
			}
		}
	}
}

// waitAcknowledged waits until every outcome is acknowledged.
func (e *environment) waitAcknowledged(ctx context.Context) error {
	durable, err := e.js.Consumer(ctx, consumer.OutcomesStream(e.prefix), "settled")
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(stallTimeout); time.Now().Before(deadline); {
		info, err := durable.Info(ctx)
		if err != nil {
			return err
		}
		if info.NumPending == 0 && info.NumAckPending == 0 {
			return nil
		}
		sleep(ctx, 5*time.Millisecond)
	}
	return fmt.Errorf("some outcomes have a result, and are not acknowledged after %s", stallTimeout)
}
