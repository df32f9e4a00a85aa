package nitronode

import (
	"errors"
	"math/rand/v2"
	"strings"
	"time"

	"settled/clearnode/clearnodetest/internal/server"
)

// transactionRow is a transaction in a list.
type transactionRow struct {
	ID       string `json:"id"`
	Asset    string `json:"asset"`
	Kind     int    `json:"tx_type"`
	From     string `json:"from_account"`
	To       string `json:"to_account"`
	Sender   string `json:"sender_new_state_id,omitempty"`
	Receiver string `json:"receiver_new_state_id,omitempty"`
	Amount   string `json:"amount"`
	At       string `json:"created_at"`
}

// historyParams select transactions. Times are Unix seconds.
type historyParams struct {
	Wallet     string  `json:"wallet"`
	Asset      *string `json:"asset"`
	Kind       *uint8  `json:"tx_type"`
	Pagination *page   `json:"pagination"`
	From       *uint64 `json:"from_time"`
	To         *uint64 `json:"to_time"`
}

func (h historyParams) matches(t *transaction) bool {
	at := server.Micros(t.at)
	return (t.from == h.Wallet || t.to == h.Wallet) &&
		(h.Asset == nil || *h.Asset == "" || *h.Asset == t.asset) &&
		(h.Kind == nil || int(*h.Kind) == t.kind) &&
		(h.From == nil || !at.Before(time.Unix(int64(*h.From), 0))) &&
		(h.To == nil || !at.After(time.Unix(int64(*h.To), 0)))
}

func (n *Node) getTransactions(_ *server.Conn, r *request) (any, error) {
	var p historyParams
	if err := r.parse(&p); err != nil {
		return nil, err
	}
	wallet, err := parseWallet("wallet", p.Wallet)
	if err != nil {
		return nil, err
	}
	p.Wallet = strings.ToLower(wallet)
	n.Lock()
	defer n.Unlock()
	if n.Outage || p.Asset != nil && hasZeroByte(*p.Asset) {
		return nil, errors.New("failed to retrieve transactions")
	}
	var found []*transaction
	for _, t := range n.channels.transactions {
		if p.matches(t) {
			found = append(found, t)
		}
	}
	if n.Config.LooseOrder {
		rand.Shuffle(len(found), func(i, j int) { found[i], found[j] = found[j], found[i] })
	}
	found, meta := paginate(p.Pagination, found, func(t *transaction) time.Time { return t.at })
	rows := []transactionRow{}
	for _, t := range found {
		rows = append(rows, transactionRow{
			t.id, t.asset, t.kind, t.from, t.to, t.sender, t.receiver, t.amount.String(), t.at.UTC().Format(time.RFC3339),
		})
	}
	return struct {
		Metadata     metadata         `json:"metadata"`
		Transactions []transactionRow `json:"transactions"`
	}{meta, rows}, nil
}

func (n *Node) getBalances(_ *server.Conn, r *request) (any, error) {
	var p struct {
		Wallet string `json:"wallet"`
	}
	if err := r.parse(&p); err != nil {
		return nil, err
	}
	wallet, err := parseWallet("wallet", p.Wallet)
	if err != nil {
		return nil, err
	}
	n.Lock()
	defer n.Unlock()
	if n.Outage {
		return nil, errors.New("failed to retrieve balances")
	}
	type row struct {
		Asset    string `json:"asset"`
		Amount   string `json:"amount"`
		Enforced string `json:"enforced"`
	}
	rows := []row{}
	for _, b := range n.Ledger.BalancesOf(wallet, wallet) {
		rows = append(rows, row{b.Asset, b.Amount.String(), "0"})
	}
	return struct {
		Balances []row `json:"balances"`
	}{rows}, nil
}
