package consumer

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/rs/zerolog"

	"settled/settlement"
)

// settleTime bounds one call of Settle. Settle has its own time-outs; this one is a last
// resort, so that a hanging call does not occupy a worker for ever.
const settleTime = 2 * time.Minute

// panicError is the error of a call that panicked.
type panicError struct {
	value any
	stack []byte
}

func (p *panicError) Error() string { return fmt.Sprintf("panic: %v", p.value) }

// process settles the outcome of one delivery, answers it, and reports the result.
func (c *Consumer) process(ctx context.Context, d *delivery) {
	began := time.Now()
	r := Result{Outcome: d.outcome, Delivered: d.meta.NumDelivered, Published: d.meta.Timestamp}
	end := func(Result) {}
	if c.cfg.BeginFunc != nil {
		ctx, end = c.cfg.BeginFunc(ctx, r)
	}
	r.Settlement, r.Err = c.settle(ctx, d)
	v := Decide(r.Settlement, r.Err, r.Delivered, Backoff{Initial: c.cfg.BackoffInitial, Max: c.cfg.BackoffMax})
	settled := time.Now()
	answerErr := c.deliveries.answer(d, v)
	r.Disposition, r.Reason, r.Delay = v.Disposition, v.Reason, v.Delay
	if errors.Is(answerErr, errAbandoned) {
		r.Disposition, r.Delay = Abandoned, 0
	}
	r.Elapsed, r.Answering = time.Since(began), time.Since(settled)
	end(r)
	c.logResult(ctx, r, answerErr)
	if c.cfg.ResultFunc != nil {
		c.cfg.ResultFunc(r)
	}
}

// settle calls Settle. Whatever is wrong with the message is recorded by the Settler;
// whatever goes wrong here ends with a redelivery.
func (c *Consumer) settle(ctx context.Context, d *delivery) (s settlement.Settlement, err error) {
	if d.panicked != nil {
		c.panics.Add(1)
		return settlement.Settlement{}, d.panicked
	}
	// The context is cancelled by a timer and has no deadline, since a deadline of minutes
	// would replace the few seconds that the NATS client allows each request by default.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer time.AfterFunc(settleTime, func() { cancel(context.DeadlineExceeded) }).Stop()
	defer func() {
		if value := recover(); value != nil {
			c.panics.Add(1)
			s, err = settlement.Settlement{}, &panicError{value: value, stack: debug.Stack()}
		}
	}()
	s, err = c.settler.Settle(ctx, d.outcome)
	if err != nil && errors.Is(context.Cause(ctx), errStopping) {
		err = fmt.Errorf("%w: %w", errStopping, err)
	}
	return s, err
}

// logResult writes the log event of a delivery, and before it an event with the stack if the
// delivery panicked. Neither contains a payload.
func (c *Consumer) logResult(ctx context.Context, r Result, answerErr error) {
	log := c.cfg.Log
	var panicked *panicError
	if errors.As(r.Err, &panicked) {
		log.Error().Ctx(ctx).Bytes("stack", panicked.stack).Uint64("sequence", r.Outcome.Ref.Sequence).Msg("processing an outcome panicked: internal error (a bug), please report it; the outcome will be delivered again")
	}
	level := zerolog.InfoLevel
	switch {
	case r.Disposition == Terminated || answerErr != nil || r.Reason == ReasonUnrecorded || r.Reason == ReasonError:
		level = zerolog.WarnLevel
	case r.Reason == ReasonPanic:
		level = zerolog.ErrorLevel
	case r.Reason == string(settlement.NodeUnavailable) && r.Delivered > 1:
		level = zerolog.DebugLevel // a node that stays unavailable is reported once per message
	}
	e := log.WithLevel(level).Ctx(ctx).
		Str("source", OneLine(r.Outcome.Ref.Source, 256)).Str("id", OneLine(r.Outcome.Ref.ID, 256)).
		Uint64("sequence", r.Outcome.Ref.Sequence).Uint64("delivered", r.Delivered).
		Str("session", r.Outcome.Session.Token()).Str("scenario", string(r.Outcome.Scenario)).
		Str("disposition", string(r.Disposition)).Str("reason", r.Reason).
		Int("attempt", r.Settlement.Entry.Attempt).Dur("elapsed", r.Elapsed)
	if r.Disposition == Returned {
		e = e.Dur("delay", r.Delay)
	}
	if err := errors.Join(r.Err, answerErr); err != nil {
		e = e.Str("error", OneLine(err.Error(), 1<<10))
	}
	e.Msg(map[Disposition]string{
		Acked: "outcome settled", Terminated: "outcome failed", Returned: "outcome waits", Abandoned: "outcome to be delivered again",
	}[r.Disposition])
}
