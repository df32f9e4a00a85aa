package settlement

import "slices"

// Funder is the role that says who funded a session where the node doesn't show
// it. Where the node does, the role counts for nothing.
const Funder = "funder"

// withStatedBalance is the session with what the node hides of its balance filled in from
// the outcome: expect.totals, which names every asset that has one.
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

// funders is what everybody put in of an asset and has not withdrawn, in the
// order of participants; where the node hides it all of it is the one funder's
// that the outcome names.
func (o Outcome) funders(s Session, t Total) ([]Amount, *Failure) {
	if s.Undisclosed.Funding {
		return o.namedFunder(s, t)
	}
	net, strangers := s.funders(t.Asset)
	if len(strangers) > 0 {
		return nil, Fail(NotAParticipant, "%s put %s into the session and is no participant of it: it can't be paid back", strangers[0], quote(string(t.Asset)))
	}
	if !slices.ContainsFunc(net, func(a Amount) bool { return !a.IsZero() }) {
		return nil, Fail(SessionUnfunded, "%s of %s are in the session, but no participant put in more than it withdrew: nobody to give back to", t.Amount, quote(string(t.Asset)))
	}
	return net, nil
}

func (o Outcome) namedFunder(s Session, t Total) ([]Amount, *Failure) {
	party, named := o.Parties[Funder]
	switch {
	case !named:
		return nil, Fail(InvalidOutcome, "this node doesn't show who funded the session: the outcome has to say it in parties.%s", Funder)
	case party.err != nil:
		return nil, Fail(InvalidOutcome, "parties.%s: %s", Funder, party.err)
	case len(party.Addresses) != 1:
		return nil, Fail(InvalidOutcome, "parties.%s: %d addresses, and nothing says what each put in: name exactly one", Funder, len(party.Addresses))
	}
	at, found := s.participant(party.Addresses[0])
	if !found {
		return nil, Fail(NotAParticipant, "%s (parties.%s) is no participant of the session", party.Addresses[0], Funder)
	}
	for _, d := range s.Deposits {
		if d.Wallet != party.Addresses[0] {
			return nil, Fail(ExpectationFailed, "parties.%s says that %s funded the session alone, and the node shows that %s put in %s of %s", Funder, party.Addresses[0], d.Wallet, d.Amount, quote(string(d.Asset)))
		}
	}
	net := make([]Amount, len(s.Participants))
	net[at] = t.Amount
	return net, nil
}

// closedUndisclosed decides about a closed session of which the node doesn't show what
// it paid. Where nobody closes it without a key of ours, and an intent of this
// outcome holds it, that intent's request closed it: the one before it could land
// no more when it was recorded.
func (obs Observation) closedUndisclosed() Decision {
	if obs.Session.QuorumNeedsUs && obs.Intent != nil && obs.Refused == nil && !obs.recordedByOtherProtocol() && obs.closedByIntent() {
		return Decision{Action: ActionDone, Plan: obs.Intent.plan()}
	}
	return obs.closedElsewhere(Fail(ClosedElsewhere, "the session is closed at the node, which doesn't show what it paid, and nothing proves that it was this outcome's request: ask the participants for their balances at the node, and compare them with what the policy pays"))
}

// closedByIntent holds the version of a closed session to the close that the
// intent may send: one above its base, or two.
func (obs Observation) closedByIntent() bool {
	if !obs.Session.Versioned {
		return true
	}
	base := *obs.Intent.BaseVersion
	return obs.Session.Version == base+1 || obs.Session.Version == base+2
}
