package clearnode

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"settled/settlement"
)

// Params of the reads.
type (
	v1SessionOf struct {
		Session settlement.SessionID `json:"app_session_id"`
	}
	v1TransactionsOf struct {
		Wallet     string       `json:"wallet"`
		Type       uint8        `json:"tx_type"`
		Pagination v1Pagination `json:"pagination"`
	}
	v1Pagination struct {
		Offset int `json:"offset"`
		Limit  int `json:"limit"`
	}
)

// v1Listed is a session in the answer to get_app_sessions.
type v1Listed struct {
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

// readV1Session reads the answer to get_app_sessions by id. errAbsent: the node has
// no such session. While its database is away it answers an error instead, for it
// counts the rows first (source).
func readV1Session(a answer, id settlement.SessionID) (settlement.Session, error) {
	var p struct {
		Rows     []v1Listed `json:"app_sessions"`
		Metadata struct {
			Total *int `json:"total_count"`
		} `json:"metadata"`
	}
	if err := a.into(v1Sessions, &p); err != nil {
		return settlement.Session{}, err
	}
	total := p.Metadata.Total
	switch {
	case p.Rows == nil || total == nil || *total != len(p.Rows) || len(p.Rows) > 1:
		return settlement.Session{}, fmt.Errorf("%d sessions of one id", len(p.Rows))
	case len(p.Rows) == 0:
		return settlement.Session{}, errAbsent
	case p.Rows[0].ID != string(id):
		return settlement.Session{}, fmt.Errorf("it is about session %s", quote(p.Rows[0].ID))
	}
	return p.Rows[0].read(id)
}

func (l v1Listed) read(id settlement.SessionID) (settlement.Session, error) {
	s := settlement.Session{
		ID: id, Versioned: true, Quorum: int64(l.Definition.Quorum),
		Application: l.Definition.Application, Protocol: protocolV1,
	}
	switch l.Status {
	case "open":
		s.Open = true
	case "closed":
	default:
		return s, fmt.Errorf("the session's status is %s", quote(l.Status))
	}
	version, err := strconv.ParseUint(l.Version, 10, 64)
	if err != nil || version == 0 {
		return s, fmt.Errorf("the session's version is %s", quote(l.Version))
	}
	s.Version = version
	if s.Participants, err = l.participants(); err != nil {
		return s, err
	}
	s.Current, err = l.split(s.Participants)
	return s, err
}

// participants are in the order of their addresses, for the node gives them in
// another order each time (recorded), and whoever plans this session, here or in
// another process, has to come to the same rows.
func (l v1Listed) participants() ([]settlement.Participant, error) {
	var all []settlement.Participant
	for _, p := range l.Definition.Participants {
		address, err := settlement.ParseAddress(p.Wallet)
		if err != nil {
			return nil, fmt.Errorf("participant: %w", err)
		}
		all = append(all, settlement.Participant{Address: address, Spelling: p.Wallet, Weight: int64(p.Weight)})
	}
	if l.Definition.Participants != nil && len(all) == 0 {
		return nil, errNoParticipants
	}
	if len(all) == 0 {
		return nil, errors.New("the answer does not say who the session's participants are")
	}
	slices.SortFunc(all, func(a, b settlement.Participant) int { return bytes.Compare(a.Address[:], b.Address[:]) })
	return all, nil
}

// split is who holds what; who held something once is there with 0 (recorded).
func (l v1Listed) split(participants []settlement.Participant) ([]settlement.Allocation, error) {
	spelled := map[settlement.Address]string{}
	for _, p := range participants {
		spelled[p.Address] = p.Spelling
	}
	rows := make([]settlement.Allocation, len(l.Allocations))
	seen := map[holding]bool{}
	for i, a := range l.Allocations {
		wallet, err := settlement.ParseAddress(a.Participant)
		if err != nil {
			return nil, fmt.Errorf("allocation: %w", err)
		}
		asset, err := settlement.ParseAsset(a.Asset)
		if err != nil {
			return nil, fmt.Errorf("allocation: %w", err)
		}
		at := holding{wallet, asset}
		if spelled[wallet] == "" || seen[at] {
			return nil, fmt.Errorf("an allocation to %s, who is no participant or has it twice", wallet)
		}
		seen[at] = true
		rows[i] = settlement.Allocation{Participant: spelled[wallet], Asset: asset, Amount: a.Amount}
	}
	return rows, nil
}

// The types of transactions between wallets and sessions (source).
const (
	v1Commit  = 40 // wallet to session: a deposit
	v1Release = 41 // session to wallet: of a close, or of a withdrawal before it
)

// v1Move is a transaction between a session and a wallet.
type v1Move struct {
	id      string
	session settlement.SessionID
	settlement.Transfer
}

// v1Entry is one of a wallet's transactions.
type v1Entry struct {
	id   string
	at   time.Time
	move *v1Move // nil: of a kind that no session we can read has
}

// v1Page is one page of a wallet's transactions, newest first.
type v1Page struct {
	rows  []v1Entry
	total int // how many there are on all pages
}

// last reports whether no page comes after this one.
func (p v1Page) last() bool { return len(p.rows) < pageSize }

type v1Transaction struct {
	ID     string `json:"id"`
	Asset  string `json:"asset"`
	Type   uint8  `json:"tx_type"`
	From   string `json:"from_account"`
	To     string `json:"to_account"`
	Amount string `json:"amount"`
	At     string `json:"created_at"` // in whole seconds
}

// readV1Transactions reads a page of a wallet's transactions of one type.
func readV1Transactions(a answer, wallet string, kind uint8) (v1Page, error) {
	var p struct {
		Rows     []v1Transaction `json:"transactions"`
		Metadata struct {
			Total *int `json:"total_count"`
		} `json:"metadata"`
	}
	if err := a.into(v1Transactions, &p); err != nil {
		return v1Page{}, err
	}
	if p.Rows == nil || p.Metadata.Total == nil {
		return v1Page{}, errors.New("no transactions in the answer")
	}
	page := v1Page{total: *p.Metadata.Total}
	for _, t := range p.Rows {
		at, err := time.Parse(time.RFC3339, t.At)
		if err != nil || t.ID == "" || t.Type != kind {
			return v1Page{}, fmt.Errorf("transaction %s of type %d at %s", quote(t.ID), t.Type, quote(t.At))
		}
		row := v1Entry{id: t.ID, at: at}
		if move, ok := t.read(wallet, at); ok {
			row.move = &move
		}
		page.rows = append(page.rows, row)
	}
	return page, nil
}

// read is the move that a transaction is. None where an account or the asset is of
// a kind that no session we can read has.
func (t v1Transaction) read(wallet string, at time.Time) (v1Move, bool) {
	from, session := t.From, t.To
	if t.Type == v1Release {
		from, session = session, from
	}
	m := v1Move{id: t.ID, Transfer: settlement.Transfer{At: at}}
	var errs [4]error
	m.session, errs[0] = settlement.ParseSessionID(session)
	m.Wallet, errs[1] = settlement.ParseAddress(from)
	m.Asset, errs[2] = settlement.ParseAsset(t.Asset)
	m.Amount, errs[3] = settlement.ParseAmount(t.Amount)
	return m, strings.EqualFold(from, wallet) && errors.Join(errs[:]...) == nil
}

// olderMove orders moves as they happened, and those of one second in one way.
func olderMove(a, b settlement.Transfer) int {
	return cmp.Or(a.At.Compare(b.At), bytes.Compare(a.Wallet[:], b.Wallet[:]), cmp.Compare(a.Asset, b.Asset))
}
