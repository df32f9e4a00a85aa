package settlement

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// close signs a request, records the intent, and, only where that append was
// won, sends the request, once.
func (c *call) close(ctx context.Context, head Head, p history, plan *Plan, s Session) (*Settlement, error) {
	r, err := c.prepare(ctx, plan, s)
	var never *Failure
	if errors.As(err, &never) {
		return c.fail(ctx, head, p, never)
	}
	if err != nil {
		return nil, waitingFor(err, NodeUnavailable)
	}
	if err := c.checkEmergencyStop(ctx); err != nil {
		return nil, err
	}
	won, err := c.Ledger.Append(ctx, head, c.closing(p.attempts+1, plan, r))
	if errors.Is(err, ErrHeadMoved) {
		return nil, nil // the request is thrown away, unsent
	}
	if err != nil {
		return nil, waitingFor(err, LedgerUnavailable)
	}
	return c.send(ctx, won, history{intent: won.Last, attempts: won.Last.Attempt}, plan, r)
}

// drive sends the next request of the plan that the intent recorded. It needs no
// entry of its own: its bytes follow from the intent and the session's version,
// so of any number that are sent, by anyone, one is carried out.
func (c *call) drive(ctx context.Context, head Head, p history, plan *Plan, s Session) (*Settlement, error) {
	r, err := c.prepare(ctx, plan, s)
	var never *Failure
	if errors.As(err, &never) {
		return nil, staysGood(never)
	}
	if err != nil {
		return nil, waitingFor(err, NodeUnavailable)
	}
	return c.send(ctx, head, p, plan, r)
}

// prepare holds a request to the fence of its session: an intent whose fence is
// not the session's could neither be driven on nor given up.
func (c *call) prepare(ctx context.Context, plan *Plan, s Session) (Request, error) {
	if err := c.checkEmergencyStop(ctx); err != nil {
		return Request{}, err
	}
	r, err := c.Node.Prepare(ctx, c.o, *plan, s)
	if err == nil && r.ValidUntil.IsZero() != s.Versioned {
		return Request{}, errors.New("the request made for this session has the fence of another generation of node: a defect of settled, please report it")
	}
	return r, err
}

// send sends a request of the intent that holds the session. It returns neither a
// settlement nor an error where the session is to be observed again.
func (c *call) send(ctx context.Context, head Head, p history, plan *Plan, r Request) (*Settlement, error) {
	if err := c.checkEmergencyStop(ctx); err != nil {
		return nil, err
	}
	answer, err := c.Node.Send(ctx, r)
	c.sends, c.intent, c.refused, c.answer = c.sends+1, p.intent.Sequence, nil, nil
	var refused *Refused
	switch {
	case err == nil && r.Closes:
		c.answer = &answer
		return c.done(ctx, head, p, plan, answer, false)
	case err == nil:
		return nil, nil
	case !errors.As(err, &refused):
		c.doubts.note(p.intent, err)
		return nil, inDoubt(r, err)
	case r.ValidUntil.IsZero():
		return nil, staysGood(refused.Err)
	default:
		c.refused = refused.Err
		return nil, nil
	}
}

// inDoubt is the wait after a send whose effect is not known. A request that expires
// is looked for after a second, and after that as the fence says (waitForFence). One
// that does not expire is sent again by the next delivery of the outcome, so that the
// caller's backoff spaces the sends.
func inDoubt(r Request, err error) *Waiting {
	if r.ValidUntil.IsZero() {
		return waitingFor(err, InDoubt)
	}
	return &Waiting{Reason: InDoubt, Delay: time.Second, Until: r.ValidUntil, Err: err}
}

// staysGood is what a refusal comes to where nothing expires the request: what is
// signed may be sent again by whoever holds it, and be accepted, as long as the
// session's version stands. So the outcome waits, and where the refusal won't pass
// by itself the error says so to the operator.
func staysGood(refusal error) *Waiting {
	var w *Waiting
	if errors.As(refusal, &w) {
		return w
	}
	var never *Failure
	if errors.As(refusal, &never) {
		return &Waiting{Reason: NodeRefused, Err: fmt.Errorf("permanent, an operator has to look: the next request of the recorded plan is refused, and the outcome is not given up while the session stands where that request fits; mend the cause, or have the session's participants move it on: %w", never)}
	}
	return &Waiting{Reason: NodeRefused, Err: refusal}
}

// closing is the write-ahead intent of a request.
func (c *call) closing(attempt int, plan *Plan, r Request) Entry {
	e := c.o.entry(EntryClosing, attempt)
	standing := c.o.Ref.Standing(Closing)
	e.Standing = &standing
	e.Policy, e.Allocation = &plan.Policy, plan.Allocations
	e.Request = &r.Ref
	versioned := r.ValidUntil.IsZero()
	if !versioned {
		e.ValidUntil = &r.ValidUntil
	}
	if versioned || plan.BaseVersion > 0 {
		e.BaseVersion = &plan.BaseVersion
	}
	return e
}
