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

// panicError is what something that panicked is taken to have answered.
type panicError struct {
	value any
	stack []byte
}

func (p *panicError) Error() string { return fmt.Sprintf("panic: %v", p.value) }

// hand settles one message, answers it, and reports what came of it.
func (c *Consumer) hand(ctx context.Context, m *message) {
	began := time.Now()
	r := Result{Outcome: m.outcome, Delivered: m.meta.NumDelivered, Published: m.meta.Timestamp}
	ctx, end := c.begin(ctx, r)
	r.Settlement, r.Err = c.settle(ctx, m)
	v := Decide(r.Settlement, r.Err, r.Delivered, Backoff{Initial: c.cfg.BackoffInitial, Max: c.cfg.BackoffMax})
	settled := time.Now()
	answerErr := c.held.answer(m, v)
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

// begin tells Config.BeginFunc.
func (c *Consumer) begin(ctx context.Context, r Result) (context.Context, func(Result)) {
	if c.cfg.BeginFunc == nil {
		return ctx, func(Result) {}
	}
	return c.cfg.BeginFunc(ctx, r)
}

// settle has the message's outcome settled. Whatever is wrong with the message is
// the Settler's to record; whatever goes wrong here ends as waiting.
func (c *Consumer) settle(ctx context.Context, m *message) (s settlement.Settlement, err error) {
	if m.panicked != nil {
		c.panics.Add(1)
		return settlement.Settlement{}, m.panicked
	}
	// Cancelled, not given a deadline: one of minutes would take the place of the
	// few seconds that the NATS client gives each request by default.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer time.AfterFunc(settleTime, func() { cancel(context.DeadlineExceeded) }).Stop()
	defer func() {
		if value := recover(); value != nil {
			c.panics.Add(1)
			s, err = settlement.Settlement{}, &panicError{value: value, stack: debug.Stack()}
		}
	}()
	s, err = c.settler.Settle(ctx, m.outcome)
	if err != nil && errors.Is(context.Cause(ctx), errStopping) {
		err = fmt.Errorf("%w: %w", errStopping, err)
	}
	return s, err
}

// logResult writes the one event of a message. It never holds a payload.
func (c *Consumer) logResult(ctx context.Context, r Result, answerErr error) {
	log := c.cfg.Log
	var panicked *panicError
	if errors.As(r.Err, &panicked) {
		log.Error().Ctx(ctx).Bytes("stack", panicked.stack).Uint64("sequence", r.Outcome.Ref.Sequence).Msg("settling panicked: a bug; the outcome is given back")
	}
	e := log.WithLevel(levelOf(r, answerErr)).Ctx(ctx).
		Str("source", line(r.Outcome.Ref.Source, 256)).Str("id", line(r.Outcome.Ref.ID, 256)).
		Uint64("sequence", r.Outcome.Ref.Sequence).Uint64("delivered", r.Delivered).
		Str("session", r.Outcome.Session.Token()).Str("scenario", string(r.Outcome.Scenario)).
		Str("disposition", string(r.Disposition)).Str("reason", r.Reason).
		Int("attempt", r.Settlement.Entry.Attempt).Dur("elapsed", r.Elapsed)
	if r.Disposition == Requeued {
		e = e.Dur("delay", r.Delay)
	}
	if err := errors.Join(r.Err, answerErr); err != nil {
		e = e.Str("error", line(err.Error(), 1<<10))
	}
	e.Msg(sentence(r))
}

// levelOf: what failed is a warning, and so is an answer that didn't get through;
// a node that stays away is told once for each message.
func levelOf(r Result, answerErr error) zerolog.Level {
	switch {
	case r.Disposition == Terminated || answerErr != nil || r.Reason == ReasonUnrecorded || r.Reason == ReasonError:
		return zerolog.WarnLevel
	case r.Reason == ReasonPanic:
		return zerolog.ErrorLevel
	case r.Reason == string(settlement.NodeUnavailable) && r.Delivered > 1:
		return zerolog.DebugLevel
	default:
		return zerolog.InfoLevel
	}
}

func sentence(r Result) string {
	switch r.Disposition {
	case Acked:
		return "outcome settled"
	case Terminated:
		return "outcome failed"
	case Abandoned:
		return "outcome to be delivered again"
	default:
		return "outcome waits"
	}
}
