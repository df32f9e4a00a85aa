package settlement

import (
	"bytes"
	"maps"
	"slices"
)

// Total is an amount of one asset.
type Total struct {
	Asset  Asset  `json:"asset"`
	Amount Amount `json:"amount"`
}

// totals sums amounts by asset.
type totals map[Asset]Amount

func (t totals) add(asset Asset, a Amount) { t[asset] = t[asset].Add(a) }

// assets returns the names in order, so that nothing depends on map iteration.
func (t totals) assets() []Asset {
	return slices.Sorted(maps.Keys(t))
}

// sums adds up transfers by asset.
func sums(transfers []Transfer) totals {
	t := totals{}
	for _, tr := range transfers {
		t.add(tr.Asset, tr.Amount)
	}
	return t
}

// Balance returns what is in the session now, by asset name. An asset that was withdrawn
// completely has the amount 0; so has one of which more was paid out than put in (Overpaid).
// If the node does not show the balance, it is empty until an outcome states it.
func (s Session) Balance() []Total {
	held := s.totals()
	balance := make([]Total, 0, len(held))
	for _, asset := range held.assets() {
		balance = append(balance, Total{Asset: asset, Amount: held[asset]})
	}
	return balance
}

func (s Session) totals() totals {
	if s.Undisclosed.Balance {
		return s.statedBalance
	}
	held := totals{}
	if s.Versioned {
		for _, a := range s.Current {
			held.add(a.Asset, a.Amount)
		}
		return held
	}
	out := sums(s.Payouts)
	for asset, in := range sums(s.Deposits) {
		held[asset], _ = in.Sub(out[asset]) // 0 where it would be below
	}
	return held
}

// assets returns all assets of the session, by name. One that was withdrawn completely
// still gets rows of 0.
func (s Session) assets() []Asset { return s.totals().assets() }

// Unfunded reports whether the session holds nothing of any asset. It is false if the node
// doesn't show the balance.
func (s Session) Unfunded() bool {
	return !s.Undisclosed.Balance && !slices.ContainsFunc(s.Balance(), func(t Total) bool { return !t.Amount.IsZero() })
}

// Overpaid finds an asset of which the node paid out more than was put in. It finds none
// if the node doesn't show both.
func (s Session) Overpaid() (asset Asset, in, out Amount, found bool) {
	if s.Undisclosed.Funding || s.Undisclosed.Payouts {
		return "", Amount{}, Amount{}, false
	}
	deposits, payouts := sums(s.Deposits), sums(s.Payouts)
	for _, a := range payouts.assets() {
		if payouts[a].Cmp(deposits[a]) > 0 {
			return a, deposits[a], payouts[a], true
		}
	}
	return "", Amount{}, Amount{}, false
}

// AsFunded returns the session as it was before anything was paid out. A closed versioned
// session held what its close paid.
func (s Session) AsFunded() Session {
	if s.Versioned && !s.Open {
		s.Current = make([]Allocation, len(s.Payouts))
		for i, p := range s.Payouts {
			s.Current[i] = Allocation{Participant: p.Wallet.String(), Asset: p.Asset, Amount: p.Amount}
		}
	}
	s.Payouts = nil
	return s
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

// funders returns what each participant put in of an asset less what it withdrew, in the
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

// Funder is the role that says who funded a session if the node doesn't show it. If the
// node does, the role is ignored.
const Funder = "funder"

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

// funders returns what each participant put in of an asset and has not withdrawn, in the
// order of participants. If the node doesn't show that, everything was put in by the one
// funder that the outcome names.
func (o Outcome) funders(s Session, t Total) ([]Amount, *Failure) {
	if s.Undisclosed.Funding {
		return o.namedFunder(s, t)
	}
	net, strangers := s.funders(t.Asset)
	if len(strangers) > 0 {
		return nil, Fail(NotAParticipant, "%s put %s into the session and is no participant of it: it can't be paid back", strangers[0], Quote(string(t.Asset)))
	}
	if !slices.ContainsFunc(net, func(a Amount) bool { return !a.IsZero() }) {
		return nil, Fail(SessionUnfunded, "%s of %s are in the session, but no participant put in more than it withdrew: there is no one to pay it back to", t.Amount, Quote(string(t.Asset)))
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
			return nil, Fail(ExpectationFailed, "parties.%s says that %s funded the session alone, and the node shows that %s put in %s of %s", Funder, party.Addresses[0], d.Wallet, d.Amount, Quote(string(d.Asset)))
		}
	}
	net := make([]Amount, len(s.Participants))
	net[at] = t.Amount
	return net, nil
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
