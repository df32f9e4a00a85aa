package clearnodetest

import (
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/shopspring/decimal"
)

// The types of transactions that are simulated.
const (
	v1HomeDeposit    = 10 // channel to wallet
	v1HomeWithdrawal = 11 // wallet to channel
	v1Commit         = 40 // wallet to session
	v1Release        = 41 // session to wallet
)

// purse is a wallet's channel of one asset. Every change of it is a new state.
type purse struct{ wallet, asset string }

// channels are the wallets' states, and the transactions between them and the sessions. Amounts are in the book.
type channels struct {
	states       map[purse]uint64      // how many there were
	escrows      map[purse]bool        // an operation on chain is pending, so nothing can be released to it
	keys         map[sessionKey]string // the wallet that each signs for
	transactions []*v1Transaction
}

// sessionKey is a key, in EIP-55, that may sign for a wallet in the sessions of an application.
type sessionKey struct{ address, application string }

type v1Transaction struct {
	id, asset string
	kind      int
	from, to  string // in lower case
	sender    string // the sender's new state; empty: none
	receiver  string // the receiver's
	amount    decimal.Decimal
	at        time.Time
}

func newChannels() *channels {
	return &channels{states: map[purse]uint64{}, escrows: map[purse]bool{}, keys: map[sessionKey]string{}}
}

// advance makes a wallet's next state and returns its id.
func (c *channels) advance(wallet, asset string) string {
	p := purse{wallet, asset}
	c.states[p]++
	return crypto.Keccak256Hash(abiTuple(abiAddress(wallet), abiText(asset), abiNumber(0), abiNumber(c.states[p]))).Hex()
}

// id is a transaction's: of the other side's account and the new state.
func (c *channels) id(account, state string) string {
	return crypto.Keccak256Hash(abiTuple(abiText(account), abiHash(state))).Hex()
}

func (c *channels) release(session string, a Allocation, at time.Time) {
	state := c.advance(a.Participant, a.Asset)
	c.transactions = append(c.transactions, &v1Transaction{
		id: c.id(session, state), asset: a.Asset, kind: v1Release, from: session, to: strings.ToLower(a.Participant),
		receiver: state, amount: a.Amount, at: at,
	})
}

func (c *channels) send(kind int, account string, a Allocation, at time.Time) {
	state := c.advance(a.Participant, a.Asset)
	t := &v1Transaction{
		id: c.id(account, state), asset: a.Asset, kind: kind, from: strings.ToLower(a.Participant), to: account,
		sender: state, amount: a.Amount, at: at,
	}
	if kind == v1HomeDeposit {
		t.from, t.to = t.to, t.from
	}
	c.transactions = append(c.transactions, t)
}

// seeV1 fills a new wallet from the faucet.
func (n *Node) seeV1(wallet string) {
	if n.book.seen[wallet] {
		return
	}
	n.book.seen[wallet] = true
	if !n.book.faucet.IsPositive() {
		return
	}
	for _, a := range n.cfg.Assets {
		n.fundV1(wallet, a.Symbol, n.book.faucet)
	}
}

// fundV1 gives a wallet money by its channel, or takes it away.
func (n *Node) fundV1(wallet, asset string, amount decimal.Decimal) {
	n.book.fund(wallet, asset, amount)
	kind := v1HomeDeposit
	if amount.IsNegative() {
		kind = v1HomeWithdrawal
	}
	if !amount.IsZero() {
		channel := crypto.Keccak256Hash([]byte(wallet), []byte(asset))
		channel[0] = 1 // the contract's version
		n.channels.send(kind, channel.Hex(), Allocation{wallet, asset, amount.Abs()}, n.cfg.Now())
	}
}

// releasable tells whether the node can pay all it is to pay now.
func (n *Node) releasable(moves []v1Move) error {
	for _, m := range moves {
		if m.paid && n.channels.escrows[purse{m.wallet, m.asset}] {
			return refusal("failed to issue release state for participant " + strings.ToLower(m.wallet) +
				": cannot issue release receiver state: escrow lock is still ongoing")
		}
	}
	return nil
}

// HoldEscrow makes an escrow operation of a wallet's asset pending, until ReleaseEscrow: whatever would pay it that asset, a
// close for one, is refused. NitronodeV1 only.
func (n *Node) HoldEscrow(wallet common.Address, asset string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.channels.escrows[purse{wallet.Hex(), asset}] = true
}

// ReleaseEscrow ends what HoldEscrow began.
func (n *Node) ReleaseEscrow(wallet common.Address, asset string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.channels.escrows, purse{wallet.Hex(), asset})
}

// AddSessionKey lets a key sign for a wallet in all sessions of an application, for ever; no request is needed.
// NitronodeV1 only.
func (n *Node) AddSessionKey(wallet, key common.Address, application string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.channels.keys[sessionKey{key.Hex(), application}] = wallet.Hex()
}
