package nitrorpc

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"settled/clearnode/clearnodetest/internal/server"
)

// page selects a part of a list: ten rows by default, a hundred at most.
type page struct {
	Offset uint32  `json:"offset"`
	Limit  uint32  `json:"limit"`
	Sort   *string `json:"sort"`
}

// paginate sorts rows by time and id, newest first by default, and returns the page's part. Like the database it refuses any
// other order than asc and desc; its own default is asc.
func paginate[T any](p page, rows []T, key func(T) (time.Time, uint64)) ([]T, error) {
	direction := -1
	if p.Sort != nil {
		switch strings.ToLower(*p.Sort) {
		case "asc", "":
			direction = 1
		case "desc":
		default:
			return nil, errors.New("unknown order")
		}
	}
	slices.SortStableFunc(rows, func(a, b T) int {
		timeA, idA := key(a)
		timeB, idB := key(b)
		return direction * cmp.Or(timeA.Compare(timeB), cmp.Compare(idA, idB))
	})
	limit := int(min(p.Limit, 100))
	if limit == 0 {
		limit = 10
	}
	from := min(int(p.Offset), len(rows))
	return rows[from:min(from+limit, len(rows))], nil
}

func (n *Node) ping(*server.Conn, *request) (any, error) { return nil, nil }

func (n *Node) getConfig(*server.Conn, *request) (any, error) { return n.BrokerConfig(), nil }

// list is an answer with one member.
func list(name string, rows any) map[string]any { return map[string]any{name: rows} }

type assetParams struct {
	ChainID *uint32 `json:"chain_id"`
}

func (n *Node) getAssets(_ *server.Conn, p assetParams) (any, error) {
	return list("assets", n.AssetRows(p.ChainID)), nil
}

type definitionParams struct {
	ID string `json:"app_session_id"`
}

func (n *Node) getAppDefinition(_ *server.Conn, p definitionParams) (any, error) {
	if p.ID == "" {
		return nil, errors.New("missing account ID")
	}
	s, ok := n.Sessions.ByID[p.ID]
	if !ok || n.Outage {
		return nil, errors.New("failed to get application session")
	}
	def := s.Definition
	def.Application = "" // never reported, as recorded
	return def, nil
}

type sessionsParams struct {
	page
	Participant string `json:"participant"`
	Status      string `json:"status"`
}

func (n *Node) getAppSessions(_ *server.Conn, p sessionsParams) (any, error) {
	sessions := slices.Clone(n.Sessions.Of(p.Participant, p.Status))
	sessions, err := paginate(p.page, sessions, (*server.Session).LastChange)
	if err != nil || n.Outage {
		return nil, errors.New("failed to get application sessions")
	}
	rows := make([]sessionRow, len(sessions))
	for i, s := range sessions {
		rows[i] = rowOf(s)
	}
	return list("app_sessions", rows), nil
}

type entriesParams struct {
	page
	Account string `json:"account_id"`
	Asset   string `json:"asset"`
	Wallet  string `json:"wallet"`
}

func (n *Node) getLedgerEntries(c *server.Conn, p entriesParams) (any, error) {
	wallet, anyWallet := server.Checksum(cmp.Or(p.Wallet, c.Wallet)), server.Checksum("")
	source := n.Ledger.Entries
	if p.Account != "" {
		source = n.Ledger.EntriesOf[server.AccountID(p.Account)]
	}
	var found []*server.Entry
	for _, e := range source {
		if (wallet == anyWallet || e.Part.Wallet == wallet) && (p.Asset == "" || p.Asset == e.Part.Asset) {
			found = append(found, e)
		}
	}
	found, err := paginate(p.page, found, func(e *server.Entry) (time.Time, uint64) { return e.At, e.ID })
	if err != nil || n.Outage {
		return nil, errors.New("failed to get ledger entries")
	}
	rows := make([]server.EntryRow, len(found))
	for i, e := range found {
		rows[i] = e.Row()
	}
	return list("ledger_entries", rows), nil
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

type transfersParams struct {
	page
	Account string `json:"account_id"`
	Asset   string `json:"asset"`
	Kind    string `json:"tx_type"`
}

func (n *Node) getLedgerTransactions(_ *server.Conn, p transfersParams) (any, error) {
	if p.Kind != "" && !slices.Contains(transferKinds, p.Kind) {
		return nil, errors.New("invalid ledger transaction type")
	}
	source := n.Ledger.Transfers
	if p.Account != "" {
		source = n.Ledger.TransfersOf[server.AccountID(p.Account)]
	}
	var found []*server.Transfer
	for _, t := range source {
		if (p.Asset == "" || p.Asset == t.Asset) && (p.Kind == "" || p.Kind == t.Kind) {
			found = append(found, t)
		}
	}
	found, err := paginate(p.page, found, func(t *server.Transfer) (time.Time, uint64) { return t.At, t.ID })
	if err != nil || n.Outage {
		return nil, errors.New("failed to get transactions")
	}
	rows := make([]transferRow, len(found))
	for i, t := range found {
		rows[i] = transferRow{t.ID, t.Kind, t.From, n.tags[t.From], t.To, n.tags[t.To], t.Asset, t.Amount, server.Micros(t.At)}
	}
	return list("ledger_transactions", rows), nil
}

type balancesParams struct {
	Account string `json:"account_id"`
}

func (n *Node) getLedgerBalances(c *server.Conn, p balancesParams) (any, error) {
	if n.Outage {
		return nil, errors.New("failed to get ledger balances")
	}
	account := server.AccountID(cmp.Or(p.Account, c.Wallet))
	return list("ledger_balances", n.Ledger.BalancesOf(account, server.Checksum(c.Wallet))), nil
}
