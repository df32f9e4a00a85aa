package settlement

import "math/big"

// Derivation is how a plan was made: the share of each step, what that is of each asset, how
// it was rounded, and what the plan uses of each limit. It is recorded while the plan is
// made. If there is no plan, it ends where the plan failed.
type Derivation struct {
	Steps  []DerivedStep  `json:"steps"`  // in the order of the policy; empty for awards by amount, which are paid as they are
	Assets []DerivedAsset `json:"assets"` // by name
	Limits []LimitUse     `json:"limits"` // of each limit on the scenario; empty without a plan
}

// DerivedStep is one step of a policy, applied to an outcome.
type DerivedStep struct {
	PolicyStep
	Fraction Fraction       `json:"fraction"` // of each asset that the step pays
	Payees   []DerivedPayee `json:"payees"`   // who gets how much of that; empty for funders, whose parts differ by asset
}

// DerivedPayee is one participant that a step pays.
type DerivedPayee struct {
	Participant string   `json:"participant"` // as the session's definition spells it
	Fraction    Fraction `json:"fraction"`    // of the step's share
}

// DerivedAsset is how one asset is divided.
type DerivedAsset struct {
	Total
	Decimals     int32        `json:"decimals"` // of its smallest unit
	Participants []DerivedRow `json:"participants"`
}

// DerivedRow is what one participant gets of one asset, and why.
type DerivedRow struct {
	Participant string   `json:"participant"`      // as the session's definition spells it
	Funded      *Amount  `json:"funded,omitempty"` // deposited and not withdrawn; absent where no step pays funders
	Quota       Fraction `json:"quota"`            // exact, of the asset
	Remainder   Fraction `json:"remainder"`        // what the quota has beyond whole units, of a smallest unit
	Rank        int      `json:"rank"`             // from 1: the largest remainder; of equal ones the earlier participant's
	RoundedUp   bool     `json:"rounded_up"`       // gets one of the units that remained
	Amount      Amount   `json:"amount"`           // is paid
}

// Fraction is an exact number as text.
type Fraction struct {
	Fraction string `json:"fraction"` // such as 10/3, or 4
	Decimal  string `json:"decimal"`  // the same, rounded to 30 decimals if it has more
}

func fractionOf(r *big.Rat) Fraction {
	digits, exact := r.FloatPrec()
	if !exact || digits > 30 {
		digits = 30
	}
	return Fraction{Fraction: r.RatString(), Decimal: r.FloatString(digits)}
}

// Explain decides about an outcome as Settle does if the session has no entry in the ledger
// and the outcome is trusted, and returns how the decision was derived. It explains a closed
// session as it was before its close.
func (p Policies) Explain(o Outcome, limits Limits, s Session) (Decision, Derivation) {
	d := Derivation{Steps: []DerivedStep{}, Assets: []DerivedAsset{}, Limits: []LimitUse{}}
	policy, known := p[o.Scenario]
	switch {
	case o.Invalid != nil:
		return Decision{Action: ActionFail, Failure: o.Invalid}, d
	case !known:
		return Decision{Action: ActionFail, Failure: noPolicy(o.Scenario)}, d
	}
	if f := policy.Check(o); f != nil {
		return Decision{Action: ActionFail, Failure: f}, d
	}
	if !s.Open && o.Expect != nil { // the close changed the version
		o.Expect = &Expect{Totals: o.Expect.Totals}
	}
	s = s.BeforeClose()
	decision := Next(Observation{Outcome: o, Policy: policy, Limits: limits, Session: s, MaxAttempts: 1, Derivation: &d})
	return decision, d
}

// BeforeClose returns a closed session as it was before its close, as far as the node shows
// that; an open one unchanged. Of payouts that include withdrawals, the close made the last, one for each
// participant and asset.
func (s Session) BeforeClose() Session {
	switch {
	case s.Open:
		return s
	case s.Versioned:
		s = s.AsFunded()
	default:
		rows := len(s.Participants) * len(sums(s.Deposits))
		s.Payouts = s.Payouts[:max(len(s.Payouts)-rows, 0)]
	}
	s.Open = true
	return s
}

// The methods below record. They do nothing for a nil Derivation, by which a settlement
// makes its plans.

func (d *Derivation) addSteps(steps []PolicyStep, shares []*big.Rat) {
	if d == nil {
		return
	}
	for i, step := range steps {
		d.Steps = append(d.Steps, DerivedStep{PolicyStep: step, Fraction: fractionOf(shares[i]), Payees: []DerivedPayee{}})
	}
}

func (d *Derivation) addPayee(step int, p Participant, part *big.Rat) {
	if d == nil {
		return
	}
	at := &d.Steps[step]
	at.Payees = append(at.Payees, DerivedPayee{p.Spelling, fractionOf(part)})
}

func (d *Derivation) addAsset(s Session, t Total) {
	if d == nil {
		return
	}
	a := DerivedAsset{Total: t, Decimals: s.unit(t), Participants: make([]DerivedRow, len(s.Participants))}
	for i, p := range s.Participants {
		a.Participants[i].Participant = p.Spelling
	}
	d.Assets = append(d.Assets, a)
}

// addFunding records what each participant put into the asset that was added last.
func (d *Derivation) addFunding(net []Amount) {
	if d == nil {
		return
	}
	for i, amount := range net {
		d.Assets[len(d.Assets)-1].Participants[i].Funded = &amount
	}
}

// addRounding records how the asset that was added last is divided. Quotas are in its units.
func (d *Derivation) addRounding(quotas []*big.Rat, r rounding) {
	if d == nil {
		return
	}
	a := &d.Assets[len(d.Assets)-1]
	unit := new(big.Rat).SetFrac(big.NewInt(1), new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(a.Decimals)), nil))
	for i := range a.Participants {
		row := &a.Participants[i]
		row.Quota, row.Remainder = fractionOf(new(big.Rat).Mul(quotas[i], unit)), fractionOf(r.remainders[i])
		row.Amount = r.amounts[i]
	}
	for rank, i := range r.order {
		a.Participants[i].Rank, a.Participants[i].RoundedUp = rank+1, rank < r.roundedUp
	}
}

// addAwards records awards by amount, which are not rounded.
func (d *Derivation) addAwards(s Session, balance []Total, amounts map[Asset][]Amount) {
	if d == nil {
		return
	}
	for _, t := range balance {
		d.addAsset(s, t)
		quotas := make([]*big.Rat, len(s.Participants))
		for i, amount := range amounts[t.Asset] {
			quotas[i] = new(big.Rat).SetInt(amount.Units(s.unit(t)))
		}
		d.addRounding(quotas, roundLargestRemainder(quotas, s.unit(t)))
	}
}

func (d *Derivation) addLimits(limits Limits, scenario Scenario, allocations []Allocation) {
	if d == nil {
		return
	}
	limits.each(scenario, allocations, func(u LimitUse) bool {
		d.Limits = append(d.Limits, u)
		return true
	})
}
