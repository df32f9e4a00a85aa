package nitronode

import (
	"errors"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/shopspring/decimal"
)

// The types of transactions that are simulated.
const (
	homeDeposit    = 10 // channel to wallet
	homeWithdrawal = 11 // wallet to channel
	commit         = 40 // wallet to session
	release        = 41 // session to wallet
)

// channel is a wallet's channel of one asset. Every change of it is a new state.
type channel struct{ wallet, asset string }

// channels are the wallets' channel states, and the transactions between them and the sessions. Amounts are in the ledger.
type channels struct {
	states       map[channel]uint64    // how many there were
	escrows      map[channel]bool      // an operation on chain is pending, so nothing can be released to it
	keys         map[sessionKey]string // the wallet that each signs for
	transactions []*transaction
}

// sessionKey identifies a session key: its address, and the application in whose sessions the
// node accepts its signatures as its wallet's. Addresses have their EIP-55 checksums.
type sessionKey struct{ address, application string }

type transaction struct {
	ID       string          `json:"id"`
	Asset    string          `json:"asset"`
	Kind     int             `json:"tx_type"`
	From     string          `json:"from_account"` // in lower case
	To       string          `json:"to_account"`
	Sender   string          `json:"sender_new_state_id,omitempty"`
	Receiver string          `json:"receiver_new_state_id,omitempty"`
	Amount   decimal.Decimal `json:"amount"`
	At       string          `json:"created_at"`
	at       time.Time
}

func newChannels() channels {
	return channels{states: map[channel]uint64{}, escrows: map[channel]bool{}, keys: map[sessionKey]string{}}
}

// record adds a transaction between a wallet and another account, a session or a channel. It is a new state of the wallet's
// channel; the transaction's id is the hash of the other account and that state.
func (c *channels) record(kind int, account, wallet, asset string, amount decimal.Decimal, at time.Time) {
	ch := channel{wallet, asset}
	c.states[ch]++
	state := crypto.Keccak256Hash(abiTuple(abiAddress(wallet), abiText(asset), abiNumber(0), abiNumber(c.states[ch]))).Hex()
	t := &transaction{
		ID: crypto.Keccak256Hash(abiTuple(abiText(account), abiHash(state))).Hex(), Asset: asset, Kind: kind, From: account,
		To: strings.ToLower(wallet), Sender: state, Amount: amount, At: at.UTC().Format(time.RFC3339), at: at,
	}
	switch kind {
	case homeWithdrawal, commit:
		t.From, t.To = t.To, t.From
	case release:
		t.Sender, t.Receiver = "", state
	}
	c.transactions = append(c.transactions, t)
}

// recordFunding records that a wallet received money by its channel, or withdrew it.
func (n *Node) recordFunding(wallet, asset string, amount decimal.Decimal) {
	kind := homeDeposit
	if amount.IsNegative() {
		kind = homeWithdrawal
	}
	id := crypto.Keccak256Hash([]byte(wallet), []byte(asset))
	id[0] = 1 // the contract's version
	n.channels.record(kind, id.Hex(), wallet, asset, amount.Abs(), n.Config.Now())
}

// checkEscrows checks that the node can pay all that is to be paid now.
func (n *Node) checkEscrows(moves []move) error {
	for _, m := range moves {
		if m.paid && n.channels.escrows[channel{m.wallet, m.asset}] {
			return errors.New("failed to issue release state for participant " + strings.ToLower(m.wallet) +
				": cannot issue release receiver state: escrow lock is still ongoing")
		}
	}
	return nil
}

// SetEscrow begins or ends an escrow operation of a wallet's asset.
func (n *Node) SetEscrow(wallet common.Address, asset string, pending bool) {
	n.Lock()
	defer n.Unlock()
	n.channels.escrows[channel{wallet.Hex(), asset}] = pending
}

// AddSessionKey registers a session key of a wallet for an application.
func (n *Node) AddSessionKey(wallet, key common.Address, application string) {
	n.Lock()
	defer n.Unlock()
	n.channels.keys[sessionKey{key.Hex(), application}] = wallet.Hex()
}
