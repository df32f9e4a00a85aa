package settlement

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
