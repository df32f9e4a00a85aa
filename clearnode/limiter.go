package clearnode

import (
	"context"
	"slices"
	"sync"
	"time"
)

const (
	minWindow       = 10               // answers after which the limit may change, or as many as the limit if that is more
	baselineRefresh = 30 * time.Second // how long a baseline counts
	baselineWindows = 10               // in how many windows it can lower the limit
)

// limiter is how many requests that move money may be in flight: a permit is taken for each.
// Between two bounds the limit adapts to the node. It grows by one with every window of
// answers as long as it is reached and the node answers as fast as it does when few
// requests are in flight. It falls by one when requests queue at the node, and to a half
// when an answer is lost.
//
// By Little's law, the average of a window and the baseline tell how many requests queue:
// limit * (1 - baseline/average). The baseline is the lowest average of a window. It is
// measured again at a quarter of the limit from time to time, and before a limit is lowered
// by an old one: the node may have become slower for other reasons.
//
// The limiter has no clock. Its methods may be called from any goroutine.
type limiter struct {
	mu       sync.Mutex
	min, max int
	limit    int
	inFlight int
	queue    []chan struct{} // waits for permits; the first is closed first

	epoch     uint64 // increases when the limit is halved, and before and after a measurement
	halved    uint64 // the epoch that began when the limit was last halved
	answers   int    // of the window
	total     time.Duration
	reached   bool          // the limit was reached in the window
	baseline  time.Duration // 0: not measured yet
	measured  time.Time     // when it was measured
	windows   int           // since then
	measuring bool          // the window is a measurement
}

func newLimiter(least, most int) *limiter { return &limiter{min: least, max: most, limit: least} }

// acquire waits for a permit until ctx ends. Permits are granted in the order of the calls.
func (l *limiter) acquire(ctx context.Context) error {
	granted := make(chan struct{})
	l.mu.Lock()
	l.queue = append(l.queue, granted)
	l.grant()
	l.mu.Unlock()
	select {
	case <-granted:
		return nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if at := slices.Index(l.queue, granted); at >= 0 {
		l.queue = slices.Delete(l.queue, at, at+1)
		return context.Cause(ctx)
	}
	return nil // it was granted in the same instant
}

// release gives a permit back.
func (l *limiter) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inFlight--
	l.grant()
}

// grant hands out the free permits. The lock is held.
func (l *limiter) grant() {
	for len(l.queue) > 0 && l.inFlight < l.allowed() {
		close(l.queue[0])
		l.queue = l.queue[1:]
		l.inFlight++
	}
	l.reached = l.reached || l.inFlight >= l.allowed()
}

// allowed is the limit, or a quarter of it during a measurement. The lock is held.
func (l *limiter) allowed() int {
	if l.measuring {
		return max(l.min, l.limit/4)
	}
	return l.limit
}

// load returns the limit, the permits in use and the calls that wait for one.
func (l *limiter) load() (limit, inFlight, queue int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.limit, l.inFlight, len(l.queue)
}

// begin returns what lost and answered need to know of a request that is sent now.
func (l *limiter) begin() (epoch uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.epoch
}

// lost halves the limit: the answer to a request did not come. Those that were sent before
// the limit was last halved have no effect, so that one incident halves it once.
func (l *limiter) lost(epoch uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if epoch >= l.halved {
		l.limit = max(l.min, l.limit/2)
		l.epoch++
		l.halved = l.epoch
		l.startWindow(false)
	}
}

// answered adjusts the limit by an answer that took so long to come.
func (l *limiter) answered(epoch uint64, took time.Duration, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if epoch != l.epoch || l.min == l.max {
		return
	}
	l.answers++
	l.total += took
	if l.answers < max(minWindow, l.allowed()) {
		return
	}
	average := l.total / time.Duration(l.answers)
	if l.measuring || l.baseline == 0 {
		l.baseline, l.measured, l.windows = average, now, 0
		l.startWindow(false)
		return
	}
	l.windows++
	l.baseline = min(l.baseline, average)
	// Some requests may queue, so that the node never waits for the next one, and because an
	// average varies.
	queued := float64(l.limit) * (1 - float64(l.baseline)/float64(max(average, 1)))
	allowed := 1 + float64(l.limit)/4
	high := l.reached && queued > allowed+1
	measure := now.Sub(l.measured) >= baselineRefresh || high && l.windows > baselineWindows
	switch {
	case measure:
	case high:
		l.limit = max(l.limit-1, l.min)
	case l.reached && queued < allowed:
		l.limit = min(l.limit+1, l.max)
	}
	l.startWindow(measure)
}

// startWindow begins a window. Answers to requests that were sent at another limit, before
// or during a measurement, do not count in it. The lock is held.
func (l *limiter) startWindow(measuring bool) {
	if measuring != l.measuring {
		l.epoch++
	}
	l.answers, l.total, l.reached, l.measuring = 0, 0, false, measuring
	l.grant()
}
