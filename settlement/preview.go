package settlement

import (
	"context"
	"errors"
	"math"
)

// Preview says what the next move would be if the outcome were published again now:
// from the ledger and one observation of its session, by the same decisions as
// Settle. It records nothing, sends nothing, pulls no brake, and asks nobody for a
// signature; so whether the keys reach the quorum, and whether the node takes the
// request, it can't tell. It needs neither DeadLetters nor a EmergencyStop. An error means
// that the ledger can't be read.
func (s *Settler) Preview(ctx context.Context, o Outcome) (Decision, error) {
	o.Ref.Sequence = math.MaxUint64 // later than whatever failed
	if o.Session == "" {
		return Decision{Action: ActionFail, Failure: o.unreadable()}, nil
	}
	if f := s.checkTrust(o); f != nil {
		return Decision{Action: ActionFail, Failure: f}, nil
	}
	c := call{o: o, Settler: &Settler{
		Node: s.Node, Ledger: s.Ledger, EmergencyStop: noEmergencyStop{}, Policies: s.Policies, Limits: s.Limits,
		MaxAttempts: s.MaxAttempts, FenceMargin: s.FenceMargin,
	}}
	head, err := c.Ledger.Head(ctx, o.Session)
	if err != nil {
		return Decision{}, err
	}
	p, err := c.readHistory(ctx, head)
	if err != nil {
		return Decision{}, err
	}
	if p.closed != nil {
		return Decision{Action: ActionDone, Plan: p.closed.plan()}, nil
	}
	policy, f := c.beforeNode(head, p)
	if f != nil {
		return Decision{Action: ActionFail, Failure: f}, nil
	}
	decision, _, err := c.observe(ctx, p, policy)
	var waiting *Waiting
	if errors.As(err, &waiting) {
		return Decision{Action: ActionWait, Waiting: waiting}, nil
	}
	return decision, err
}

func (noEmergencyStop) Stopped(context.Context) error                { return nil }
func (noEmergencyStop) Stop(context.Context, Outcome, Failure) error { return nil }

// unreadable is why an outcome fails whose session can't be read.
func (o Outcome) unreadable() *Failure {
	if o.Invalid != nil {
		return o.Invalid
	}
	return Fail(InvalidOutcome, "session_id can't be read")
}
