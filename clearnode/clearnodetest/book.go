package clearnodetest

import (
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/shopspring/decimal"
)

// book is the node's double entry ledger: rows that are only ever added. An account is a wallet's own or a session's; in a
// session's account each wallet has its part.
type book struct {
	assets    []Asset
	faucet    decimal.Decimal
	now       func() time.Time
	seen      map[string]bool // wallets that had their chance at the faucet
	funded    map[string]decimal.Decimal
	entries   []*entry
	in        map[string][]*entry // by account
	transfers []*transfer
	of        map[string][]*transfer // by account, either side
	sums      map[part]decimal.Decimal

	nextEntry, nextTransfer uint64
}

// entry is a ledger row: credit or debit of one wallet's part of an account.
type entry struct {
	id          uint64
	accountType int
	part        part
	credit      decimal.Decimal
	debit       decimal.Decimal
	key         string // the session key that took it from its wallet
	at          time.Time
}

type part struct{ account, wallet, asset string }

// transfer is a ledger_transactions row: what moved between two accounts.
type transfer struct {
	id              uint64
	kind            string
	from, to, asset string
	amount          decimal.Decimal
	at              time.Time
}

const (
	appDeposit    = "app_deposit"
	appWithdrawal = "app_withdrawal"
	fundsAccount  = 1000 // the account type of money that came from outside
	digits        = 18   // after the point, in the node's database; more are rounded
	maxDigits     = 46   // before it
)

// balance is what a wallet has of an asset, as the node reports it.
type balance struct {
	Asset  string          `json:"asset"`
	Amount decimal.Decimal `json:"amount"`
}

func newBook(cfg Config) *book {
	return &book{
		assets: cfg.Assets, faucet: cfg.Faucet, now: cfg.Now,
		seen: map[string]bool{}, funded: map[string]decimal.Decimal{},
		in: map[string][]*entry{}, of: map[string][]*transfer{}, sums: map[part]decimal.Decimal{},
		nextEntry: 1, nextTransfer: 1,
	}
}

// accountID spells an address in EIP-55 and leaves everything else as it is.
func accountID(id string) string {
	if !common.IsHexAddress(id) {
		return id
	}
	return address(id)
}

// address spells what there is of an address in EIP-55: nothing is the zero address.
func address(text string) string { return common.HexToAddress(text).Hex() }

// see fills a new wallet from the faucet.
func (b *book) see(wallet string) {
	if b.seen[wallet] || !common.IsHexAddress(wallet) || wallet != address(wallet) {
		return
	}
	b.seen[wallet] = true
	if !b.faucet.IsPositive() {
		return
	}
	for _, a := range b.assets {
		b.fund(wallet, a.Symbol, b.faucet)
	}
}

func (b *book) fund(wallet, asset string, amount decimal.Decimal) {
	d := b.draft()
	if d.record(wallet, wallet, asset, amount, "") == nil {
		for _, e := range d.entries {
			e.accountType = fundsAccount
		}
		b.funded[asset] = b.funded[asset].Add(amount)
		d.commit()
	}
}

// balances are one wallet's parts of an account, by asset.
func (b *book) balances(account, wallet string) []balance {
	assets := map[string]bool{}
	for _, e := range b.in[account] {
		if e.part.wallet == wallet {
			assets[e.part.asset] = true
		}
	}
	all := []balance{}
	for _, asset := range sorted(assets) {
		all = append(all, balance{asset, b.sums[part{account, wallet, asset}]})
	}
	return all
}

// spent is what a session key took of an asset from its wallet.
func (b *book) spent(wallet, key, asset string) decimal.Decimal {
	var sum decimal.Decimal
	for _, e := range b.in[wallet] {
		if e.key == key && e.part.asset == asset {
			sum = sum.Add(e.debit)
		}
	}
	return sum
}

// draft is what one request writes: seen by itself at once, by others after its commit, or never. The ids of rows that are
// never committed are used up, as in the real database.
type draft struct {
	book      *book
	entries   []*entry
	transfers []*transfer
}

func (b *book) draft() *draft { return &draft{book: b} }

func (d *draft) record(account, wallet, asset string, amount decimal.Decimal, key string) error {
	amount = amount.Round(digits)
	if amount.IsZero() {
		return nil
	}
	if amount.Abs().GreaterThanOrEqual(decimal.New(1, maxDigits)) {
		return refusal("failed to record a ledger entry : ERROR: numeric field overflow (SQLSTATE 22003)")
	}
	e := &entry{id: d.book.nextEntry, part: part{account, wallet, asset}, key: key, at: d.book.now()}
	if amount.IsPositive() {
		e.credit = amount
	} else {
		e.debit = amount.Neg()
	}
	d.book.nextEntry++
	d.entries = append(d.entries, e)
	return nil
}

func (d *draft) move(kind, from, to, asset string, amount decimal.Decimal) {
	d.transfers = append(d.transfers, &transfer{
		id: d.book.nextTransfer, kind: kind, from: from, to: to, asset: asset, amount: amount.Abs().Round(digits), at: d.book.now(),
	})
	d.book.nextTransfer++
}

// balance is a part of an account, with what the draft itself wrote.
func (d *draft) balance(p part) decimal.Decimal {
	sum := d.book.sums[p]
	for _, e := range d.entries {
		if e.part == p {
			sum = sum.Add(e.credit).Sub(e.debit)
		}
	}
	return sum
}

func (d *draft) commit() {
	b := d.book
	for _, e := range d.entries {
		b.entries = append(b.entries, e)
		b.in[e.part.account] = append(b.in[e.part.account], e)
		b.sums[e.part] = b.sums[e.part].Add(e.credit).Sub(e.debit)
	}
	for _, t := range d.transfers {
		b.transfers = append(b.transfers, t)
		b.of[t.from] = append(b.of[t.from], t)
		if t.to != t.from {
			b.of[t.to] = append(b.of[t.to], t)
		}
	}
}

// total is everything in an account, by asset, whoever's part it is. An asset whose rows add up to nothing is there too.
func (b *book) total(account string) map[string]decimal.Decimal {
	sums := map[string]decimal.Decimal{}
	for _, e := range b.in[account] {
		sums[e.part.asset] = sums[e.part.asset].Add(e.credit).Sub(e.debit)
	}
	return sums
}
