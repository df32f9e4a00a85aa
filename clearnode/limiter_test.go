package clearnode

import (
	"context"
	"errors"
	"testing"
	"time"
)

// limitedNode carries out a fixed number of requests at a time; others queue. It has a clock
// of its own, and more requests wait than it can ever serve.
type limitedNode struct {
	t       *testing.T
	l       *limiter
	now     time.Time
	service time.Duration
	network time.Duration // of a request and its answer
	free    []time.Time   // when each place is free
	flights []limitedFlight
	idle    time.Duration // of all places together
}

type limitedFlight struct {
	epoch         uint64
	sent, arrives time.Time
}

func newLimitedNode(t *testing.T, l *limiter, capacity int) *limitedNode {
	n := &limitedNode{t: t, l: l, now: time.Unix(1_800_000_000, 0), service: 5 * time.Millisecond}
	n.setCapacity(capacity)
	return n
}

func (n *limitedNode) setCapacity(capacity int) {
	n.free = make([]time.Time, capacity)
	for i := range n.free {
		n.free[i] = n.now
	}
}

// run sends as many requests as there are permits for, for so long.
func (n *limitedNode) run(d time.Duration) {
	n.t.Helper()
	n.idle = 0
	for end := n.now.Add(d); n.now.Before(end); {
		for n.l.inFlight < n.l.allowed() {
			if err := n.l.acquire(n.t.Context()); err != nil {
				n.t.Fatal(err)
			}
			n.send()
		}
		f := n.flights[0] // answers come in the order of the requests
		n.flights = n.flights[1:]
		n.now = f.arrives
		n.l.answered(f.epoch, n.now.Sub(f.sent), n.now)
		n.l.release()
		if n.l.limit < n.l.min || n.l.limit > n.l.max {
			n.t.Fatalf("the limit is %d", n.l.limit)
		}
	}
}

func (n *limitedNode) send() {
	at := 0
	for i, free := range n.free {
		if free.Before(n.free[at]) {
			at = i
		}
	}
	begins := n.now.Add(n.network / 2)
	if begins.After(n.free[at]) {
		n.idle += begins.Sub(n.free[at])
	} else {
		begins = n.free[at]
	}
	n.free[at] = begins.Add(n.service)
	n.flights = append(n.flights, limitedFlight{n.l.begin(), n.now, n.free[at].Add(n.network / 2)})
}

// wantLimit checks that the node is kept busy, and that few requests queue there.
func (n *limitedNode) wantLimit(needed int) {
	n.t.Helper()
	n.run(100 * time.Second)
	if most := needed*4/3 + 4; n.l.limit < needed || n.l.limit > most {
		n.t.Errorf("the limit is %d, want %d to %d", n.l.limit, needed, most)
	}
	if part := n.idle.Seconds() / 100 / float64(len(n.free)); part > 0.1 {
		n.t.Errorf("the node is idle for %.0f %% of the time", 100*part)
	}
}

// The limit adapts to what the node can do at a time, from the start and when that changes.
func TestLimitFollowsCapacity(t *testing.T) {
	for _, capacity := range []int{1, 2, 3, 4, 8, 14} {
		newLimitedNode(t, newLimiter(1, 32), capacity).wantLimit(capacity)
	}
	n := newLimitedNode(t, newLimiter(1, 32), 12)
	n.wantLimit(12)
	n.setCapacity(2)
	n.wantLimit(2)
	n.setCapacity(8)
	n.wantLimit(8)
	n.service *= 4 // the baseline has to be measured again, and soon
	n.run(5 * time.Second)
	if n.l.limit < 8 {
		t.Errorf("the limit is %d because the node became slower for other reasons", n.l.limit)
	}
	n.wantLimit(8)
	n.service /= 8
	n.wantLimit(8)
}

// With a long way to the node more requests have to be in flight than it handles at a time.
func TestLimitOfAFarNode(t *testing.T) {
	n := newLimitedNode(t, newLimiter(1, 32), 2)
	n.network = 45 * time.Millisecond
	n.wantLimit(20)
}

func TestLimitBounds(t *testing.T) {
	for _, bounds := range [][2]int{{1, 3}, {5, 9}, {7, 7}} {
		l := newLimiter(bounds[0], bounds[1])
		newLimitedNode(t, l, 100).run(10 * time.Second)
		if l.limit != l.max {
			t.Errorf("%v: the limit is %d at a node without one", bounds, l.limit)
		}
	}
}

// One incident, in which many answers are lost, halves the limit once.
func TestLostAnswersHalveTheLimit(t *testing.T) {
	l := newLimiter(3, 32)
	l.limit = 32
	for _, want := range []int{16, 8, 4, 3, 3} {
		epoch := l.begin()
		for range 8 {
			l.lost(epoch)
		}
		l.answered(epoch, time.Millisecond, time.Unix(0, 0))
		if l.limit != want || l.answers != 0 {
			t.Errorf("the limit is %d, and %d earlier answers count: want %d and none", l.limit, l.answers, want)
		}
	}
}

// Requests that are not waited for do not raise the limit.
func TestUnusedLimitStays(t *testing.T) {
	l := newLimiter(1, 8)
	l.limit = 4
	for i := range 1000 {
		if err := l.acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		l.answered(l.begin(), 5*time.Millisecond, time.Unix(int64(i), 0))
		l.release()
	}
	if l.limit != 4 {
		t.Errorf("the limit is %d", l.limit)
	}
}

// Permits are granted in order; who gives up waiting gets none.
func TestPermitsInOrder(t *testing.T) {
	l := newLimiter(1, 1)
	if err := l.acquire(t.Context()); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancelCause(t.Context())
	cancel(errNoPermit)
	if err := l.acquire(ended); !errors.Is(err, errNoPermit) {
		t.Errorf("without a permit: %v", err)
	}
	granted := make(chan int)
	for i := range 3 {
		go func() {
			if err := l.acquire(t.Context()); err == nil {
				granted <- i
			}
		}()
		for queue := 0; queue != i+1; {
			_, _, queue = l.load()
		}
	}
	for i := range 3 {
		l.release()
		if got := <-granted; got != i {
			t.Errorf("number %d is granted as number %d", got, i)
		}
	}
	l.release()
	if limit, inFlight, queue := l.load(); limit != 1 || inFlight != 0 || queue != 0 {
		t.Errorf("limit %d, %d in flight, %d wait", limit, inFlight, queue)
	}
}
