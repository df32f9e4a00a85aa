package policies

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"settled/settlement"
)

// Session is an app session as a person describes it in a file.
type Session struct {
	ID           string                     `json:"session_id,omitempty"`  // 0x and 64 hex digits; may be left out
	Version      uint64                     `json:"version,omitempty"`     // needed only for an outcome that expects one
	Quorum       int64                      `json:"quorum,omitempty"`      // sum of weights that a close needs; no policy depends on it
	Participants []Participant              `json:"participants"`          // in the order of the session's definition: of equal remainders, the earlier participant's is rounded up
	Deposits     []Transfer                 `json:"deposits"`              // who put in how much
	Payouts      []Transfer                 `json:"payouts,omitempty"`     // who was paid how much so far
	Decimals     map[settlement.Asset]int32 `json:"decimals"`              // of the smallest unit of each asset, as the node lists it
	Undisclosed  []string                   `json:"undisclosed,omitempty"` // what the node does not show: funding (nitronode, if the transactions don't explain the balance), or balance (legacy: neither balance nor funding)
}

// Participant is a participant of a session.
type Participant struct {
	Account string `json:"account"`          // address, or a name under accounts
	Weight  int64  `json:"weight,omitempty"` // no policy depends on it
}

// Transfer is money that moved into a session or out of it.
type Transfer struct {
	Account string            `json:"account"` // address, or a name under accounts
	Asset   settlement.Asset  `json:"asset"`
	Amount  settlement.Amount `json:"amount"`
}

const (
	undisclosedFunding = "funding"
	undisclosedBalance = "balance"
)

// placeholder is the id of a session whose description has none.
const placeholder = settlement.SessionID("0x0000000000000000000000000000000000000000000000000000000000000000")

// ReadSession reads the description of a session.
func ReadSession(text []byte) (settlement.Session, error) {
	var file struct {
		Accounts map[string]string `json:"accounts"`
		Session
	}
	if _, err := decode(text, &file); err != nil {
		return settlement.Session{}, err
	}
	return file.session()
}

// session returns what a node would show of the session.
func (f Session) session() (settlement.Session, error) {
	s := settlement.Session{ID: placeholder, Open: true, Version: f.Version, Quorum: f.Quorum, Decimals: f.Decimals}
	var err error
	if f.ID != "" {
		if s.ID, err = settlement.ParseSessionID(f.ID); err != nil {
			return s, err
		}
	}
	if len(f.Participants) == 0 {
		return s, errors.New("participants: name at least one")
	}
	for _, p := range f.Participants {
		a, err := account(p.Account)
		if err != nil {
			return s, fmt.Errorf("participants: %w", err)
		}
		s.Participants = append(s.Participants, settlement.Participant{Address: a, Spelling: p.Account, Weight: p.Weight})
	}
	if s.Deposits, err = transfers(f.Deposits); err != nil {
		return s, fmt.Errorf("deposits: %w", err)
	}
	if s.Payouts, err = transfers(f.Payouts); err != nil {
		return s, fmt.Errorf("payouts: %w", err)
	}
	for _, what := range f.Undisclosed {
		switch what {
		case undisclosedBalance:
			s.Undisclosed = settlement.Undisclosed{Balance: true, Funding: true, Payouts: true}
		case undisclosedFunding:
			s.Undisclosed.Funding, s.Versioned = true, true
		default:
			return s, fmt.Errorf("undisclosed: %q: want %s or %s", what, undisclosedFunding, undisclosedBalance)
		}
	}
	if s.Versioned && !s.Undisclosed.Balance { // the allocation is shown, and not by whom it was funded
		plain := s
		plain.Versioned = false
		for _, t := range plain.Balance() {
			s.Current = append(s.Current, settlement.Allocation{Participant: s.Participants[0].Spelling, Asset: t.Asset, Amount: t.Amount})
		}
	}
	if s.Undisclosed.Funding {
		s.Deposits, s.Payouts = nil, nil
	}
	return s, nil
}

func transfers(list []Transfer) ([]settlement.Transfer, error) {
	var all []settlement.Transfer
	for _, t := range list {
		a, err := account(t.Account)
		if err == nil {
			_, err = settlement.ParseAsset(string(t.Asset))
		}
		if err != nil {
			return nil, err
		}
		all = append(all, settlement.Transfer{Wallet: a, Asset: t.Asset, Amount: t.Amount})
	}
	return all, nil
}

func account(text string) (settlement.Address, error) {
	if !strings.HasPrefix(text, "0x") {
		return settlement.Address{}, fmt.Errorf("account %q: want an address, or a name under accounts", text)
	}
	return settlement.ParseChecksummed(text)
}

// Describe returns the description of a session that a node showed; of a closed one, as it
// was before its close.
func Describe(s settlement.Session) Session {
	s = s.BeforeClose()
	f := Session{ID: string(s.ID), Version: s.Version, Quorum: s.Quorum, Decimals: s.Decimals, Deposits: []Transfer{}, Participants: []Participant{}}
	if s.ID == placeholder {
		f.ID = ""
	}
	if f.Decimals == nil {
		f.Decimals = map[settlement.Asset]int32{}
	}
	for _, p := range s.Participants {
		f.Participants = append(f.Participants, Participant{p.Spelling, p.Weight})
	}
	deposits := s.Deposits
	switch {
	case s.Undisclosed.Balance:
		f.Undisclosed, deposits = []string{undisclosedBalance}, nil
	case s.Undisclosed.Funding:
		f.Undisclosed, deposits = []string{undisclosedFunding}, nil
		for _, a := range s.Current {
			f.Deposits = append(f.Deposits, Transfer{a.Participant, a.Asset, a.Amount})
		}
	}
	for _, t := range deposits {
		f.Deposits = append(f.Deposits, Transfer{t.Wallet.String(), t.Asset, t.Amount})
	}
	for _, t := range s.Payouts {
		f.Payouts = append(f.Payouts, Transfer{t.Wallet.String(), t.Asset, t.Amount})
	}
	return f
}

// decode reads JSON text without unknown members. It first replaces the names under accounts
// by their addresses, wherever one is a whole text, and returns the accounts.
func decode(text []byte, v any) (accounts map[string]string, err error) {
	if _, err := settlement.Canonical(text); err != nil {
		return nil, err // a duplicate name, for example, which encoding/json ignores
	}
	var head struct {
		Accounts map[string]string `json:"accounts"`
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return nil, err
	}
	for name, address := range head.Accounts {
		if _, err := settlement.ParseChecksummed(address); err != nil {
			return nil, fmt.Errorf("accounts: %s: %w", name, err)
		}
	}
	var document any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&document); err != nil {
		return nil, err
	}
	if text, err = json.Marshal(replaceNames(document, head.Accounts)); err != nil {
		return nil, err
	}
	strict := json.NewDecoder(bytes.NewReader(text))
	strict.DisallowUnknownFields()
	return head.Accounts, strict.Decode(v)
}

func replaceNames(v any, accounts map[string]string) any {
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			v[name] = replaceNames(member, accounts)
		}
	case []any:
		for i, element := range v {
			v[i] = replaceNames(element, accounts)
		}
	case string:
		if address, named := accounts[v]; named {
			return address
		}
	}
	return v
}

// nameOf returns the name of an account under accounts; else the account.
func nameOf(accounts map[string]string, account string) string {
	var names []string
	for name, address := range accounts {
		if strings.EqualFold(address, account) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return account
	}
	return slices.Min(names)
}
