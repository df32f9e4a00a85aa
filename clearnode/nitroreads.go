package clearnode

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"settled/settlement"
)

// pageSize is the most rows that the node gives at once.
const pageSize = 100

// definition is what a session was made as. It never changes.
type definition struct {
	protocol     string
	participants []settlement.Participant
	quorum       int64
	version      uint64 // of a legacy session, once it was seen: there it never changes either
}

// Params of the reads. An offset of 0 is left out.
type (
	transactionsOf struct {
		Account settlement.SessionID `json:"account_id"`
		Limit   int                  `json:"limit"`
		Offset  int                  `json:"offset,omitempty"`
	}
	definitionOf struct {
		Session settlement.SessionID `json:"app_session_id"`
	}
	sessionsOf struct {
		Participant string `json:"participant"`
		Status      string `json:"status"`
		Limit       int    `json:"limit"`
		Offset      int    `json:"offset,omitempty"`
		Sort        string `json:"sort,omitempty"` // by the time of the last change; newest first without
	}
)

// readDefinition reads the answer to get_app_definition. Its application is
// always empty, and it says nothing of the session's state. A *settlement.Failure
// says that no session of this definition can ever be read: the node makes
// sessions with participants that are no addresses, and a definition never changes.
func readDefinition(a answer) (definition, error) {
	var p struct {
		Protocol     string   `json:"protocol"`
		Participants []string `json:"participants"`
		Weights      []int64  `json:"weights"`
		Quorum       int64    `json:"quorum"`
	}
	if err := a.into("get_app_definition", &p); err != nil {
		return definition{}, err
	}
	if p.Participants != nil && len(p.Participants) == 0 {
		return definition{}, errNoParticipants
	}
	if len(p.Participants) == 0 || len(p.Participants) != len(p.Weights) {
		return definition{}, fmt.Errorf("%d participants and %d weights", len(p.Participants), len(p.Weights))
	}
	if p.Protocol == "" {
		return definition{}, errors.New("no protocol in the answer")
	}
	if _, err := protocolOf(p.Protocol); err != nil {
		return definition{}, settlement.Fail(settlement.NodeRejected, "%s", err)
	}
	d := definition{protocol: p.Protocol, quorum: p.Quorum}
	for i, spelling := range p.Participants {
		address, err := settlement.ParseAddress(spelling)
		if err != nil {
			return definition{}, settlement.Fail(settlement.AllocationRejected, "participant %d of the session can't be paid: %s", i+1, err)
		}
		d.participants = append(d.participants, settlement.Participant{Address: address, Spelling: spelling, Weight: p.Weights[i]})
	}
	return d, nil
}

// protocolOf is our name of the protocol that a definition names.
func protocolOf(name string) (string, error) {
	switch name {
	case "NitroRPC/0.2":
		return protocol02, nil
	case "NitroRPC/0.4":
		return protocol04, nil
	}
	return "", fmt.Errorf("the session's protocol is %s: settled speaks NitroRPC/0.2 and NitroRPC/0.4", quote(name))
}

// spelled is how the definition spells an account; false where it is not a
// participant.
func (d definition) spelled(a settlement.Address) (string, bool) {
	for _, p := range d.participants {
		if p.Address == a {
			return p.Spelling, true
		}
	}
	return "", false
}

// others are the spellings of the participants but this one, each once, as many
// as are asked about; or this one, where there is no other. Never none.
func (d definition) others(own string) []string {
	var others []string
	for _, p := range d.participants {
		if p.Spelling != own && !slices.Contains(others, p.Spelling) && len(others) < maxOthers {
			others = append(others, p.Spelling)
		}
	}
	if others == nil {
		return []string{own}
	}
	return others
}

// row is one movement of money from or to a session's account.
type row struct {
	id      uint64
	deposit bool
	settlement.Transfer
}

// readTransactions reads a page of get_ledger_transactions. Each row must move
// money between the session and an address, and be of a kind that is known.
func readTransactions(a answer, id settlement.SessionID) ([]row, error) {
	var p struct {
		Rows []transactionRow `json:"ledger_transactions"`
	}
	if err := a.into("get_ledger_transactions", &p); err != nil {
		return nil, err
	}
	if p.Rows == nil {
		return nil, errors.New("no ledger_transactions in the answer")
	}
	rows := make([]row, len(p.Rows))
	for i, r := range p.Rows {
		var err error
		if rows[i], err = r.read(id); err != nil {
			return nil, fmt.Errorf("ledger transaction %d: %w", r.ID, err)
		}
	}
	return rows, nil
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

func (t transactionRow) read(id settlement.SessionID) (row, error) {
	r := row{id: t.ID}
	var wallet, account string
	switch t.Type {
	case "app_deposit":
		r.deposit, wallet, account = true, t.From, t.To
	case "app_withdrawal":
		wallet, account = t.To, t.From
	default:
		return row{}, fmt.Errorf("unknown type %s", quote(t.Type))
	}
	if account != string(id) {
		return row{}, fmt.Errorf("it is about account %s", quote(account))
	}
	var errs [4]error
	r.Wallet, errs[0] = settlement.ParseAddress(wallet)
	r.Asset, errs[1] = settlement.ParseAsset(t.Asset)
	r.Amount, errs[2] = settlement.ParseAmount(t.Amount)
	r.At, errs[3] = time.Parse(time.RFC3339Nano, t.At)
	return r, errors.Join(errs[:]...)
}

// listed is a session's row in get_app_sessions, as far as it is needed.
type listed struct {
	ID          string `json:"app_session_id"`
	Application string `json:"application"`
	Status      string `json:"status"`
	Version     uint64 `json:"version"`
	Updated     string `json:"updated_at"` // in whole seconds; of a closed one, when it was closed
}

// page is one page of get_app_sessions.
type page []listed

func readSessions(a answer) (page, error) {
	var p struct {
		Rows page `json:"app_sessions"`
	}
	if err := a.into("get_app_sessions", &p); err != nil {
		return nil, err
	}
	if p.Rows == nil {
		return nil, errors.New("no app_sessions in the answer")
	}
	return p.Rows, nil
}

// whole reports whether the page is all there is, so that what isn't in it isn't
// there. It says so only of a first page.
func (p page) whole() bool { return len(p) < pageSize }

func (p page) find(id settlement.SessionID) *listed {
	for i := range p {
		if p[i].ID == string(id) {
			return &p[i]
		}
	}
	return nil
}

const (
	maxDecimals  = 77 // far above any token's: more is no answer
	bookDecimals = 18 // of every amount in the node's books
)

// readAssets reads get_assets: of each asset the fewest decimals over its chains,
// for what is paid out must be withdrawable on any. Never more than the node's
// books hold: ClearNode 0.5.2 keeps amounts as DECIMAL(64,18), so that its
// database would round what is finer, and its sums would no longer come out.
func readAssets(a answer) (map[settlement.Asset]int32, error) {
	var p struct {
		Assets []assetRow `json:"assets"`
	}
	if err := a.into("get_assets", &p); err != nil {
		return nil, err
	}
	return decimalsOf(p.Assets)
}

// assetRow is an asset on one chain.
type assetRow struct {
	Symbol   string `json:"symbol"`
	Decimals int32  `json:"decimals"`
}

func decimalsOf(rows []assetRow) (map[settlement.Asset]int32, error) {
	decimals := map[settlement.Asset]int32{}
	for _, listed := range rows {
		asset, err := settlement.ParseAsset(listed.Symbol)
		if err != nil {
			continue // no session that holds it can be read either
		}
		if listed.Decimals < 0 || listed.Decimals > maxDecimals {
			return nil, fmt.Errorf("asset %s has %d decimals", quote(listed.Symbol), listed.Decimals)
		}
		fewest, found := decimals[asset]
		if !found {
			fewest = bookDecimals
		}
		decimals[asset] = min(fewest, listed.Decimals)
	}
	return decimals, nil
}
