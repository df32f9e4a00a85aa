package clearnode

import (
	"errors"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// budget is what one connection may send. Zero: no limit.
type budget struct {
	frames    float64 // a second
	burst     int     // frames at once, after a silence
	bytes     int     // a second
	byteBurst int
}

// budgeted is a dialect whose nodes limit what a connection sends.
type budgeted interface{ budget() budget }

// errCrowded says that so many requests wait for a connection that this one would
// come too late.
var errCrowded = errors.New("the connection may not send so much: too many requests wait for it already")

// throttle holds a connection's frames to what the node allows, a token bucket of
// frames and one of bytes. Its one writer asks it before it takes a frame, so that
// whoever gives up waiting has proof that nothing left. A nil throttle limits
// nothing.
type throttle struct {
	frames *rate.Limiter
	bytes  *rate.Limiter // nil: no limit
	queued atomic.Int64  // requests that are not with the writer yet
	free   time.Time     // when the bytes sent are paid for; the writer's
}

// newThrottle is the configured limit, or else the dialect's own.
func newThrottle(cfg Config, d dialect) *throttle {
	var a budget
	if limited, ok := d.(budgeted); ok {
		a = limited.budget()
	}
	if cfg.RateLimit > 0 {
		a.frames, a.burst = cfg.RateLimit, max(1, int(cfg.RateLimit))
	}
	if a.frames == 0 {
		return nil
	}
	if cfg.RateBurst > 0 {
		a.burst = cfg.RateBurst
	}
	t := &throttle{frames: rate.NewLimiter(rate.Limit(a.frames), a.burst)}
	if a.bytes > 0 {
		t.bytes = rate.NewLimiter(rate.Limit(a.bytes), a.byteBurst)
	}
	return t
}

// queue counts a request among those that wait, until left is called. The error is
// errCrowded where its turn would come later than there is time for it.
func (t *throttle) queue(left time.Duration) (leave func(), err error) {
	if t == nil {
		return func() {}, nil
	}
	ahead := t.queued.Add(1)
	leave = func() { t.queued.Add(-1) }
	if t.turn(ahead) > left.Seconds() {
		leave()
		return nil, errCrowded
	}
	return leave, nil
}

// turn is in how many seconds a request may leave that is the so-manieth to wait.
func (t *throttle) turn(ahead int64) float64 {
	tokens := t.frames.Tokens() + 1 // the writer holds one already, or waits for it
	return (float64(ahead) - tokens) / float64(t.frames.Limit())
}

// crowded reports whether one more request would come too late.
func (t *throttle) crowded(left time.Duration) bool {
	return t != nil && t.turn(t.queued.Load()+1) > left.Seconds()
}

// ready waits until one more frame may leave. False: the connection ended first.
func (t *throttle) ready(gone <-chan struct{}) bool {
	if t == nil {
		return true
	}
	wait := max(t.frames.Reserve().Delay(), time.Until(t.free))
	if wait <= 0 {
		return true
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-gone:
		return false
	}
}

// sent pays for a frame's bytes, in arrears: the next one waits for them.
func (t *throttle) sent(size int) {
	if t == nil || t.bytes == nil {
		return
	}
	now := time.Now()
	if r := t.bytes.ReserveN(now, min(size, t.bytes.Burst())); r.OK() {
		t.free = now.Add(r.DelayFrom(now))
	}
}
