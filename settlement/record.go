package settlement

import (
	"context"
	"errors"
)

// done records that the session is closed as planned.
func (c *call) done(ctx context.Context, head Head, p history, plan *Plan, a Answer, recovered bool) (*Settlement, error) {
	e := c.o.entry(EntryClosed, p.attempts)
	standing := c.o.Ref.Standing(Closed)
	e.Standing = &standing
	e.Policy, e.Allocation = &plan.Policy, plan.Allocations
	e.Node, e.Recovered = &a.Evidence, &recovered
	if a.Version > 0 {
		e.SessionVersion = &a.Version
	}
	stored, err := c.Ledger.Append(ctx, head, e)
	if errors.Is(err, ErrHeadMoved) {
		return nil, nil
	}
	if err != nil {
		return nil, waitingFor(err, LedgerUnavailable)
	}
	c.doubts.forget(c.o.Session)
	return &Settlement{Entry: *stored.Last}, nil
}

// fail records that the outcome failed: first the dead letter, then the entry.
// An outcome that holds the session gets here only when its fence has fallen;
// whatever decided otherwise is held up here.
func (c *call) fail(ctx context.Context, head Head, p history, f *Failure) (*Settlement, error) {
	if p.intent != nil && !c.fenceExpired {
		return nil, &Waiting{Reason: InDoubt, Err: f}
	}
	// The intent of a request that may land can be among entries that are missing.
	if c.HoldFunc != nil {
		if err := c.HoldFunc(ctx); err != nil {
			return nil, waitingFor(err, LedgerUnavailable)
		}
	}
	// What the node showed may be what another message of this outcome has done since
	// the head was read. Its intent is in the ledger before anything is sent, so that
	// the head has moved then, and this isn't taken for somebody else's close.
	now, err := c.Ledger.Head(ctx, c.o.Session)
	if err != nil {
		return nil, waitingFor(err, LedgerUnavailable)
	}
	if now.Sequence() != head.Sequence() || now.Digest != head.Digest { // a ledger that was set back uses sequences again
		return nil, nil
	}
	letter, err := c.DeadLetters.Store(ctx, c.o, *f, p.attempts)
	if err != nil {
		return nil, waitingFor(err, DeadLetterUnavailable)
	}
	e := c.o.entry(EntryFailed, p.attempts)
	e.Error, e.DeadLetter = f, letter
	st := head.Standing()
	if p.intent != nil {
		st = Standing{State: Free}
	}
	e.Standing = &st
	stored, err := c.Ledger.Append(ctx, head, e)
	if errors.Is(err, ErrHeadMoved) {
		// Where another message of this outcome failed first, under a later sequence,
		// the next round ends this one without an entry, and its letter stays beside
		// the other's. It isn't taken back: another delivery of this message may be
		// between the same letter and its entry, and a letter that an entry names
		// must never be gone. To replay both is harmless.
		return nil, nil
	}
	if err != nil {
		return nil, waitingFor(err, LedgerUnavailable)
	}
	if p.intent != nil {
		c.doubts.forget(c.o.Session)
	}
	return &Settlement{Entry: *stored.Last}, &Failed{Failure: *f}
}

// failWithoutSession records an outcome whose session can't be read, or isn't believed: it
// has no head. The dead letter says what the message claims.
func (s *Settler) failWithoutSession(ctx context.Context, o Outcome) (Settlement, error) {
	f := o.unreadable()
	c := call{Settler: s, o: o}
	letter, err := s.DeadLetters.Store(ctx, o, *f, 0)
	if err != nil {
		return Settlement{}, waitingFor(err, DeadLetterUnavailable)
	}
	e := c.o.entry(EntryFailed, 0)
	e.Session, e.Error, e.DeadLetter = "", f, letter
	stored, err := s.Ledger.Append(ctx, Head{}, e)
	if err != nil {
		return Settlement{}, waitingFor(err, LedgerUnavailable)
	}
	return Settlement{Entry: *stored.Last}, &Failed{Failure: *f}
}
