package nitronode

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"settled/clearnode/clearnodetest/internal/server"
)

// page selects a part of a list: ten rows by default, a hundred at most. The node ignores Sort: the newest always come first.
type page struct {
	Offset *uint32 `json:"offset"`
	Limit  *uint32 `json:"limit"`
	Sort   *string `json:"sort"`
}

type metadata struct {
	Page       uint32 `json:"page"`
	PerPage    uint32 `json:"per_page"`
	TotalCount uint32 `json:"total_count"`
	PageCount  uint32 `json:"page_count"`
}

// paginate returns a page's part of rows that are ordered oldest first.
func paginate[T any](p *page, rows []T, at func(T) time.Time) ([]T, metadata) {
	var from, limit uint32 = 0, 10
	if p != nil && p.Offset != nil {
		from = min(*p.Offset, math.MaxInt32)
	}
	if p != nil && p.Limit != nil && *p.Limit > 0 {
		limit = min(*p.Limit, 100)
	}
	slices.Reverse(rows)
	slices.SortStableFunc(rows, func(a, b T) int { return at(b).Compare(at(a)) })
	count := uint32(len(rows))
	meta := metadata{Page: from/limit + 1, PerPage: limit, TotalCount: count, PageCount: (count + limit - 1) / limit}
	from = min(from, count)
	return rows[from:min(from+limit, count)], meta
}

func (n *Node) ping(*server.Conn, *request) (any, error) { return struct{}{}, nil }

// blockchain is a blockchain that the node claims to be connected to.
type blockchain struct {
	Name  string `json:"name"`
	ID    string `json:"blockchain_id"`
	Hub   string `json:"channel_hub_address"`
	Delay uint32 `json:"confirmation_delay_secs"`
}

func (n *Node) getConfig(*server.Conn, *request) (any, error) {
	chains := []blockchain{}
	seen := map[uint32]bool{}
	for _, a := range n.Config.Assets {
		if !seen[a.ChainID] {
			chains = append(chains, blockchain{"stub", formatNumber(uint64(a.ChainID)), "0x3333333333333333333333333333333333333333", 0})
		}
		seen[a.ChainID] = true
	}
	return map[string]any{
		"blockchains": chains, "node_address": strings.ToLower(n.Address.Hex()), "node_version": "v1.0.0", "supported_sig_validators": []byte{0, 1},
	}, nil
}

type asset struct {
	Name      string  `json:"name"`
	Symbol    string  `json:"symbol"`
	Decimals  int     `json:"decimals"`
	Suggested string  `json:"suggested_blockchain_id"`
	Tokens    []token `json:"tokens"`
}

type token struct {
	Name     string `json:"name"`
	Symbol   string `json:"symbol"`
	Address  string `json:"address"`
	ChainID  string `json:"blockchain_id"`
	Decimals int    `json:"decimals"`
}

var assetNames = map[string]string{"usdc": "USD Coin", "weth": "Wrapped Ether"}

type assetsParams struct {
	ChainID *string `json:"blockchain_id"`
}

func (n *Node) getAssets(p assetsParams) (any, error) {
	if p.ChainID != nil {
		id, err := strconv.ParseUint(*p.ChainID, 10, 64)
		if err != nil {
			return nil, errors.New("invalid blockchain_id")
		}
		*p.ChainID = formatNumber(id)
	}
	assets := []*asset{}
	bySymbol := map[string]*asset{}
	for _, a := range n.Config.Assets {
		chain := formatNumber(uint64(a.ChainID))
		if p.ChainID != nil && *p.ChainID != chain {
			continue
		}
		name := assetNames[a.Symbol]
		if name == "" {
			name = a.Symbol
		}
		listed := bySymbol[a.Symbol]
		if listed == nil {
			decimals, _ := n.decimals(a.Symbol)
			listed = &asset{Name: name, Symbol: a.Symbol, Decimals: decimals, Suggested: chain}
			bySymbol[a.Symbol] = listed
			assets = append(assets, listed)
		}
		listed.Tokens = append(listed.Tokens, token{name, a.Symbol, strings.ToLower(a.Token.Hex()), chain, a.Decimals})
	}
	return map[string]any{"assets": assets}, nil
}

// decimals are an asset's decimals: the fewest over its chains.
func (n *Node) decimals(symbol string) (fewest int, known bool) {
	for _, a := range n.Config.Assets {
		if a.Symbol == symbol && (!known || a.Decimals < fewest) {
			fewest, known = a.Decimals, true
		}
	}
	return fewest, known
}

// formatNumber writes a number as the wire does: as a string.
func formatNumber(n uint64) string { return strconv.FormatUint(n, 10) }

type definitionParams struct {
	ID string `json:"app_session_id"`
}

func (n *Node) getAppDefinition(p definitionParams) (any, error) {
	if n.Outage || hasZeroByte(p.ID) {
		return nil, errors.New("failed to retrieve app definition")
	}
	answer := map[string]any{}
	if s := n.Sessions.ByID[strings.ToLower(p.ID)]; s != nil {
		answer["definition"] = wireDefinition(s.Definition, true)
	}
	return answer, nil
}

// sessionRow is a session in a list.
type sessionRow struct {
	ID          string              `json:"app_session_id"`
	Status      string              `json:"status"`
	Definition  *definition         `json:"app_definition"`
	Data        string              `json:"session_data,omitempty"`
	Version     string              `json:"version"`
	Allocations []server.Allocation `json:"allocations"`
}

// sessionFilter selects sessions.
type sessionFilter struct {
	ID          *string `json:"app_session_id"`
	Participant *string `json:"participant"`
	Status      *string `json:"status"`
	Pagination  *page   `json:"pagination"`
}

var sessionID = regexp.MustCompile(`^0x[0-9a-fA-F]{64}$`)

// validate requires one filter. It spells the id in lower case and the participant in EIP-55.
func (f *sessionFilter) validate() error {
	if f.ID == nil && f.Participant == nil {
		return errors.New("either app_session_id or participant must be provided")
	}
	if f.ID != nil {
		if !sessionID.MatchString(*f.ID) {
			return errors.New("invalid app_session_id")
		}
		*f.ID = strings.ToLower(*f.ID)
	}
	if f.Participant != nil {
		wallet, err := parseWallet("participant", *f.Participant)
		if err != nil {
			return err
		}
		f.Participant = &wallet
	}
	return nil
}

// sessionList is a list of sessions. The node reads the allocations after the sessions and locks nothing between: a session that
// another connection closes meanwhile may be listed as open with nothing in it.
type sessionList struct {
	Sessions []sessionRow `json:"app_sessions"`
	Metadata metadata     `json:"metadata"`
}

func (n *Node) getAppSessions(c *server.Conn, r *request) (any, error) {
	var f sessionFilter
	if err := r.parse(&f); err != nil {
		return nil, err
	}
	if err := f.validate(); err != nil {
		return nil, err
	}
	list, err := n.listSessions(f)
	if err != nil {
		return nil, err
	}
	if !n.PauseBetweenReads(c.Life, &r.Request) {
		return nil, server.ErrStopped
	}
	n.Lock()
	defer n.Unlock()
	for i := range list.Sessions {
		list.Sessions[i].Allocations = n.allocationsOf(list.Sessions[i].ID)
	}
	return list, nil
}

func (n *Node) listSessions(f sessionFilter) (sessionList, error) {
	n.Lock()
	defer n.Unlock()
	if n.Outage {
		return sessionList{}, errors.New("failed to retrieve app sessions")
	}
	if f.Status != nil && *f.Status != "open" && *f.Status != "closed" {
		return sessionList{}, errors.New("invalid status: " + *f.Status)
	}
	var found []*server.Session
	if f.ID == nil {
		found = slices.Clone(n.Sessions.Of(*f.Participant, ""))
	} else if s := n.Sessions.ByID[*f.ID]; s != nil {
		found = append(found, s)
	}
	found = slices.DeleteFunc(found, func(s *server.Session) bool {
		return f.Participant != nil && !slices.Contains(s.Definition.Participants, *f.Participant) || f.Status != nil && *f.Status != s.Status
	})
	found, meta := paginate(f.Pagination, found, func(s *server.Session) time.Time { return s.Created })
	list := sessionList{[]sessionRow{}, meta}
	for _, s := range found {
		// As recorded, the participants are ordered by address if there is one session, and otherwise as defined.
		list.Sessions = append(list.Sessions, sessionRow{
			ID: s.ID, Status: s.Status, Definition: wireDefinition(s.Definition, len(found) == 1), Data: s.Data, Version: formatNumber(s.Version),
		})
	}
	return list, nil
}

// allocationsOf are a session's allocations, by asset, then participant.
func (n *Node) allocationsOf(id string) []server.Allocation {
	all := append([]server.Allocation{}, n.currentSplit(n.Sessions.ByID[id]).rows()...)
	slices.SortStableFunc(all, func(a, b server.Allocation) int { return strings.Compare(a.Asset, b.Asset) })
	return all
}

var hexAddress = regexp.MustCompile(`^0x[0-9a-f]{40}$`)

// parseWallet reads the address in a field, in any case, and spells it in EIP-55.
func parseWallet(field, text string) (string, error) {
	wallet, err := parseAddress(text)
	if err != nil {
		return "", fmt.Errorf("invalid %s: %w", field, err)
	}
	return wallet, nil
}

func parseAddress(text string) (string, error) {
	lower := strings.ToLower(text)
	if !strings.HasPrefix(lower, "0x") || len(lower) != 42 {
		return "", errors.New("invalid hex address: incorrect length, expected 42 characters including 0x prefix")
	}
	if !hexAddress.MatchString(lower) {
		at := 2 + strings.IndexFunc(lower[2:], func(c rune) bool { return !strings.ContainsRune("0123456789abcdef", c) })
		return "", fmt.Errorf("invalid hex address: character '%c' at position %d is not a valid hexadecimal character", lower[at], at)
	}
	return server.Checksum(lower), nil
}
