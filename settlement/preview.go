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

// Check returns why an outcome would fail whatever the node and the ledger hold, or nil if
// that depends on them. A publisher calls it before it publishes. The message of the Failure
// is the one that Settle would record.
//
// Of the limits it can check what the outcome itself states: the totals that it expects, and
// awards by amount.
func (p Policies) Check(o Outcome, limits Limits) *Failure {
	if o.Invalid != nil {
		return o.Invalid
	}
	policy, known := p[o.Scenario]
	if !known {
		return noPolicy(o.Scenario)
	}
	if f := policy.Check(o); f != nil {
		return f
	}
	if policy.awardsAmounts(o) {
		return limits.Check(o.Scenario, o.awardedRows())
	}
	if o.Expect == nil {
		return nil
	}
	rows := make([]Allocation, 0, len(o.Expect.Totals))
	for _, t := range o.Expect.Totals {
		rows = append(rows, Allocation{Asset: t.Asset, Amount: t.Amount})
	}
	return limits.of(PerSession).Check(o.Scenario, rows)
}

func noPolicy(scenario Scenario) *Failure {
	return Fail(UnknownScenario, "no policy named %s: add one under policies, or publish one of the scenarios that have one", scenario)
}

// awardedRows returns what awards by amount pay, one row for each participant and asset.
func (o Outcome) awardedRows() []Allocation {
	type payee struct {
		participant Address
		asset       Asset
	}
	var rows []Allocation
	at := map[payee]int{}
	for _, a := range o.Awards {
		key := payee{a.Participant, a.Asset}
		if i, seen := at[key]; seen {
			rows[i].Amount = rows[i].Amount.Add(a.Amount)
			continue
		}
		at[key] = len(rows)
		rows = append(rows, Allocation{Participant: a.Participant.String(), Asset: a.Asset, Amount: a.Amount})
	}
	return rows
}

// of returns the limits of one scope.
func (l Limits) of(per LimitPer) Limits {
	var some Limits
	for _, limit := range l {
		if limit.Per == per {
			some = append(some, limit)
		}
	}
	return some
}
