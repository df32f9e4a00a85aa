package clearnode

import (
	"errors"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"settled/clearnode/internal/protocol"
)

// errCrowded says that so many requests wait for a connection that this one would
// come too late.
var errCrowded = errors.New("the connection may not send so much: too many requests wait for it already")

// throttle limits a connection's frames to what the node allows, by a token bucket of
// frames and one of bytes. The writer waits for it before it accepts a frame, so that
// whoever gives up waiting has proof that nothing left. A nil throttle limits nothing.
type throttle struct {
	frames *rate.Limiter
	bytes  *rate.Limiter // nil: no limit
	queued atomic.Int64  // requests that are not with the writer yet
	free   time.Time     // when the byte limit allows the next frame; used by the writer only
}

// newThrottle applies the configured limit, or else the generation's own.
func newThrottle(cfg Config, a protocol.Budget) *throttle {
	if cfg.RateLimit > 0 {
		a.Frames, a.Burst = cfg.RateLimit, max(1, int(cfg.RateLimit))
	}
	if a.Frames == 0 {
		return nil
	}
	if cfg.RateBurst > 0 {
		a.Burst = cfg.RateBurst
	}
	t := &throttle{frames: rate.NewLimiter(rate.Limit(a.Frames), a.Burst)}
	if a.Bytes > 0 {
		t.bytes = rate.NewLimiter(rate.Limit(a.Bytes), a.ByteBurst)
	}
	return t
}

// available is how many frames may leave at once.
func (t *throttle) available() float64 {
	if t == nil {
		return 0
	}
	return t.frames.Tokens()
}

// enqueue counts a request among those that wait, until leave is called. The error is
// errCrowded where its turn would come later than there is time for it.
func (t *throttle) enqueue(left time.Duration) (leave func(), err error) {
	if t == nil {
		return func() {}, nil
	}
	position := t.queued.Add(1)
	leave = func() { t.queued.Add(-1) }
	if t.secondsUntil(position) > left.Seconds() {
		leave()
		return nil, errCrowded
	}
	return leave, nil
}

// secondsUntil is in how many seconds a request may leave; position is its 1-based position
// in the queue.
func (t *throttle) secondsUntil(position int64) float64 {
	tokens := t.frames.Tokens() + 1 // the writer holds one already, or waits for it
	return (float64(position) - tokens) / float64(t.frames.Limit())
}

// crowded reports whether one more request would come too late.
func (t *throttle) crowded(left time.Duration) bool {
	return t != nil && t.secondsUntil(t.queued.Load()+1) > left.Seconds()
}

// wait waits until one more frame may leave. False: the connection ended first.
func (t *throttle) wait(done <-chan struct{}) bool {
	if t == nil {
		return true
	}
	delay := max(t.frames.Reserve().Delay(), time.Until(t.free))
	if delay <= 0 {
		return true
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-done:
		return false
	}
}

// countBytes counts a sent frame's bytes: the next frame waits for them.
func (t *throttle) countBytes(size int) {
	if t == nil || t.bytes == nil {
		return
	}
	now := time.Now()
	if r := t.bytes.ReserveN(now, min(size, t.bytes.Burst())); r.OK() {
		t.free = now.Add(r.DelayFrom(now))
	}
}
