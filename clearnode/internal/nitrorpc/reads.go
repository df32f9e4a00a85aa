package nitrorpc

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common/lru"

	"settled/clearnode/internal/protocol"
	"settled/settlement"
)

// Params of the reads. An offset of 0 is left out.
type (
	transactionsParams struct {
		Account settlement.SessionID `json:"account_id"`
		Limit   int                  `json:"limit"`
		Offset  int                  `json:"offset,omitempty"`
	}
	// DefinitionParams are the params of get_app_definition.
	DefinitionParams struct {
		Session settlement.SessionID `json:"app_session_id"`
	}
	sessionsParams struct {
		Participant string `json:"participant"`
		Status      string `json:"status"`
		Limit       int    `json:"limit"`
		Offset      int    `json:"offset,omitempty"`
		Sort        string `json:"sort,omitempty"` // by the time of the last change; newest first without
	}
)

// Definition is what a session was made as. It never changes.
type Definition struct {
	Protocol     string
	Participants []settlement.Participant
	Quorum       int64
	Version      uint64 // of a legacy session that was read: there it never changes either
}

// NewDefinitionCache keeps the definitions that were used last.
func NewDefinitionCache() *lru.Cache[settlement.SessionID, Definition] {
	return lru.NewCache[settlement.SessionID, Definition](4096)
}

// ReadDefinition reads the answer to get_app_definition. W is the type of weights on the
// wire. A *settlement.Failure says that no session of this definition can ever be read:
// the node makes sessions with participants that are no addresses, and a definition never
// changes.
func ReadDefinition[W int64 | uint64](a protocol.Answer) (Definition, error) {
	var p struct {
		Protocol     string   `json:"protocol"`
		Participants []string `json:"participants"`
		Weights      []W      `json:"weights"`
		Quorum       W        `json:"quorum"`
	}
	if err := a.Decode("get_app_definition", &p); err != nil {
		return Definition{}, err
	}
	if p.Participants != nil && len(p.Participants) == 0 {
		return Definition{}, protocol.ErrNoParticipants
	}
	if len(p.Participants) == 0 || len(p.Participants) != len(p.Weights) {
		return Definition{}, fmt.Errorf("%d participants and %d weights", len(p.Participants), len(p.Weights))
	}
	d := Definition{Protocol: p.Protocol, Quorum: int64(p.Quorum)} // #nosec G115 -- as the node does
	for i, spelling := range p.Participants {
		address, err := settlement.ParseAddress(spelling)
		if err != nil {
			return Definition{}, settlement.Fail(settlement.AllocationRejected, "participant %d of the session can't be paid: %s", i+1, err)
		}
		weight := int64(p.Weights[i]) // #nosec G115 -- as the node does
		d.Participants = append(d.Participants, settlement.Participant{Address: address, Spelling: spelling, Weight: weight})
	}
	return d, nil
}

// readDefinition also demands a protocol that settled speaks. The answer's application is
// always empty, and it says nothing of the session's state.
func readDefinition(a protocol.Answer) (Definition, error) {
	d, err := ReadDefinition[int64](a)
	if err != nil {
		return Definition{}, err
	}
	if d.Protocol == "" {
		return Definition{}, errors.New("no protocol in the answer")
	}
	if _, err := protocolName(d.Protocol); err != nil {
		return Definition{}, settlement.Fail(settlement.NodeRejected, "%s", err)
	}
	return d, nil
}

// isUnknown reports whether the node answered that it has no such definition, or that its
// database is away.
func isUnknown(err error) bool { return protocol.NodeErrorText(err) == unknownText }

// protocolName is our name of the protocol that a definition names.
func protocolName(name string) (string, error) {
	switch name {
	case "NitroRPC/0.2":
		return Protocol02, nil
	case "NitroRPC/0.4":
		return Protocol04, nil
	}
	return "", fmt.Errorf("the session's protocol is %s: settled speaks NitroRPC/0.2 and NitroRPC/0.4", protocol.Quote(name))
}

// SpellingOf is how the definition spells an account; in EIP-55 where it is not a
// participant. The node compares spellings byte by byte.
func (d Definition) SpellingOf(account settlement.Address) string {
	for _, p := range d.Participants {
		if p.Address == account {
			return p.Spelling
		}
	}
	return account.String()
}

// Others are the spellings of the participants except one, each once and at most 16; the
// one itself where there is no other.
func (d Definition) Others(own string) []string {
	const most = 16
	var others []string
	for _, p := range d.Participants {
		if p.Spelling != own && !slices.Contains(others, p.Spelling) && len(others) < most {
			others = append(others, p.Spelling)
		}
	}
	if others == nil {
		return []string{own}
	}
	return others
}

// ReadDefinition finds a session that the node has.
func (n *Node) ReadDefinition(ctx context.Context, c protocol.Conn, id settlement.SessionID) error {
	return c.AskAll(ctx, protocol.Question{Method: "get_app_definition", Params: DefinitionParams{id}, Read: func(a protocol.Answer) error {
		_, err := readDefinition(a)
		return err
	}})
}

// transaction is one movement of money from or to a session's account.
type transaction struct {
	id      uint64
	deposit bool
	settlement.Transfer
}

type transactionRow struct {
	ID     uint64 `json:"id"`
	Type   string `json:"tx_type"`
	From   string `json:"from_account"`
	To     string `json:"to_account"`
	Asset  string `json:"asset"`
	Amount string `json:"amount"`
	At     string `json:"created_at"`
}

// readTransactions reads a page of get_ledger_transactions. Each row must move money
// between the session and an address, and be of a known type.
func readTransactions(a protocol.Answer, id settlement.SessionID) ([]transaction, error) {
	var p struct {
		Rows []transactionRow `json:"ledger_transactions"`
	}
	if err := a.Decode("get_ledger_transactions", &p); err != nil {
		return nil, err
	}
	if p.Rows == nil {
		return nil, errors.New("no ledger_transactions in the answer")
	}
	rows := make([]transaction, len(p.Rows))
	for i, r := range p.Rows {
		var err error
		if rows[i], err = r.parse(id); err != nil {
			return nil, fmt.Errorf("ledger transaction %d: %w", r.ID, err)
		}
	}
	return rows, nil
}

func (r transactionRow) parse(id settlement.SessionID) (transaction, error) {
	t := transaction{id: r.ID}
	wallet, account := r.To, r.From
	switch r.Type {
	case "app_deposit":
		t.deposit, wallet, account = true, r.From, r.To
	case "app_withdrawal":
	default:
		return transaction{}, fmt.Errorf("unknown type %s", protocol.Quote(r.Type))
	}
	if account != string(id) {
		return transaction{}, fmt.Errorf("it is about account %s", protocol.Quote(account))
	}
	var errs [4]error
	t.Wallet, errs[0] = settlement.ParseAddress(wallet)
	t.Asset, errs[1] = settlement.ParseAsset(r.Asset)
	t.Amount, errs[2] = settlement.ParseAmount(r.Amount)
	t.At, errs[3] = time.Parse(time.RFC3339Nano, r.At)
	return t, errors.Join(errs[:]...)
}

// ListedSession is a session's row in get_app_sessions.
type ListedSession struct {
	ID          string `json:"app_session_id"`
	Application string `json:"application"`
	Status      string `json:"status"`
	Version     uint64 `json:"version"`
	Updated     string `json:"updated_at"` // in whole seconds; of a closed one, when it was closed
}

// SessionPage is one page of get_app_sessions.
type SessionPage []ListedSession

// Find returns a session's row, nil where it is not listed.
func (p SessionPage) Find(id settlement.SessionID) *ListedSession {
	for i := range p {
		if p[i].ID == string(id) {
			return &p[i]
		}
	}
	return nil
}

// complete reports whether a first page is the whole list, so that what isn't in it isn't
// there.
func (p SessionPage) complete() bool { return len(p) < protocol.PageSize }

func readSessions(a protocol.Answer) (SessionPage, error) {
	var p struct {
		Rows SessionPage `json:"app_sessions"`
	}
	if err := a.Decode("get_app_sessions", &p); err != nil {
		return nil, err
	}
	if p.Rows == nil {
		return nil, errors.New("no app_sessions in the answer")
	}
	return p.Rows, nil
}

// askSessions reads the page-th page of a participant's sessions of a status.
func askSessions(participant, status, sort string, page int, into *SessionPage) protocol.Question {
	params := sessionsParams{participant, status, protocol.PageSize, page * protocol.PageSize, sort}
	return protocol.Question{Method: "get_app_sessions", Params: params, Read: func(a protocol.Answer) (err error) {
		*into, err = readSessions(a)
		return err
	}}
}

// ClosedSessions reads the closed sessions of a participant from an offset on, the one
// closed last first. The lists are of one spelling, byte for byte.
func (n *Node) ClosedSessions(participant string, offset int, into *[]protocol.ClosedSession) (protocol.Question, bool) {
	params := sessionsParams{Participant: participant, Status: "closed", Limit: protocol.PageSize, Offset: offset}
	return protocol.Question{Method: "get_app_sessions", Params: params, Read: func(a protocol.Answer) error {
		page, err := readSessions(a)
		*into = nil
		for _, row := range page {
			at, parseErr := time.Parse(time.RFC3339Nano, row.Updated)
			if parseErr != nil {
				return fmt.Errorf("session %s was changed at %s", protocol.Quote(row.ID), protocol.Quote(row.Updated))
			}
			*into = append(*into, protocol.ClosedSession{ID: row.ID, Status: row.Status, At: at})
		}
		return err
	}}, true
}

// AssetRow is an asset on one chain.
type AssetRow struct {
	Symbol   string `json:"symbol"`
	Decimals int32  `json:"decimals"`
}

func readAssets(a protocol.Answer) (map[settlement.Asset]int32, error) {
	var p struct {
		Assets []AssetRow `json:"assets"`
	}
	if err := a.Decode("get_assets", &p); err != nil {
		return nil, err
	}
	return FewestDecimals(p.Assets)
}

// FewestDecimals are of each asset the fewest over its chains, because what is paid out
// must be withdrawable on any.
func FewestDecimals(rows []AssetRow) (map[settlement.Asset]int32, error) {
	decimals := map[settlement.Asset]int32{}
	for _, row := range rows {
		asset, err := settlement.ParseAsset(row.Symbol)
		if err != nil {
			continue // no session that holds it can be read either
		}
		n, err := protocol.Decimals(row.Symbol, row.Decimals)
		if err != nil {
			return nil, err
		}
		if fewest, found := decimals[asset]; found {
			n = min(n, fewest)
		}
		decimals[asset] = n
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
