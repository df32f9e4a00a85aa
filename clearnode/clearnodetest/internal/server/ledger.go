package server

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/shopspring/decimal"
)

const (
	storedDigits = 18   // after the point, in the node's database; more are rounded
	maxDigits    = 46   // before the point
	fundsAccount = 1000 // the account type of money that came from outside
)

// ErrOverflow is the database's error for an amount that it can't store.
var ErrOverflow = errors.New("ERROR: numeric field overflow (SQLSTATE 22003)")

// Ledger is the node's double-entry ledger. Entries are only added. An account belongs to a wallet or to a session; in a
// session's account each wallet has its part.
type Ledger struct {
	assets []Asset
	faucet decimal.Decimal
	now    func() time.Time
	served map[string]bool                                    // wallets to which the faucet was applied
	OnFund func(wallet, asset string, amount decimal.Decimal) // called after each Fund

	Funded      map[string]decimal.Decimal // by asset: what came from outside
	Entries     []*Entry
	EntriesOf   map[string][]*Entry // by account
	Transfers   []*Transfer
	TransfersOf map[string][]*Transfer // by account, of either side
	Balances    map[Part]decimal.Decimal

	NextEntry, NextTransfer uint64 // the next ids
}

// Entry is a ledger row: a credit or a debit of one wallet's part of an account.
type Entry struct {
	ID          uint64
	AccountType int
	Part        Part
	Credit      decimal.Decimal
	Debit       decimal.Decimal
	SessionKey  string // the session key that debited its wallet
	At          time.Time
}

// Part is one wallet's part of an account, in one asset.
type Part struct{ Account, Wallet, Asset string }

// Transfer is a movement between two accounts: a row of ledger_transactions.
type Transfer struct {
	ID              uint64
	Kind            string
	From, To, Asset string
	Amount          decimal.Decimal
	At              time.Time
}

// Balance is a wallet's amount of an asset, as the node reports it.
type Balance struct {
	Asset  string          `json:"asset"`
	Amount decimal.Decimal `json:"amount"`
}

func newLedger(cfg Config) *Ledger {
	return &Ledger{
		assets: cfg.Assets, faucet: cfg.Faucet, now: cfg.Now, served: map[string]bool{},
		OnFund: func(string, string, decimal.Decimal) {},
		Funded: map[string]decimal.Decimal{}, EntriesOf: map[string][]*Entry{}, TransfersOf: map[string][]*Transfer{},
		Balances: map[Part]decimal.Decimal{}, NextEntry: 1, NextTransfer: 1,
	}
}

// AccountID spells an address in EIP-55 and returns everything else as it is.
func AccountID(id string) string {
	if !common.IsHexAddress(id) {
		return id
	}
	return Checksum(id)
}

// Checksum spells an address in EIP-55. What isn't one becomes some other address, and the empty text the zero address.
func Checksum(address string) string { return common.HexToAddress(address).Hex() }

// ApplyFaucet funds a wallet that the node sees for the first time.
func (l *Ledger) ApplyFaucet(wallet string) {
	if l.served[wallet] || !common.IsHexAddress(wallet) || wallet != Checksum(wallet) {
		return
	}
	l.served[wallet] = true
	if !l.faucet.IsPositive() {
		return
	}
	for _, a := range l.assets {
		l.Fund(wallet, a.Symbol, l.faucet)
	}
}

// Fund gives a wallet money from outside.
func (l *Ledger) Fund(wallet, asset string, amount decimal.Decimal) {
	if l.FundAccount(wallet, wallet, asset, amount, fundsAccount) == nil && !amount.IsZero() {
		l.OnFund(wallet, asset, amount)
	}
}

// FundAccount gives a wallet money from outside in any account.
func (l *Ledger) FundAccount(account, wallet, asset string, amount decimal.Decimal, accountType int) error {
	d := l.Begin()
	if err := d.Record(account, wallet, asset, amount); err != nil {
		return err
	}
	for _, e := range d.entries {
		e.AccountType = accountType
	}
	l.Funded[asset] = l.Funded[asset].Add(amount)
	d.Commit()
	return nil
}

// BalancesOf are one wallet's parts of an account, by asset.
func (l *Ledger) BalancesOf(account, wallet string) []Balance {
	assets := map[string]bool{}
	for _, e := range l.EntriesOf[account] {
		if e.Part.Wallet == wallet {
			assets[e.Part.Asset] = true
		}
	}
	all := []Balance{}
	for _, asset := range SortedKeys(assets) {
		all = append(all, Balance{asset, l.Balances[Part{account, wallet, asset}]})
	}
	return all
}

// Total is the content of an account by asset, over all wallets. It includes assets whose entries sum to zero.
func (l *Ledger) Total(account string) map[string]decimal.Decimal {
	sums := map[string]decimal.Decimal{}
	for _, e := range l.EntriesOf[account] {
		sums[e.Part.Asset] = sums[e.Part.Asset].Add(e.Credit).Sub(e.Debit)
	}
	return sums
}

// Draft is what one request writes. The request sees it at once, others after its commit. The ids of entries that are never
// committed are used up, as in the real database.
type Draft struct {
	ledger    *Ledger
	entries   []*Entry
	transfers []*Transfer
}

// Begin starts a draft.
func (l *Ledger) Begin() *Draft { return &Draft{ledger: l} }

// Record adds an amount to a wallet's part of an account.
func (d *Draft) Record(account, wallet, asset string, amount decimal.Decimal) error {
	return d.RecordSpent("", account, wallet, asset, amount)
}

// RecordSpent is Record for what a session key debits.
func (d *Draft) RecordSpent(key, account, wallet, asset string, amount decimal.Decimal) error {
	amount = amount.Round(storedDigits)
	if amount.IsZero() {
		return nil
	}
	if amount.Abs().GreaterThanOrEqual(decimal.New(1, maxDigits)) {
		return ErrOverflow
	}
	e := &Entry{ID: d.ledger.NextEntry, Part: Part{account, wallet, asset}, SessionKey: key, At: d.ledger.now()}
	if amount.IsPositive() {
		e.Credit = amount
	} else {
		e.Debit = amount.Neg()
	}
	d.ledger.NextEntry++
	d.entries = append(d.entries, e)
	return nil
}

// RecordTransfer adds a row of ledger_transactions.
func (d *Draft) RecordTransfer(kind, from, to, asset string, amount decimal.Decimal) {
	d.transfers = append(d.transfers, &Transfer{
		ID: d.ledger.NextTransfer, Kind: kind, From: from, To: to, Asset: asset, Amount: amount.Abs().Round(storedDigits), At: d.ledger.now(),
	})
	d.ledger.NextTransfer++
}

// Balance is a part of an account, including what the draft wrote.
func (d *Draft) Balance(p Part) decimal.Decimal {
	sum := d.ledger.Balances[p]
	for _, e := range d.entries {
		if e.Part == p {
			sum = sum.Add(e.Credit).Sub(e.Debit)
		}
	}
	return sum
}

// Spent is what a session key debited in a wallet's account, including what the draft wrote.
func (d *Draft) Spent(account, key, asset string) decimal.Decimal {
	var sum decimal.Decimal
	for _, e := range append(slices.Clip(d.ledger.EntriesOf[account]), d.entries...) {
		if e.SessionKey == key && e.Part.Asset == asset {
			sum = sum.Add(e.Debit)
		}
	}
	return sum
}

// Commit writes the draft to the ledger.
func (d *Draft) Commit() {
	l := d.ledger
	for _, e := range d.entries {
		l.Entries = append(l.Entries, e)
		l.EntriesOf[e.Part.Account] = append(l.EntriesOf[e.Part.Account], e)
		l.Balances[e.Part] = l.Balances[e.Part].Add(e.Credit).Sub(e.Debit)
	}
	for _, t := range d.transfers {
		l.Transfers = append(l.Transfers, t)
		l.TransfersOf[t.From] = append(l.TransfersOf[t.From], t)
		if t.To != t.From {
			l.TransfersOf[t.To] = append(l.TransfersOf[t.To], t)
		}
	}
}

// SortedKeys are a map's keys in order.
func SortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
