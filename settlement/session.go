package settlement

import (
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

func (s Session) participant(a Address) (int, bool) {
	for i, p := range s.Participants {
		if p.Address == a {
			return i, true
		}
	}
	return 0, false
}
