package consumer

import (
	"errors"
	"math/rand/v2"
	"time"

	"settled/settlement"
)

// Disposition is how a message is answered.
type Disposition string

// The dispositions.
const (
	Acked      Disposition = "ack"      // settled: never delivered again
	Terminated Disposition = "term"     // failed, recorded and dead-lettered: never delivered again
	Requeued   Disposition = "nak"      // delivered again after the delay
	Abandoned  Disposition = "withheld" // not answered, for who delivered it is gone; Decide never says so
)

// Verdict is what Decide says about one message.
type Verdict struct {
	Disposition Disposition
	Reason      string        // "closed", a settlement.Code, a settlement.Reason, or one of the constants below
	Delay       time.Duration // of Requeued
}

// Reasons of a Verdict beside the codes and reasons of settlement.
const (
	ReasonClosed     = "closed"     // the session is closed as its policy says
	ReasonUnrecorded = "unrecorded" // Settle answered well, but without a closed entry
	ReasonStopping   = "stopping"   // we were stopped before anything was decided
	ReasonPanic      = "panic"      // the Settler panicked
	ReasonError      = "error"      // an error that nobody foresaw
)

// awayDelay is the longest wait for a node that is away: fetching is paused
// meanwhile, and what was given back is wanted as soon as it resumes.
const awayDelay = 5 * time.Second

// errStopping marks what a Settle call answered after our own stop cut it short.
var errStopping = errors.New("stopped before anything was decided")

// Backoff is the delay of messages that are given back: between Initial and
// twice Initial after the first delivery, its upper end doubling with each one up
// to Max, and evenly spread, so that messages that waited together don't come
// back together.
type Backoff struct {
	Initial, Max time.Duration
	RandFunc     func(n int64) int64 // in [0, n); nil: math/rand
}

// Delay is how long to wait after the delivered-th delivery. The number is a
// hint: a durable made anew counts from 1.
func (b Backoff) Delay(delivered uint64) time.Duration {
	most := b.Initial
	for i := uint64(0); i < delivered && most < b.Max; i++ {
		most *= 2
	}
	spread := int64(min(most, b.Max) - b.Initial)
	if spread <= 0 {
		return b.Initial
	}
	random := b.RandFunc
	if random == nil {
		random = rand.Int64N
	}
	return b.Initial + time.Duration(random(spread+1))
}

// Decide says how a message is answered, from what Settle said of it. Only a
// closed entry is acknowledged and only *settlement.Failed is terminated; what
// nobody foresaw is given back.
func Decide(s settlement.Settlement, err error, delivered uint64, b Backoff) Verdict {
	var failed *settlement.Failed
	var waiting *settlement.Waiting
	var panicked *panicError
	back := Verdict{Disposition: Requeued, Delay: b.Delay(delivered)}
	switch {
	case err == nil && s.Entry.State == settlement.EntryClosed:
		return Verdict{Disposition: Acked, Reason: ReasonClosed}
	case err == nil:
		back.Reason = ReasonUnrecorded
	case errors.As(err, &failed):
		return Verdict{Disposition: Terminated, Reason: string(failed.Code)}
	case errors.Is(err, errStopping):
		return Verdict{Disposition: Requeued, Reason: ReasonStopping}
	case errors.As(err, &waiting):
		back.Reason = string(waiting.Reason)
		back.Delay = waitingDelay(waiting, back.Delay)
	case errors.As(err, &panicked):
		back.Reason = ReasonPanic
	default:
		back.Reason = ReasonError
	}
	return back
}

// waitingDelay is the delay the wait itself asks for, or the backoff.
func waitingDelay(w *settlement.Waiting, backoff time.Duration) time.Duration {
	delay := backoff
	if w.Delay > 0 {
		delay = w.Delay
	}
	if w.Reason == settlement.NodeUnavailable || w.Reason == settlement.NotReady {
		delay = min(delay, awayDelay)
	}
	return delay
}
