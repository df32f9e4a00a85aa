package nitronode

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"settled/clearnode/internal/protocol"
	"settled/settlement"
)

// Params of the reads.
type (
	sessionParams struct {
		Session settlement.SessionID `json:"app_session_id"`
	}
	sessionsParams struct {
		Participant string     `json:"participant"`
		Status      string     `json:"status"`
		Pagination  pagination `json:"pagination"`
	}
	transactionsParams struct {
		Wallet     string          `json:"wallet"`
		Type       transactionType `json:"tx_type"`
		Pagination pagination      `json:"pagination"`
	}
	pagination struct {
		Offset int `json:"offset"`
		Limit  int `json:"limit"`
	}
)

func readNodeAddress(a protocol.Answer) (settlement.Address, error) {
	var p struct {
		Address string `json:"node_address"`
	}
	if err := a.Decode(methodConfig, &p); err != nil {
		return settlement.Address{}, err
	}
	return settlement.ParseAddress(p.Address)
}

// readAssets reads get_assets. Each asset has decimals of its own, and none of its tokens
// has fewer (source). The node checks amounts against them, but its books may hold fewer.
func readAssets(a protocol.Answer) (map[settlement.Asset]int32, error) {
	var p struct {
		Assets []struct {
			Symbol   string `json:"symbol"`
			Decimals *int32 `json:"decimals"`
		} `json:"assets"`
	}
	if err := a.Decode(methodAssets, &p); err != nil {
		return nil, err
	}
	if p.Assets == nil {
		return nil, errors.New("no assets in the answer")
	}
	decimals := map[settlement.Asset]int32{}
	for _, listed := range p.Assets {
		asset, err := settlement.ParseAsset(listed.Symbol)
		if err != nil {
			continue // no session that holds it can be read either
		}
		if listed.Decimals == nil {
			return nil, fmt.Errorf("asset %s has no decimals", protocol.Quote(listed.Symbol))
		}
		if decimals[asset], err = protocol.Decimals(listed.Symbol, *listed.Decimals); err != nil {
			return nil, err
		}
	}
	return decimals, nil
}

// ReadAssets lists the assets of the node.
func (n *Node) ReadAssets(ctx context.Context, c protocol.Conn) ([]settlement.Asset, error) {
	if err := c.AskAll(ctx, n.assets.Question()); err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(n.assets.Listed())), nil
}

// sessionRow is a session in the answer to get_app_sessions.
type sessionRow struct {
	ID         string `json:"app_session_id"`
	Status     string `json:"status"`
	Version    string `json:"version"`
	Definition struct {
		Application  string `json:"application_id"`
		Participants []struct {
			Wallet string `json:"wallet_address"`
			Weight uint8  `json:"signature_weight"`
		} `json:"participants"`
		Quorum uint8 `json:"quorum"`
	} `json:"app_definition"`
	Allocations []struct {
		Participant string            `json:"participant"`
		Asset       string            `json:"asset"`
		Amount      settlement.Amount `json:"amount"`
	} `json:"allocations"`
}

// readSession reads the answer to get_app_sessions by id. protocol.ErrAbsent: the node has
// no such session. While its database is away it answers an error instead, because it
// counts the rows first (source).
func readSession(a protocol.Answer, id settlement.SessionID) (settlement.Session, error) {
	var p struct {
		Rows     []sessionRow `json:"app_sessions"`
		Metadata struct {
			Total *int `json:"total_count"`
		} `json:"metadata"`
	}
	if err := a.Decode(methodSessions, &p); err != nil {
		return settlement.Session{}, err
	}
	total := p.Metadata.Total
	switch {
	case p.Rows == nil || total == nil || *total != len(p.Rows) || len(p.Rows) > 1:
		return settlement.Session{}, fmt.Errorf("%d sessions of one id", len(p.Rows))
	case len(p.Rows) == 0:
		return settlement.Session{}, protocol.ErrAbsent
	case p.Rows[0].ID != string(id):
		return settlement.Session{}, fmt.Errorf("it is about session %s", protocol.Quote(p.Rows[0].ID))
	}
	return p.Rows[0].parse(id)
}

func (r sessionRow) parse(id settlement.SessionID) (settlement.Session, error) {
	s := settlement.Session{
		ID: id, Open: r.Status == "open", Versioned: true, Quorum: int64(r.Definition.Quorum),
		Application: r.Definition.Application, Protocol: Protocol,
	}
	if r.Status != "open" && r.Status != "closed" {
		return s, fmt.Errorf("the session's status is %s", protocol.Quote(r.Status))
	}
	version, err := strconv.ParseUint(r.Version, 10, 64)
	if err != nil || version == 0 {
		return s, fmt.Errorf("the session's version is %s", protocol.Quote(r.Version))
	}
	s.Version = version
	if s.Participants, err = r.participants(); err != nil {
		return s, err
	}
	s.Current, err = r.allocation(s.Participants)
	return s, err
}

// participants are sorted by address, because the node returns them in another order each
// time (recorded), and every process that plans this session must find the same rows.
func (r sessionRow) participants() ([]settlement.Participant, error) {
	var all []settlement.Participant
	for _, p := range r.Definition.Participants {
		address, err := settlement.ParseAddress(p.Wallet)
		if err != nil {
			return nil, fmt.Errorf("participant: %w", err)
		}
		all = append(all, settlement.Participant{Address: address, Spelling: p.Wallet, Weight: int64(p.Weight)})
	}
	if r.Definition.Participants != nil && len(all) == 0 {
		return nil, protocol.ErrNoParticipants
	}
	if len(all) == 0 {
		return nil, errors.New("the answer does not say who the session's participants are")
	}
	slices.SortFunc(all, func(a, b settlement.Participant) int { return bytes.Compare(a.Address[:], b.Address[:]) })
	return all, nil
}

// allocation returns the current allocation. Whoever held something once is listed with 0
// (recorded).
func (r sessionRow) allocation(participants []settlement.Participant) ([]settlement.Allocation, error) {
	spelling := map[settlement.Address]string{}
	for _, p := range participants {
		spelling[p.Address] = p.Spelling
	}
	rows := make([]settlement.Allocation, len(r.Allocations))
	seen := map[protocol.Holding]bool{}
	for i, a := range r.Allocations {
		wallet, err := settlement.ParseAddress(a.Participant)
		if err != nil {
			return nil, fmt.Errorf("allocation: %w", err)
		}
		asset, err := settlement.ParseAsset(a.Asset)
		if err != nil {
			return nil, fmt.Errorf("allocation: %w", err)
		}
		of := protocol.Holding{Wallet: wallet, Asset: asset}
		if spelling[wallet] == "" || seen[of] {
			return nil, fmt.Errorf("an allocation to %s, who is no participant or has it twice", wallet)
		}
		seen[of] = true
		rows[i] = settlement.Allocation{Participant: spelling[wallet], Asset: asset, Amount: a.Amount}
	}
	return rows, nil
}

// ReadDefinition finds a session that the node has.
func (n *Node) ReadDefinition(ctx context.Context, c protocol.Conn, id settlement.SessionID) error {
	return c.AskAll(ctx, protocol.Question{Method: methodSessions, Params: sessionParams{id}, Read: func(a protocol.Answer) error {
		_, err := readSession(a, id)
		return err
	}})
}

// ClosedSessions reads the closed sessions of a participant from an offset on, the one
// opened last first. The node does not say when they were closed.
func (n *Node) ClosedSessions(participant string, offset int, into *[]protocol.ClosedSession) (protocol.Question, bool) {
	params := sessionsParams{participant, "closed", pagination{offset, protocol.PageSize}}
	return protocol.Question{Method: methodSessions, Params: params, Read: func(a protocol.Answer) error {
		var p struct {
			Rows []sessionRow `json:"app_sessions"`
		}
		if err := a.Decode(methodSessions, &p); err != nil {
			return err
		}
		if p.Rows == nil {
			return errors.New("no app_sessions in the answer")
		}
		*into = nil
		for _, row := range p.Rows {
			*into = append(*into, protocol.ClosedSession{ID: row.ID, Status: row.Status})
		}
		return nil
	}}, true
}

// transactionType is a type of transactions between wallets and sessions (source).
type transactionType uint8

const (
	typeDeposit transactionType = 40 // wallet to session
	typeRelease transactionType = 41 // session to wallet: of a close, or of a withdrawal before it
)

// movement is a transaction between a session and a wallet.
type movement struct {
	id      string
	session settlement.SessionID
	settlement.Transfer
}

// transaction is one of a wallet's transactions.
type transaction struct {
	id       string
	at       time.Time
	movement *movement // nil: of a kind that no session we can read has
}

// transactionPage is one page of a wallet's transactions, newest first.
type transactionPage struct {
	rows  []transaction
	total int // how many there are on all pages
}

// isLast reports whether no page follows.
func (p transactionPage) isLast() bool { return len(p.rows) < protocol.PageSize }

type transactionRow struct {
	ID     string          `json:"id"`
	Asset  string          `json:"asset"`
	Type   transactionType `json:"tx_type"`
	From   string          `json:"from_account"`
	To     string          `json:"to_account"`
	Amount string          `json:"amount"`
	At     string          `json:"created_at"` // in whole seconds
}

// readTransactions reads a page of a wallet's transactions of one type.
func readTransactions(a protocol.Answer, wallet string, kind transactionType) (transactionPage, error) {
	var p struct {
		Rows     []transactionRow `json:"transactions"`
		Metadata struct {
			Total *int `json:"total_count"`
		} `json:"metadata"`
	}
	if err := a.Decode(methodTransactions, &p); err != nil {
		return transactionPage{}, err
	}
	if p.Rows == nil || p.Metadata.Total == nil {
		return transactionPage{}, errors.New("no transactions in the answer")
	}
	page := transactionPage{total: *p.Metadata.Total}
	for _, row := range p.Rows {
		at, err := time.Parse(time.RFC3339, row.At)
		if err != nil || row.ID == "" || row.Type != kind {
			return transactionPage{}, fmt.Errorf("transaction %s of type %d at %s", protocol.Quote(row.ID), row.Type, protocol.Quote(row.At))
		}
		page.rows = append(page.rows, transaction{id: row.ID, at: at, movement: row.movement(wallet, at)})
	}
	return page, nil
}

// movement is nil where an account or the asset is of a kind that no session we can read
// has.
func (r transactionRow) movement(wallet string, at time.Time) *movement {
	from, session := r.From, r.To
	if r.Type == typeRelease {
		from, session = session, from
	}
	m := movement{id: r.ID, Transfer: settlement.Transfer{At: at}}
	var errs [4]error
	m.session, errs[0] = settlement.ParseSessionID(session)
	m.Wallet, errs[1] = settlement.ParseAddress(from)
	m.Asset, errs[2] = settlement.ParseAsset(r.Asset)
	m.Amount, errs[3] = settlement.ParseAmount(r.Amount)
	if !strings.EqualFold(from, wallet) || errors.Join(errs[:]...) != nil {
		return nil
	}
	return &m
}
