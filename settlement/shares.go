package settlement

import (
	"bytes"
	"math/big"
	"slices"
)

// weights is how a policy divides a session for one outcome: every participant gets a
// fixed fraction of each asset, and the funders' fraction is divided by what each deposited of
// that asset.
type weights struct {
	fixed   []*big.Rat // by participant
	funders *big.Rat
	outcome Outcome // names the funder if the node doesn't show it

	derivation *Derivation // nil: not recorded
}

func (p Policy) weights(o Outcome, s Session, d *Derivation) (weights, *Failure) {
	shares, f := p.shares(o)
	if f != nil {
		return weights{}, f
	}
	w := weights{fixed: make([]*big.Rat, len(s.Participants)), funders: new(big.Rat), outcome: o, derivation: d}
	d.addSteps(p.Steps, shares)
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
				return weights{}, Fail(NotAParticipant, "%s (%s) is not a participant of the session", payee.address, p.Steps[i].To)
			}
			d.addPayee(i, s.Participants[at], payee.part)
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
	w.derivation.addFunding(net)
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

// unit returns how many decimals the smallest unit of an asset has: as the node lists it,
// but no fewer than the balance has, since ClearNode 0.5.2 accepts any precision.
func (s Session) unit(t Total) int32 {
	return max(s.Decimals[t.Asset], t.Amount.Decimals())
}

// unlisted reports whether an asset's smallest unit is unknown. That is possible only if
// the outcome alone says what is in the session; a node lists every asset that it shows.
func (s Session) unlisted(a Asset) bool {
	_, listed := s.Decimals[a]
	return s.Undisclosed.Balance && !listed
}

// Funder is the role that says who funded a session if the node doesn't show it. If the
// node does, the role is ignored.
const Funder = "funder"

// funders returns what each participant deposited of an asset and has not withdrawn, in the
// order of participants. If the node doesn't show that, everything was deposited by the one
// funder that the outcome names.
func (o Outcome) funders(s Session, t Total) ([]Amount, *Failure) {
	if s.Undisclosed.Funding {
		return o.namedFunder(s, t)
	}
	net, strangers := s.funders(t.Asset)
	if len(strangers) > 0 {
		return nil, Fail(NotAParticipant, "%s deposited %s into the session and is not a participant: it can't be paid back", strangers[0], Quote(string(t.Asset)))
	}
	if !slices.ContainsFunc(net, func(a Amount) bool { return !a.IsZero() }) {
		return nil, Fail(SessionUnfunded, "%s of %s are in the session, but no participant deposited more than it withdrew: there is no one to pay it back to", t.Amount, Quote(string(t.Asset)))
	}
	return net, nil
}

// funders returns what each participant deposited of an asset less what it withdrew, in the
// order of participants; 0 if it withdrew more. ClearNode 0.5.2 lets a wallet fund a session
// in which it is no participant. Such wallets with a remainder are returned as strangers:
// they can't be paid back.
func (s Session) funders(asset Asset) (net []Amount, strangers []Address) {
	in, out := byWallet(s.Deposits, asset), byWallet(s.Payouts, asset)
	net = make([]Amount, len(s.Participants))
	for wallet, amount := range in {
		left, err := amount.Sub(out[wallet])
		if err != nil || left.IsZero() {
			continue
		}
		if at, found := s.participant(wallet); found {
			net[at] = left
		} else {
			strangers = append(strangers, wallet)
		}
	}
	slices.SortFunc(strangers, func(a, b Address) int { return bytes.Compare(a[:], b[:]) })
	return net, strangers
}

func byWallet(transfers []Transfer, asset Asset) map[Address]Amount {
	m := map[Address]Amount{}
	for _, t := range transfers {
		if t.Asset == asset {
			m[t.Wallet] = m[t.Wallet].Add(t.Amount)
		}
	}
	return m
}

func (o Outcome) namedFunder(s Session, t Total) ([]Amount, *Failure) {
	party, named := o.Parties[Funder]
	switch {
	case !named:
		return nil, Fail(InvalidOutcome, "this node doesn't show who funded the session: the outcome has to say it in parties.%s", Funder)
	case party.err != nil:
		return nil, Fail(InvalidOutcome, "parties.%s: %s", Funder, party.err)
	case len(party.Addresses) != 1:
		return nil, Fail(InvalidOutcome, "parties.%s: %d addresses, and nothing says what each deposited: name exactly one", Funder, len(party.Addresses))
	}
	at, found := s.participant(party.Addresses[0])
	if !found {
		return nil, Fail(NotAParticipant, "%s (parties.%s) is not a participant of the session", party.Addresses[0], Funder)
	}
	for _, d := range s.Deposits {
		if d.Wallet != party.Addresses[0] {
			return nil, Fail(ExpectationFailed, "parties.%s says that %s funded the session alone, and the node shows that %s deposited %s of %s", Funder, party.Addresses[0], d.Wallet, d.Amount, Quote(string(d.Asset)))
		}
	}
	net := make([]Amount, len(s.Participants))
	net[at] = t.Amount
	return net, nil
}
