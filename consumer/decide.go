package consumer

import (
	"errors"
	"math/rand/v2"
	"time"

	"settled/settlement"
)

// Disposition says how a delivery is answered.
type Disposition string

// The dispositions.
const (
	Acked      Disposition = "ack"      // settled: never delivered again
	Terminated Disposition = "term"     // failed, recorded and dead-lettered: never delivered again
	Returned   Disposition = "nak"      // delivered again after the delay
	Abandoned  Disposition = "withheld" // not answered, because the durable that delivered it is gone; never from Decide
)

// Verdict is the decision on one delivery.
type Verdict struct {
	Disposition Disposition
	Reason      string        // "closed", a settlement.Code, a settlement.Reason, or one of the constants below
	Delay       time.Duration // of Returned
}

// Reasons of a Verdict, in addition to the codes and reasons of settlement.
const (
	ReasonClosed     = "closed"     // the session is closed as its policy requires
	ReasonUnrecorded = "unrecorded" // Settle returned no error, but no closed entry either
	ReasonStopping   = "stopping"   // the consumer was stopped before anything was decided
	ReasonPanic      = "panic"      // the Settler panicked
	ReasonError      = "error"      // an unexpected error
)

// maxUnavailableDelay is the longest delay for a node that is unavailable: fetching is
// paused meanwhile, and the messages are needed as soon as it resumes.
const maxUnavailableDelay = 5 * time.Second

// errStopping marks the error of a Settle call that a stop of the consumer cancelled.
var errStopping = errors.New("stopped before anything was decided")

// Backoff computes the delay of messages that are returned: between Initial and twice
// Initial after the first delivery, with an upper bound that doubles with each delivery up
// to Max. The delays are spread evenly, so that messages that waited together don't
// return together.
type Backoff struct {
	Initial, Max time.Duration
	RandFunc     func(n int64) int64 // in [0, n); nil: math/rand
}

// Delay returns the delay after this number of deliveries. The number is a hint: a durable
// consumer that was created again counts from 1.
func (b Backoff) Delay(delivered uint64) time.Duration {
	upper := b.Initial
	for i := uint64(0); i < delivered && upper < b.Max; i++ {
		upper *= 2
	}
	spread := int64(min(upper, b.Max) - b.Initial)
	if spread <= 0 {
		return b.Initial
	}
	random := b.RandFunc
	if random == nil {
		random = rand.Int64N
	}
	return b.Initial + time.Duration(random(spread+1))
}

// Decide says how a delivery is answered, from what Settle returned. Only a closed entry
// is acknowledged and only *settlement.Failed is terminated; after an unexpected error the
// message is returned.
func Decide(s settlement.Settlement, err error, delivered uint64, b Backoff) Verdict {
	var failed *settlement.Failed
	var waiting *settlement.Waiting
	var panicked *panicError
	back := Verdict{Disposition: Returned, Delay: b.Delay(delivered)}
	switch {
	case err == nil && s.Entry.State == settlement.EntryClosed:
		return Verdict{Disposition: Acked, Reason: ReasonClosed}
	case err == nil:
		back.Reason = ReasonUnrecorded
	case errors.As(err, &failed):
		return Verdict{Disposition: Terminated, Reason: string(failed.Code)}
	case errors.Is(err, errStopping):
		return Verdict{Disposition: Returned, Reason: ReasonStopping}
	case errors.As(err, &waiting):
		back.Reason = string(waiting.Reason)
		if waiting.Delay > 0 {
			back.Delay = waiting.Delay
		}
		if waiting.Reason == settlement.NodeUnavailable || waiting.Reason == settlement.NotReady {
			back.Delay = min(back.Delay, maxUnavailableDelay)
		}
	case errors.As(err, &panicked):
		back.Reason = ReasonPanic
	default:
		back.Reason = ReasonError
	}
	return back
}
