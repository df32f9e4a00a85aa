package nitronode

import (
	"errors"
	"math/rand/v2"
	"strings"
	"time"

	"settled/clearnode/clearnodetest/internal/server"
)

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
	return (t.From == h.Wallet || t.To == h.Wallet) &&
		(h.Asset == nil || *h.Asset == "" || *h.Asset == t.Asset) &&
		(h.Kind == nil || int(*h.Kind) == t.Kind) &&
		(h.From == nil || !at.Before(time.Unix(int64(*h.From), 0))) &&
		(h.To == nil || !at.After(time.Unix(int64(*h.To), 0)))
}

func (n *Node) getTransactions(p historyParams) (any, error) {
	wallet, err := parseWallet("wallet", p.Wallet)
	if err != nil {
		return nil, err
	}
	p.Wallet = strings.ToLower(wallet)
	if n.Outage || p.Asset != nil && hasZeroByte(*p.Asset) {
		return nil, errors.New("failed to retrieve transactions")
	}
	found := []*transaction{}
	for _, t := range n.channels.transactions {
		if p.matches(t) {
			found = append(found, t)
		}
	}
	if n.Config.LooseOrder {
		rand.Shuffle(len(found), func(i, j int) { found[i], found[j] = found[j], found[i] })
	}
	found, meta := paginate(p.Pagination, found, func(t *transaction) time.Time { return t.at })
	return map[string]any{"metadata": meta, "transactions": found}, nil
}

type balancesParams struct {
	Wallet string `json:"wallet"`
}

func (n *Node) getBalances(p balancesParams) (any, error) {
	wallet, err := parseWallet("wallet", p.Wallet)
	if err != nil {
		return nil, err
	}
	if n.Outage {
		return nil, errors.New("failed to retrieve balances")
	}
	type row struct {
		server.Balance
		Enforced string `json:"enforced"`
	}
	rows := []row{}
	for _, b := range n.Ledger.BalancesOf(wallet, wallet) {
		rows = append(rows, row{b, "0"})
	}
	return map[string]any{"balances": rows}, nil
}
