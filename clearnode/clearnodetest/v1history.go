package clearnodetest

import (
	"math/rand/v2"
	"strings"
	"time"
)

// v1TransactionRow is a transaction in a list.
type v1TransactionRow struct {
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

// v1History is which transactions a list is of. Times are Unix seconds.
type v1History struct {
	Wallet     string  `json:"wallet"`
	Asset      *string `json:"asset"`
	Kind       *uint8  `json:"tx_type"`
	Pagination *v1Page `json:"pagination"`
	From       *uint64 `json:"from_time"`
	To         *uint64 `json:"to_time"`
}

func v1GetTransactions(n *Node, _ *conn, r *request) (any, error) {
	var p v1History
	if err := r.parseV1(&p); err != nil {
		return nil, err
	}
	wallet, err := walletV1(p.Wallet)
	if err != nil {
		return nil, refusal("invalid wallet: " + err.Error())
	}
	p.Wallet = strings.ToLower(wallet)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down || p.Asset != nil && unstorable(*p.Asset) {
		return nil, refusal("failed to retrieve transactions")
	}
	var found []*v1Transaction
	for _, t := range n.channels.transactions {
		if p.matches(t) {
			found = append(found, t)
		}
	}
	if n.cfg.LooseOrder {
		rand.Shuffle(len(found), func(i, j int) { found[i], found[j] = found[j], found[i] })
	}
	found, meta := cutV1(p.Pagination, found, func(t *v1Transaction) time.Time { return t.at })
	told := struct {
		Metadata     v1Metadata         `json:"metadata"`
		Transactions []v1TransactionRow `json:"transactions"`
	}{meta, []v1TransactionRow{}}
	for _, t := range found {
		told.Transactions = append(told.Transactions, v1TransactionRow{
			t.id, t.asset, t.kind, t.from, t.to, t.sender, t.receiver, t.amount.String(), t.at.UTC().Format(time.RFC3339),
		})
	}
	return told, nil
}

func (h v1History) matches(t *v1Transaction) bool {
	at := micros(t.at)
	return (t.from == h.Wallet || t.to == h.Wallet) &&
		(h.Asset == nil || *h.Asset == "" || *h.Asset == t.asset) &&
		(h.Kind == nil || int(*h.Kind) == t.kind) &&
		(h.From == nil || !at.Before(time.Unix(int64(*h.From), 0))) &&
		(h.To == nil || !at.After(time.Unix(int64(*h.To), 0)))
}

func v1GetBalances(n *Node, _ *conn, r *request) (any, error) {
	var p struct {
		Wallet string `json:"wallet"`
	}
	if err := r.parseV1(&p); err != nil {
		return nil, err
	}
	wallet, err := walletV1(p.Wallet)
	if err != nil {
		return nil, refusal("invalid wallet: " + err.Error())
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down {
		return nil, refusal("failed to retrieve balances")
	}
	type row struct {
		Asset    string `json:"asset"`
		Amount   string `json:"amount"`
		Enforced string `json:"enforced"`
	}
	told := struct {
		Balances []row `json:"balances"`
	}{[]row{}}
	for _, b := range n.book.balances(wallet, wallet) {
		told.Balances = append(told.Balances, row{b.Asset, b.Amount.String(), "0"})
	}
	return told, nil
}
