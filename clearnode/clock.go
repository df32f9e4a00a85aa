package clearnode

import (
	"sync"
	"time"
)

// clock is a lower bound of the clock of the node behind one connection.
//
// An answer that carries ts was stamped before it was received, at m on our
// monotonic clock. So the node's clock stood at ts or later at m, and stands at
// ts + (now - m) or later now, as long as both run on evenly. Of several such
// bounds each is true, so the highest is the best.
//
// They stop being true when the node's clock is set back. An answer shows that:
// it was stamped after its request was sent, at s; if the bound says that at s
// the node's clock already stood later than ts, then the bound is wrong, and the
// answer is newer knowledge than all that made it. The bound starts again from
// it, even though it is lower. Answers to requests that were sent before may have
// been stamped before the clock was set, and no longer raise the bound.
//
// A bound that is too low is harmless: fences fall later, requests look older. One
// that is too high would let a fence expire early. That is why nothing but verified
// answers to our own requests are listened to.
type clock struct {
	mu    sync.Mutex
	known bool
	at    time.Time // the node's clock, at least, when ...
	seen  time.Time // ... ours stood here
	reset time.Time // ours, when the node's was last seen set back

	most time.Time // the node's clock, at most, by the newest answer, when ...
	sent time.Time // ... ours stood here
}

// stampStep is how finely the node's answers show its clock. A bound that is too high
// by less, for the node's clock runs slower than ours, shows in no answer: a read is
// dated so much earlier.
const stampStep = time.Millisecond

// bound is the lower bound at an instant of our own clock, past or present. It is
// not known before the first answer.
func (k *clock) bound(now time.Time) (at time.Time, known bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.on(now), k.known
}

// on extrapolates, in both directions.
func (k *clock) on(now time.Time) time.Time { return k.at.Add(now.Sub(k.seen)) }

// hear learns from a verified answer stamped ts, of a request sent at an instant
// of our clock, and received at another. It returns how far the node's clock was
// set back, at least: by a hand, or little by little by whatever keeps it right.
func (k *clock) hear(ts, sent, received time.Time) (back time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.most, k.sent = ts.Add(stampStep), sent
	switch {
	case !k.known:
		k.known, k.at, k.seen = true, ts, received
	case ts.Before(k.on(sent).Truncate(time.Millisecond)): // a stamp has whole milliseconds
		back = k.on(sent).Sub(ts)
		k.at, k.seen, k.reset = ts, received, received
	case !sent.Before(k.reset) && ts.After(k.on(received)):
		k.at, k.seen = ts, received
	}
	return back
}

// behind reports whether the newest answer is to a request sent before an instant.
func (k *clock) behind(at time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.sent.Before(at)
}

// limits are the bounds of the node's clock at an instant of ours: at least, and at most.
func (k *clock) limits(now time.Time) (least, most time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.on(now), k.most.Add(now.Sub(k.sent))
}

// apart is by how much two clocks differ at least, zero or less where they may agree.
func (k *clock) apart(other *clock, now time.Time) time.Duration {
	least, most := k.limits(now)
	low, high := other.limits(now)
	return max(least.Sub(high), low.Sub(most))
}
