package settlement

// check holds a session to what the publisher expects of it. Totals that stand
// for what the node hides are not compared with themselves.
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

// compareTotals demands that every asset of the session's balance has exactly
// the wanted total, and that nothing else is wanted.
func compareTotals(want totals, s Session, word string) *Failure {
	balance := totals{}
	for _, t := range s.Balance() {
		balance.add(t.Asset, t.Amount)
	}
	for _, asset := range balance.assets() {
		if !balance[asset].Equal(want[asset]) {
			return Fail(ExpectationFailed, "the session holds %s of %s, %s %s", balance[asset], quote(string(asset)), word, want[asset])
		}
	}
	for _, asset := range want.assets() {
		if _, held := balance[asset]; !held && !want[asset].IsZero() {
			return Fail(ExpectationFailed, "the session holds nothing of %s, %s %s", quote(string(asset)), word, want[asset])
		}
	}
	return nil
}

// awarded are the amounts of a ruling by amount, by asset in the order of
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
		// The node takes a finer amount and rounds it in its database: what it pays
		// would then be neither what was awarded nor what was in the session.
		if unit, held := units[a.Asset]; held && a.Amount.Decimals() > unit {
			return nil, Fail(ExpectationFailed, "awards: %s of %s is finer than its smallest unit (%d decimals)", a.Amount, quote(string(a.Asset)), unit)
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
