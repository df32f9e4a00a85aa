package settlement

import (
	"math/big"
)

// Allocation is what one participant gets of one asset.
type Allocation struct {
	Participant string `json:"participant"` // spelled as the session's definition spells it
	Asset       Asset  `json:"asset"`
	Amount      Amount `json:"amount"`
}

// MaxRows is how many rows an allocation may have. A closed entry holds them together with
// evidence and the node's answer, and must fit into one NATS message (1 MiB).
const MaxRows = 2000

// Plan is a final allocation made from one read of a session. It lists every participant
// and every asset, also with an amount of 0, in the order of participants, then assets by
// name.
type Plan struct {
	Policy      PolicyRef
	Session     SessionID
	BaseVersion uint64 // the version of the session that it was made from
	Allocations []Allocation
}

// Plan makes the final allocation of the session for an outcome, if the session is as the
// outcome expects it. A Failure says why there can be none.
func (p Policy) Plan(o Outcome, s Session) (*Plan, *Failure) {
	if o.Invalid != nil {
		return nil, o.Invalid
	}
	if f := o.Expect.check(s); f != nil {
		return nil, f
	}
	return p.Allocate(o, s)
}

// Allocate is Plan without the outcome's expectations. Its result is compared with what
// was paid.
func (p Policy) Allocate(o Outcome, s Session) (*Plan, *Failure) {
	if len(p.rules) == 0 {
		return nil, Fail(UnknownScenario, "no policy named %s", o.Scenario)
	}
	if f := p.Check(o); f != nil {
		return nil, f
	}
	if f := s.checkParticipants(); f != nil {
		return nil, f
	}
	s, f := o.withStatedBalance(s)
	if f != nil {
		return nil, f
	}
	if rows := len(s.Participants) * len(s.assets()); rows > MaxRows {
		return nil, Fail(AllocationRejected, "the final allocation would have %d rows, more than the %d that fit into one ledger entry", rows, MaxRows)
	}
	plan := &Plan{Policy: p.Ref(), Session: s.ID, BaseVersion: s.Version}
	amounts, f := p.amounts(o, s)
	if f != nil {
		return nil, f
	}
	plan.fill(s, amounts)
	return plan, plan.conserves(s)
}

// amounts returns what is due of each asset, in the order of participants.
func (p Policy) amounts(o Outcome, s Session) (map[Asset][]Amount, *Failure) {
	if p.awardsAmounts(o) {
		return o.awarded(s)
	}
	weights, f := p.weights(o, s)
	if f != nil {
		return nil, f
	}
	amounts := map[Asset][]Amount{}
	for _, t := range s.Balance() {
		quotas, f := weights.quotas(s, t)
		if f != nil {
			return nil, f
		}
		if s.unlisted(t.Asset) && !whole(quotas) {
			return nil, Fail(AllocationRejected, "the node does not list asset %s: its smallest unit is not known, and %s of it can't be divided", Quote(string(t.Asset)), t.Amount)
		}
		amounts[t.Asset] = roundLargestRemainder(quotas, s.unit(t))
	}
	return amounts, nil
}

// conserves is the last check before money moves: the plan pays exactly what is in the
// session.
func (p *Plan) conserves(s Session) *Failure {
	out := totals{}
	for _, a := range p.Allocations {
		out.add(a.Asset, a.Amount)
	}
	for _, t := range s.Balance() {
		if !out[t.Asset].Equal(t.Amount) {
			return Fail(AllocationRejected, "the plan pays %s of %s and the session holds %s: internal error (a bug): please report it", out[t.Asset], Quote(string(t.Asset)), t.Amount)
		}
	}
	return nil
}

// checkParticipants refuses a definition that lists an account twice: the rows of an
// allocation name participants by their accounts.
func (s Session) checkParticipants() *Failure {
	seen := map[Address]bool{}
	for _, p := range s.Participants {
		if seen[p.Address] {
			return Fail(AllocationRejected, "the session lists participant %s twice; it can't be settled by address", p.Address)
		}
		seen[p.Address] = true
	}
	return nil
}

// fill adds a row for every participant and asset. Amounts are by asset, in the order of
// participants.
func (p *Plan) fill(s Session, amounts map[Asset][]Amount) {
	assets := s.assets()
	for i, participant := range s.Participants {
		for _, asset := range assets {
			a := Allocation{Participant: participant.Spelling, Asset: asset}
			if by := amounts[asset]; by != nil {
				a.Amount = by[i]
			}
			p.Allocations = append(p.Allocations, a)
		}
	}
}

// weights is how a policy divides a session for one outcome: every participant gets a
// fixed fraction of each asset, and the funders' fraction is divided by what each put in of
// that asset.
type weights struct {
	fixed   []*big.Rat // by participant
	funders *big.Rat
	outcome Outcome // names the funder if the node doesn't show it
}

func (p Policy) weights(o Outcome, s Session) (weights, *Failure) {
	shares, f := p.shares(o)
	if f != nil {
		return weights{}, f
	}
	w := weights{fixed: make([]*big.Rat, len(s.Participants)), funders: new(big.Rat), outcome: o}
	for i := range w.fixed {
		w.fixed[i] = new(big.Rat)
	}
	for i, r := range p.rules {
		if r.payee == toFunders {
			w.funders.Add(w.funders, shares[i])
			continue
		}
		for _, payee := range r.payees(o) {
			at, found := s.participant(payee.address)
			if !found {
				return weights{}, Fail(NotAParticipant, "%s (%s) is no participant of the session", payee.address, p.Steps[i].To)
			}
			w.fixed[at].Add(w.fixed[at], new(big.Rat).Mul(shares[i], payee.part))
		}
	}
	return w, nil
}

// payee is one address and its part of a step's share.
type payee struct {
	address Address
	part    *big.Rat
}

func (r rule) payees(o Outcome) []payee {
	switch r.payee {
	case toAddress:
		return []payee{{r.address, one}}
	case toAwards:
		payees := make([]payee, len(o.Awards))
		for i, a := range o.Awards {
			payees[i] = payee{a.Participant, a.Share}
		}
		return payees
	default:
		addresses := o.Parties[r.role].Addresses
		payees := make([]payee, len(addresses))
		for i, a := range addresses {
			payees[i] = payee{a, big.NewRat(1, int64(len(addresses)))}
		}
		return payees
	}
}

// quotas returns the exact parts of a balance, in units, by participant.
func (w weights) quotas(s Session, t Total) ([]*big.Rat, *Failure) {
	balance := new(big.Rat).SetFrac(t.Amount.Units(s.unit(t)), big.NewInt(1))
	quotas := make([]*big.Rat, len(w.fixed))
	for i, share := range w.fixed {
		quotas[i] = new(big.Rat).Mul(balance, share)
	}
	if w.funders.Sign() == 0 || t.Amount.IsZero() {
		return quotas, nil
	}
	net, f := w.outcome.funders(s, t)
	if f != nil {
		return nil, f
	}
	all := Amount{}
	for _, n := range net {
		all = all.Add(n)
	}
	for i, n := range net {
		part := new(big.Rat).Quo(n.d.Rat(), all.d.Rat())
		part.Mul(part, w.funders)
		quotas[i].Add(quotas[i], part.Mul(part, balance))
	}
	return quotas, nil
}

// awardsAmounts reports whether the policy pays awards, and the outcome awards amounts.
// Awards that the policy doesn't name are ignored.
func (p Policy) awardsAmounts(o Outcome) bool {
	return len(p.rules) == 1 && p.rules[0].payee == toAwards && len(o.Awards) > 0 && o.Awards[0].Share == nil
}

// awarded returns the amounts of a ruling by amount, by asset, in the order of
// participants. They must sum to exactly the balance.
func (o Outcome) awarded(s Session) (map[Asset][]Amount, *Failure) {
	amounts, units := map[Asset][]Amount{}, map[Asset]int32{}
	for _, t := range s.Balance() {
		amounts[t.Asset] = make([]Amount, len(s.Participants))
		units[t.Asset] = s.unit(t)
	}
	sum := totals{}
	for _, a := range o.Awards {
		at, found := s.participant(a.Participant)
		if !found {
			return nil, Fail(NotAParticipant, "%s (awards) is no participant of the session", a.Participant)
		}
		// The node accepts a finer amount and rounds it in its database: what it pays would
		// be neither what was awarded nor what was in the session.
		if unit, held := units[a.Asset]; held && a.Amount.Decimals() > unit {
			return nil, Fail(ExpectationFailed, "awards: %s of %s is finer than its smallest unit (%d decimals)", a.Amount, Quote(string(a.Asset)), unit)
		}
		sum.add(a.Asset, a.Amount)
		if by := amounts[a.Asset]; by != nil {
			by[at] = by[at].Add(a.Amount)
		}
	}
	if f := compareTotals(sum, s, "awarded"); f != nil {
		return nil, f
	}
	return amounts, nil
}
