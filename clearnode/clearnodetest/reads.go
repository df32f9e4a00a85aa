package clearnodetest

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/shopspring/decimal"
)

// page is how a list is cut: ten rows if nothing is said, a hundred at most.
type page struct {
	Offset uint32  `json:"offset"`
	Limit  uint32  `json:"limit"`
	Sort   *string `json:"sort"`
}

// ascending reads the order. The database refuses any other word.
func (p page) ascending() (bool, error) {
	if p.Sort == nil {
		return false, nil
	}
	switch strings.ToLower(*p.Sort) {
	case "asc", "": // the database's own default
		return true, nil
	case "desc":
		return false, nil
	}
	return false, fmt.Errorf("unknown order")
}

// cut sorts rows by time, then id, and takes the page's part.
func cut[T any](p page, rows []T, key func(T) (time.Time, uint64)) ([]T, error) {
	up, err := p.ascending()
	if err != nil {
		return nil, err
	}
	sort.SliceStable(rows, func(i, j int) bool {
		a, ida := key(rows[i])
		b, idb := key(rows[j])
		if !up {
			a, ida, b, idb = b, idb, a, ida
		}
		return a.Before(b) || a.Equal(b) && ida < idb
	})
	limit := int(min(p.Limit, 100))
	if limit == 0 {
		limit = 10
	}
	from := min(int(p.Offset), len(rows))
	return rows[from:min(from+limit, len(rows))], nil
}

func ping(*Node, *conn, *request) (any, error) { return nil, nil }

func getConfig(n *Node, _ *conn, _ *request) (any, error) {
	return struct {
		Broker   string `json:"broker_address"`
		Networks []any  `json:"networks"`
	}{n.address.Hex(), []any{}}, nil
}

type assetRow struct {
	Token    string `json:"token"`
	ChainID  uint32 `json:"chain_id"`
	Symbol   string `json:"symbol"`
	Decimals int    `json:"decimals"`
}

type assetRows struct {
	Assets []assetRow `json:"assets"`
}

func (n *Node) assets(chain *uint32) assetRows {
	all := assetRows{Assets: []assetRow{}}
	for _, a := range n.cfg.Assets {
		if chain == nil || *chain == a.ChainID {
			all.Assets = append(all.Assets, assetRow{a.Token.Hex(), a.ChainID, a.Symbol, a.Decimals})
		}
	}
	return all
}

func getAssets(n *Node, _ *conn, r *request) (any, error) {
	var p struct {
		ChainID *uint32 `json:"chain_id"`
	}
	if err := r.parse(&p); err != nil {
		return nil, err
	}
	return n.assets(p.ChainID), nil
}

func getAppDefinition(n *Node, _ *conn, r *request) (any, error) {
	var p struct {
		ID string `json:"app_session_id"`
	}
	if err := r.parse(&p); err != nil {
		return nil, err
	}
	if p.ID == "" {
		return nil, refusal("missing account ID")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	s, ok := n.sessions.byID[p.ID]
	if !ok || n.down {
		return nil, refusal("failed to get application session")
	}
	def := s.def
	def.Application = "" // never told, as recorded
	return def, nil
}

func getAppSessions(n *Node, _ *conn, r *request) (any, error) {
	var p struct {
		page
		Participant string `json:"participant"`
		Status      string `json:"status"`
	}
	if err := r.parse(&p); err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	found, err := cut(p.page, slices.Clone(n.sessions.among(p.Participant, p.Status)), func(s *session) (time.Time, uint64) { return s.updated, s.row })
	if err != nil || n.down {
		return nil, refusal("failed to get application sessions")
	}
	rows := make([]sessionRow, len(found))
	for i, s := range found {
		rows[i] = s.full()
	}
	return struct {
		Sessions []sessionRow `json:"app_sessions"`
	}{rows}, nil
}

type entryRow struct {
	ID          uint64          `json:"id"`
	Account     string          `json:"account_id"`
	AccountType int             `json:"account_type"`
	Asset       string          `json:"asset"`
	Participant string          `json:"participant"`
	Credit      decimal.Decimal `json:"credit"`
	Debit       decimal.Decimal `json:"debit"`
	At          time.Time       `json:"created_at"`
}

func getLedgerEntries(n *Node, c *conn, r *request) (any, error) {
	var p struct {
		page
		Account string `json:"account_id"`
		Asset   string `json:"asset"`
		Wallet  string `json:"wallet"`
	}
	if err := r.parse(&p); err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if p.Wallet == "" {
		p.Wallet = c.wallet
	}
	wallet, everybody := address(p.Wallet), address("")
	source := n.book.entries
	if p.Account != "" {
		source = n.book.in[accountID(p.Account)]
	}
	var found []*entry
	for _, e := range source {
		if (wallet == everybody || e.part.wallet == wallet) && (p.Asset == "" || p.Asset == e.part.asset) {
			found = append(found, e)
		}
	}
	found, err := cut(p.page, found, func(e *entry) (time.Time, uint64) { return e.at, e.id })
	if err != nil || n.down {
		return nil, refusal("failed to get ledger entries")
	}
	rows := make([]entryRow, len(found))
	for i, e := range found {
		rows[i] = entryRow{e.id, e.part.account, e.accountType, e.part.asset, e.part.wallet, e.credit, e.debit, micros(e.at)}
	}
	return struct {
		Entries []entryRow `json:"ledger_entries"`
	}{rows}, nil
}

type transferRow struct {
	ID      uint64          `json:"id"`
	Kind    string          `json:"tx_type"`
	From    string          `json:"from_account"`
	FromTag string          `json:"from_account_tag,omitempty"`
	To      string          `json:"to_account"`
	ToTag   string          `json:"to_account_tag,omitempty"`
	Asset   string          `json:"asset"`
	Amount  decimal.Decimal `json:"amount"`
	At      time.Time       `json:"created_at"`
}

var transferKinds = []string{
	"transfer", "deposit", "withdrawal", appDeposit, appWithdrawal, "escrow_lock", "escrow_unlock",
}

func getLedgerTransactions(n *Node, _ *conn, r *request) (any, error) {
	var p struct {
		page
		Account string `json:"account_id"`
		Asset   string `json:"asset"`
		Kind    string `json:"tx_type"`
	}
	if err := r.parse(&p); err != nil {
		return nil, err
	}
	if p.Kind != "" && !contains(transferKinds, p.Kind) {
		return nil, refusal("invalid ledger transaction type")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	source := n.book.transfers
	if p.Account != "" {
		source = n.book.of[accountID(p.Account)]
	}
	var found []*transfer
	for _, t := range source {
		if (p.Asset == "" || p.Asset == t.asset) && (p.Kind == "" || p.Kind == t.kind) {
			found = append(found, t)
		}
	}
	found, err := cut(p.page, found, func(t *transfer) (time.Time, uint64) { return t.at, t.id })
	if err != nil || n.down {
		return nil, refusal("failed to get transactions")
	}
	rows := make([]transferRow, len(found))
	for i, t := range found {
		tags := n.sessions.tags
		rows[i] = transferRow{t.id, t.kind, t.from, tags[t.from], t.to, tags[t.to], t.asset, t.amount, micros(t.at)}
	}
	return struct {
		Transactions []transferRow `json:"ledger_transactions"`
	}{rows}, nil
}

func getLedgerBalances(n *Node, c *conn, r *request) (any, error) {
	var p struct {
		Account string `json:"account_id"`
	}
	if err := r.parse(&p); err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down {
		return nil, refusal("failed to get ledger balances")
	}
	if p.Account == "" {
		p.Account = c.wallet
	}
	return struct {
		Balances []balance `json:"ledger_balances"`
	}{n.book.balances(accountID(p.Account), address(c.wallet))}, nil
}

// micros is a time as the database keeps it.
func micros(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }
