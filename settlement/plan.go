package settlement

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

// PolicyRef names the policy that an allocation was made by.
type PolicyRef struct {
	Name   string `json:"name"`   // the scenario
	Digest string `json:"digest"` // SHA-256 of the steps in RFC 8785 form, lower-case hex
}

// Ref returns the policy's name and digest.
func (p Policy) Ref() PolicyRef { return PolicyRef{Name: string(p.Scenario), Digest: p.digest} }

// Plan makes the final allocation of the session for an outcome, if the session is as the
// outcome expects it. A Failure says why there can be none.
func (p Policy) Plan(o Outcome, s Session) (*Plan, *Failure) { return p.plan(o, s, nil) }

// plan is Plan that also records the derivation, unless that is nil.
func (p Policy) plan(o Outcome, s Session, d *Derivation) (*Plan, *Failure) {
	if o.Invalid != nil {
		return nil, o.Invalid
	}
	if f := o.Expect.check(s); f != nil {
		return nil, f
	}
	return p.allocate(o, s, d)
}

// check compares a session with what the publisher expects of it. Totals that state a
// balance which the node doesn't show are not compared with themselves.
func (e *Expect) check(s Session) *Failure {
	if e == nil {
		return nil
	}
	if e.Version != nil && *e.Version != s.Version {
		return Fail(ExpectationFailed, "the session's version is %d, expected %d", s.Version, *e.Version)
	}
	if e.Totals == nil || s.Undisclosed.Balance {
		return nil
	}
	expected := totals{}
	for _, t := range e.Totals {
		expected.add(t.Asset, t.Amount)
	}
	return compareTotals(expected, s, "expected")
}

// compareTotals fails unless every asset of the session's balance has exactly the wanted
// total, and no other asset is wanted.
func compareTotals(want totals, s Session, word string) *Failure {
	balance := s.totals()
	for _, asset := range balance.assets() {
		if !balance[asset].Equal(want[asset]) {
			return Fail(ExpectationFailed, "the session holds %s of %s, %s %s", balance[asset], Quote(string(asset)), word, want[asset])
		}
	}
	for _, asset := range want.assets() {
		if _, held := balance[asset]; !held && !want[asset].IsZero() {
			return Fail(ExpectationFailed, "the session holds nothing of %s, %s %s", Quote(string(asset)), word, want[asset])
		}
	}
	return nil
}

// Allocate is Plan without the outcome's expectations. Its result is compared with what
// was paid.
func (p Policy) Allocate(o Outcome, s Session) (*Plan, *Failure) { return p.allocate(o, s, nil) }

func (p Policy) allocate(o Outcome, s Session, d *Derivation) (*Plan, *Failure) {
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
	balance := s.Balance() // also of assets that were withdrawn completely: they get rows of 0
	if rows := len(s.Participants) * len(balance); rows > MaxRows {
		return nil, Fail(AllocationRejected, "the final allocation would have %d rows, more than the %d that fit into one ledger entry", rows, MaxRows)
	}
	plan := &Plan{Policy: p.Ref(), Session: s.ID, BaseVersion: s.Version}
	amounts, f := p.amounts(o, s, balance, d)
	if f != nil {
		return nil, f
	}
	plan.fill(s, balance, amounts)
	return plan, plan.conserves(balance)
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

// withStatedBalance returns the session with the balance that the outcome states
// (expect.totals, which names every asset), if the node doesn't show it.
func (o Outcome) withStatedBalance(s Session) (Session, *Failure) {
	if !s.Undisclosed.Balance {
		return s, nil
	}
	if o.Expect == nil || o.Expect.Totals == nil {
		return s, Fail(InvalidOutcome, "this node doesn't show what is in a session: the outcome has to say it in expect.totals")
	}
	balance := totals{}
	for _, t := range o.Expect.Totals {
		if !t.Amount.IsZero() {
			balance.add(t.Asset, t.Amount)
		}
	}
	if len(balance) == 0 {
		return s, Fail(SessionUnfunded, "the outcome says in expect.totals that nothing is in the session, and this node doesn't show otherwise")
	}
	s.statedBalance = balance
	return s, nil
}

// amounts returns what is due of each asset, in the order of participants.
func (p Policy) amounts(o Outcome, s Session, balance []Total, d *Derivation) (map[Asset][]Amount, *Failure) {
	if p.awardsAmounts(o) {
		amounts, f := o.awarded(s, balance)
		if f == nil {
			d.addAwards(s, balance, amounts)
		}
		return amounts, f
	}
	weights, f := p.weights(o, s, d)
	if f != nil {
		return nil, f
	}
	amounts := map[Asset][]Amount{}
	for _, t := range balance {
		d.addAsset(s, t)
		quotas, f := weights.quotas(s, t)
		if f != nil {
			return nil, f
		}
		if s.unlisted(t.Asset) && !whole(quotas) {
			return nil, Fail(AllocationRejected, "the node does not list asset %s: its smallest unit is not known, and %s of it can't be divided", Quote(string(t.Asset)), t.Amount)
		}
		rounded := roundLargestRemainder(quotas, s.unit(t))
		d.addRounding(quotas, rounded)
		amounts[t.Asset] = rounded.amounts
	}
	return amounts, nil
}

// awardsAmounts reports whether the policy pays awards, and the outcome awards amounts.
// Awards that the policy doesn't name are ignored.
func (p Policy) awardsAmounts(o Outcome) bool {
	return len(p.rules) == 1 && p.rules[0].payee == toAwards && len(o.Awards) > 0 && o.Awards[0].Share == nil
}

// awarded returns the amounts of a ruling by amount, by asset, in the order of
// participants. They must sum to exactly the balance.
func (o Outcome) awarded(s Session, balance []Total) (map[Asset][]Amount, *Failure) {
	amounts, units := map[Asset][]Amount{}, map[Asset]int32{}
	for _, t := range balance {
		amounts[t.Asset] = make([]Amount, len(s.Participants))
		units[t.Asset] = s.unit(t)
	}
	sum := totals{}
	for _, a := range o.Awards {
		at, found := s.participant(a.Participant)
		if !found {
			return nil, Fail(NotAParticipant, "%s (awards) is not a participant of the session", a.Participant)
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

// fill adds a row for every participant and asset. Amounts are by asset, in the order of
// participants.
func (p *Plan) fill(s Session, balance []Total, amounts map[Asset][]Amount) {
	p.Allocations = make([]Allocation, 0, len(s.Participants)*len(balance))
	for i, participant := range s.Participants {
		for _, t := range balance {
			a := Allocation{Participant: participant.Spelling, Asset: t.Asset}
			if by := amounts[t.Asset]; by != nil {
				a.Amount = by[i]
			}
			p.Allocations = append(p.Allocations, a)
		}
	}
}

// conserves is the last check before money moves: the plan pays exactly what is in the
// session.
func (p *Plan) conserves(balance []Total) *Failure {
	out := totals{}
	for _, a := range p.Allocations {
		out.add(a.Asset, a.Amount)
	}
	for _, t := range balance {
		if !out[t.Asset].Equal(t.Amount) {
			return Fail(AllocationRejected, "the plan pays %s of %s and the session holds %s: internal error (a bug): please report it", out[t.Asset], Quote(string(t.Asset)), t.Amount)
		}
	}
	return nil
}
