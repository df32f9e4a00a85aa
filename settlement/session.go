package settlement

import (
	"bytes"
	"slices"
	"time"
)

// Participant is one line of the session's definition.
type Participant struct {
	Address  Address
	Spelling string // as the definition has it, byte for byte; what is sent to the node is spelled so
	Weight   int64
}

// Transfer is money that moved between a wallet and the session.
type Transfer struct {
	Wallet Address
	Asset  Asset
	Amount Amount
	At     time.Time // on the node's clock
}

// Session is an app session as one read of the node showed it.
type Session struct {
	ID           SessionID
	Open         bool
	Version      uint64 // 0 where the read could not tell
	Participants []Participant
	Quorum       int64
	Application  string
	Protocol     string
	Deposits     []Transfer // oldest first
	// Payouts, oldest first: withdrawals, and the rows of the close, those of 0
	// included. Where Versioned only what the close paid, once the session is closed.
	Payouts  []Transfer
	Decimals map[Asset]int32

	// Versioned: the node fences by version and settles in two writes, a state
	// update to the split and a close that restates it (nitronode v1). False is a
	// node whose requests expire and whose close carries the split (NitroRPC 0.x).
	Versioned bool
	// Current is the split as the node keeps it, where Versioned; rows of 0 may
	// be there. A closed session has nothing left in it.
	Current []Allocation
	// Undisclosed is what this node does not show of the session.
	Undisclosed Undisclosed
	// Ours: nobody reaches the session's quorum without a key of ours.
	QuorumNeedsUs bool

	// AsOf is an instant on the node's clock before which this read did not
	// begin: the only "now" that settlement knows.
	AsOf time.Time
	// Quiet: the session was seen twice in a row on one connection, open both times
	// or closed both times, both answers quick, with nothing dropped in between.
	ConfirmedStable bool
	// Evidence is the signed answer that showed the state.
	Evidence NodeAnswer

	statedBalance totals // as an outcome states it, where the node hides it
}

// Undisclosed is what a node does not show of a session. The outcome has to say it
// where a policy needs it. Legacy ClearNodes hide all three; nitronode v1 hides
// the funding unless the users' transactions explain the balance exactly.
type Undisclosed struct {
	Balance bool // Deposits, Payouts and Current don't say what is in it
	Funding bool // Deposits don't say who put in what, or not all of it, or nobody looked
	// Payouts don't say what a closed session paid. Where Versioned they may hold what
	// may have been paid: all of it, or more by a withdrawal shortly before.
	Payouts bool
}

// NodeAnswer is a signed answer of the node, kept as evidence.
type NodeAnswer struct {
	URL       string `json:"url"` // without user info and query
	Protocol  string `json:"protocol"`
	Address   string `json:"address"`
	RequestID uint64 `json:"request_id"`
	Response  string `json:"response"` // raw text, the signed bytes
	Signature string `json:"signature"`
}

// sums adds up transfers by asset.
func sums(transfers []Transfer) totals {
	t := totals{}
	for _, tr := range transfers {
		t.add(tr.Asset, tr.Amount)
	}
	return t
}

// assets are all assets of the session, by name. One that was emptied again still
// wants its rows of 0.
func (s Session) assets() []Asset { return s.totals().assets() }

// Balance is what is in the session now, by asset name; an asset that was
// emptied is listed with 0. Where more was paid out than put in it is 0, and
// Overpaid names the asset. Where the node hides it, it is empty until an outcome
// states it.
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

// Overpaid finds an asset of which the node paid out more than was put in. It
// finds nothing where the node doesn't show both.
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

// Unfunded reports whether nothing of any asset is in the session. It never is
// where the node doesn't show that.
func (s Session) Unfunded() bool {
	if s.Undisclosed.Balance {
		return false
	}
	for _, t := range s.Balance() {
		if !t.Amount.IsZero() {
			return false
		}
	}
	return true
}

// AsFunded is the session as it was before anything was paid out. A versioned one
// held, when it was closed, what its close paid.
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

func (s Session) participant(a Address) (int, bool) {
	for i, p := range s.Participants {
		if p.Address == a {
			return i, true
		}
	}
	return 0, false
}

// unit is how many decimals the smallest unit of an asset has: as the node lists
// it, but never coarser than the balance itself, for ClearNode 0.5.2 keeps any
// precision it is given.
func (s Session) unit(t Total) int32 {
	return max(s.Decimals[t.Asset], t.Amount.Decimals())
}

// unlisted: nobody knows an asset's smallest unit. Only where the outcome alone
// says what is in the session; what a node shows of a session it lists.
func (s Session) unlisted(a Asset) bool {
	_, listed := s.Decimals[a]
	return s.Undisclosed.Balance && !listed
}

// funders is what each wallet put in of an asset less what it withdrew, in the
// order of participants; one that withdrew more counts as nothing. ClearNode
// 0.5.2 lets a wallet fund a session that it is no participant of: such wallets
// with something left are returned as strangers, for they can't be paid back.
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
