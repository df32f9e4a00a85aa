package settlement

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// countedPermits counts the permits that are held. It returns each time waited in turn.
type countedPermits struct {
	slots    chan struct{}
	waits    []time.Duration
	acquired int
}

func newPermits(n int) *countedPermits { return &countedPermits{slots: make(chan struct{}, n)} }

func (p *countedPermits) Acquire(ctx context.Context) (release func(), waited time.Duration, err error) {
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, 0, context.Cause(ctx)
	}
	if p.acquired < len(p.waits) {
		waited = p.waits[p.acquired]
	}
	p.acquired++
	return func() { <-p.slots }, waited, nil
}

// deafNode never answers a request. With its ledger it may be used by many calls.
type deafNode struct {
	w  *world
	mu sync.Mutex

	intents map[SessionID]Entry
}

func (n *deafNode) Session(_ context.Context, id SessionID, options ReadOptions) (Session, error) {
	s := n.w.shown(options)
	s.ID = id
	return s, nil
}

func (n *deafNode) Prepare(context.Context, Outcome, Plan, Session) (Request, error) {
	return Request{ValidUntil: n.w.now.Add(validity), Closes: true}, nil
}

func (n *deafNode) Send(ctx context.Context, _ Request) (Answer, error) {
	<-ctx.Done()
	return Answer{}, context.Cause(ctx)
}

func (n *deafNode) Head(_ context.Context, id SessionID) (Head, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return Head{Session: id}, nil
}

func (n *deafNode) Append(_ context.Context, h Head, e Entry) (Head, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.intents[e.Session] = e
	return Head{Session: h.Session, Last: &e, Entries: []Entry{e}}, nil
}

// However many outcomes are settled at once, as many have an intent as there are permits. A
// process that is killed leaves no more of them in doubt.
func TestPermitsBoundIntents(t *testing.T) {
	const permits, outcomes = 3, 50
	w := newWorld(t)
	o := w.partial(1)
	synctest.Test(t, func(t *testing.T) {
		n := &deafNode{w: w, intents: map[SessionID]Entry{}}
		s := w.settler()
		s.Node, s.Ledger, s.Permits = n, n, newPermits(permits)
		ctx, cancel := context.WithCancel(t.Context())
		var settling sync.WaitGroup
		for i := range outcomes {
			o := o
			o.Session = SessionID(fmt.Sprintf("0x%064x", i+1))
			settling.Go(func() {
				_, err := s.Settle(ctx, o)
				var waiting *Waiting
				if !errors.As(err, &waiting) {
					t.Errorf("Settle returns %v", err)
				}
			})
		}
		synctest.Wait()
		if len(n.intents) != permits {
			t.Errorf("%d intents are recorded, want %d", len(n.intents), permits)
		}
		cancel()
		settling.Wait()
	})
}

// heldPermits is a node that checks that a permit is held while a request is made and sent.
type heldPermits struct {
	*world
	permits *countedPermits
}

func (n heldPermits) Prepare(ctx context.Context, o Outcome, plan Plan, s Session) (Request, error) {
	n.want("prepared")
	return n.world.Prepare(ctx, o, plan, s)
}

func (n heldPermits) Send(ctx context.Context, r Request) (Answer, error) {
	n.want("sent")
	return n.world.Send(ctx, r)
}

func (n heldPermits) want(what string) {
	if len(n.permits.slots) != 1 {
		n.t.Errorf("a request is %s with %d permits", what, len(n.permits.slots))
	}
}

// A permit is held while a request is made, recorded and sent, and given back whatever happens.
func TestPermitIsGivenBack(t *testing.T) {
	for _, k := range kinds {
		for _, f := range []fate{works, failed, failedButDone, crashBefore, crashAfter} {
			for op := 1; op <= 12; op++ {
				w, p := newWorldOf(t, k), newPermits(2)
				w.permits = p
				w.fault = func(at int, name string) fate {
					if name == "append closed" && len(p.slots) > 0 {
						t.Error("the permit is held after the answer")
					}
					if at == op {
						return f
					}
					return works
				}
				o := w.partial(1)
				for range 100 {
					_, err := w.deliverTo(heldPermits{w, p}, o)
					if len(p.slots) != 0 {
						t.Fatalf("%s, operation %d %v: %d permits are held after the call", k, op, f, len(p.slots))
					}
					if err == nil {
						break
					}
					w.now = w.now.Add(time.Minute)
				}
				if !strings.HasSuffix(w.states(), "closed ") {
					t.Errorf("%s, operation %d %v: %s", k, op, f, w.states())
				}
			}
		}
	}
}

// After a long wait for a permit the session is read again, once.
func TestLongWaitForAPermit(t *testing.T) {
	for waited, reads := range map[time.Duration]int{time.Second: 1, time.Second + 1: 2, time.Hour: 2} {
		w, p := newWorld(t), newPermits(1)
		p.waits = slices.Repeat([]time.Duration{waited}, 5)
		w.permits = p
		w.settled(w.partial(1))
		if len(w.looks) != reads || p.acquired != 1 {
			t.Errorf("after %s: %d reads and %d permits, want %d and 1", waited, len(w.looks), p.acquired, reads)
		}
	}
}

// After a long wait of any call the next ones take their permit before they read the session,
// so that no read is repeated.
func TestPermitBeforeRead(t *testing.T) {
	w := newWorld(t)
	s := w.settler()
	for i, step := range []struct {
		waits time.Duration
		reads int
	}{{0, 1}, {time.Hour, 2}, {time.Hour, 1}, {time.Hour, 1}, {0, 1}, {time.Hour, 2}} {
		w, p := newWorld(t), newPermits(1)
		p.waits = []time.Duration{step.waits}
		s.Node, s.Ledger, s.DeadLetters, s.EmergencyStop, s.Permits = w, w, w, w, p
		if _, err := s.Settle(t.Context(), w.partial(1)); err != nil {
			t.Fatal(err)
		}
		if len(w.looks) != step.reads || p.acquired != 1 {
			t.Errorf("call %d: %d reads and %d permits, want %d and 1", i, len(w.looks), p.acquired, step.reads)
		}
	}
}

// Without a permit nothing is made or recorded.
func TestNoPermit(t *testing.T) {
	w, p := newWorld(t), newPermits(0)
	w.permits = p
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := w.settler().Settle(ctx, w.partial(1))
	wantReason(t, err, NotReady)
	if len(w.entries)+len(w.requests) != 0 {
		t.Errorf("entries %s, %d requests", w.states(), len(w.requests))
	}
}
