package settlement

import "fmt"

// CheckProposal returns nil if a plan that another party proposes for an outcome's session
// is exactly what these policies would do with it, else the Failure to answer with. The
// session is the caller's own read of it, with the options that Policy.ReadOptions names.
//
// If a state update to the plan's allocation comes before the close, the close is accepted
// as well: a session that was at the version the outcome expects, and has moved by one to
// the allocation proposed, has come that far by the plan.
func CheckProposal(o Outcome, policies Policies, s Session, proposed []Allocation) *Failure {
	policy, known := policies[o.Scenario]
	asset, in, out, overpaid := s.Overpaid()
	switch {
	case o.Invalid != nil:
		return o.Invalid
	case !known:
		return Fail(UnknownScenario, "this co-signer has no policy named %s", o.Scenario)
	case overpaid:
		return Fail(Overpaid, "the node paid out %s of %s, but only %s were deposited", out, Quote(string(asset)), in)
	case !s.Open:
		return Fail(ClosedElsewhere, "the session is closed already")
	case s.Unfunded():
		return Fail(SessionUnfunded, "the session has nothing in it")
	}
	if o.Expect.metBefore(s, proposed) {
		s.Version--
	}
	plan, f := policy.Plan(o, s)
	if f != nil {
		return f
	}
	return differs(plan.Allocations, proposed)
}

// metBefore reports whether the session was at the expected version, and a state update to
// the proposed allocation moved it on: its close is next.
func (e *Expect) metBefore(s Session, proposed []Allocation) bool {
	return e != nil && e.Version != nil && s.Versioned && s.Version == *e.Version+1 && sameAllocation(s.Current, proposed)
}

// differs compares row by row: the signature covers these rows, in this order, with this
// spelling.
func differs(own, proposed []Allocation) *Failure {
	for i := range max(len(own), len(proposed)) {
		if i >= len(own) || i >= len(proposed) || !own[i].equal(proposed[i]) {
			return Fail(AllocationRejected, "row %d: this co-signer would pay %s, the proposal pays %s", i+1, rowText(own, i), rowText(proposed, i))
		}
	}
	return nil
}

func (a Allocation) equal(b Allocation) bool {
	return a.Participant == b.Participant && a.Asset == b.Asset && a.Amount.Equal(b.Amount)
}

func rowText(rows []Allocation, i int) string {
	if i >= len(rows) {
		return "nothing more"
	}
	r := rows[i]
	return fmt.Sprintf("%s of %s to %s", r.Amount, Quote(string(r.Asset)), Quote(r.Participant))
}
