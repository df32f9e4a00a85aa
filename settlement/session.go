package settlement

import (
	"slices"
	"time"
)

// Participant is one line of the session's definition.
type Participant struct {
	Address  Address
	Spelling string // as in the definition, byte for byte; requests to the node use it
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
	Version      uint64 // 0 if the read did not show it
	Participants []Participant
	Quorum       int64
	Application  string
	Protocol     string
	Deposits     []Transfer // oldest first
	// Payouts, oldest first: withdrawals, and the rows of the close, including those of 0.
	// If Versioned, only what the close paid, once the session is closed.
	Payouts  []Transfer
	Decimals map[Asset]int32

	// Versioned: the session's version is the fence, and settling takes two requests, a
	// state update to the final allocation and a close that repeats it (nitronode v1). If
	// false, requests expire and the close carries the allocation (NitroRPC 0.x).
	Versioned bool
	// Current is the allocation as the node keeps it, if Versioned; it may have rows of 0.
	// A closed session has nothing left in it.
	Current []Allocation
	// Undisclosed is what this node does not show of the session.
	Undisclosed Undisclosed
	// QuorumNeedsUs: no one reaches the session's quorum without a key of ours.
	QuorumNeedsUs bool

	// AsOf is an instant on the node's clock at which this read had not yet begun. It is
	// the only current time that settlement uses.
	AsOf time.Time
	// ConfirmedStable: two reads in a row on one connection both showed the session open,
	// or both closed; both answers were quick, and no message was lost in between.
	ConfirmedStable bool
	// Evidence is the answer that showed the state.
	Evidence NodeAnswer

	statedBalance totals // as an outcome states it, if the node doesn't show it
}

// Undisclosed is what a node does not show of a session. If a policy needs it, the outcome
// has to state it. Legacy ClearNodes disclose none of the three; nitronode v1 discloses the
// funding only if the users' transactions explain the balance exactly.
type Undisclosed struct {
	Balance bool // Deposits, Payouts and Current don't say what is in it
	Funding bool // Deposits don't say who deposited what, or not all of it, or were not read
	// Payouts don't say what a closed session paid. If Versioned, they may hold more than
	// that: also a withdrawal shortly before the close.
	Payouts bool
}

// NodeAnswer is an answer of the node, kept as evidence. A nitronode does not sign its
// answers: the signature is then empty.
type NodeAnswer struct {
	URL       string `json:"url"`        // without user info and query
	Protocol  string `json:"protocol"`   // generation of the node
	Address   string `json:"address"`    // of the node
	RequestID uint64 `json:"request_id"` // that was answered
	Response  string `json:"response"`   // raw text, the signed bytes
	Signature string `json:"signature"`  // of the node over the response; empty if its generation signs no answers
}

func (s Session) participant(a Address) (int, bool) {
	i := slices.IndexFunc(s.Participants, func(p Participant) bool { return p.Address == a })
	return i, i >= 0
}
