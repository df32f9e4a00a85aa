package settlement

import (
	"context"
	"errors"
	"math"
)

// Preview returns what the next action would be if the outcome were published again now,
// from the ledger and one read of its session, by the same decisions as Settle. It records
// nothing, sends nothing, stops nothing and asks for no signature, so it can't tell whether
// the keys reach the quorum or the node accepts the request. It needs neither DeadLetters
// nor an EmergencyStop. An error means that the ledger can't be read.
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
	hist, err := head.history(o.Ref)
	if err != nil {
		return Decision{}, err
	}
	if hist.closed != nil {
		return Decision{Action: ActionDone, Plan: hist.closed.plan()}, nil
	}
	policy, f := c.decideWithoutNode(head, hist)
	if f != nil {
		return Decision{Action: ActionFail, Failure: f}, nil
	}
	decision, _, err := c.observe(ctx, hist, policy)
	var waiting *Waiting
	if errors.As(err, &waiting) {
		return Decision{Action: ActionWait, Waiting: waiting}, nil
	}
	return decision, err
}

// unreadable is the failure of an outcome whose session can't be read.
func (o Outcome) unreadable() *Failure {
	if o.Invalid != nil {
		return o.Invalid
	}
	return Fail(InvalidOutcome, "session_id can't be read")
}

// noEmergencyStop is the EmergencyStop of a preview, which stops nothing.
type noEmergencyStop struct{}

func (noEmergencyStop) Stopped(context.Context) error { return nil }

func (noEmergencyStop) Stop(context.Context, Outcome, Failure) error { return nil }
