package legacy

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"settled/clearnode/clearnodetest/internal/server"
)

// findSession finds a session of any status.
func (n *Node) findSession(id string) (*server.Session, error) {
	if n.Outage {
		return nil, errDatabaseAway
	}
	s, ok := n.Sessions.ByID[id]
	if !ok {
		return nil, errNoRecord
	}
	return s, nil
}

func (n *Node) ping(*server.Conn, *message) (any, error) { return nil, nil }

func (n *Node) getConfig(*server.Conn, *message) (any, error) { return n.BrokerConfig(), nil }

func (n *Node) getAssets(_ *server.Conn, m *message) (any, error) {
	n.Lock()
	defer n.Unlock()
	if n.Outage {
		return nil, fmt.Errorf("failed to retrieve assets: %w", errDatabaseAway)
	}
	var chain *uint32
	if p, ok := m.Params.(map[string]any); ok {
		if id, ok := p["chain_id"].(float64); ok {
			wanted := uint32(id)
			chain = &wanted
		}
	}
	rows := n.AssetRows(chain)
	slices.SortStableFunc(rows, func(a, b server.AssetRow) int {
		return cmp.Or(cmp.Compare(a.ChainID, b.ChainID), cmp.Compare(a.Symbol, b.Symbol))
	})
	return rows, nil
}

func (n *Node) getAppDefinition(_ *server.Conn, m *message) (any, error) {
	id := m.stringParams()["app_session_id"]
	if id == "" {
		return nil, errors.New("missing account ID")
	}
	n.Lock()
	defer n.Unlock()
	s, err := n.findSession(id)
	if err != nil {
		return nil, fmt.Errorf("failed to find application: %w", err)
	}
	return wireDefinition(s.Definition), nil
}

// sessionRow is a session in lists. Answers to changes use it too, with only id and status.
type sessionRow struct {
	ID           string   `json:"app_session_id"`
	Status       string   `json:"status"`
	Participants []string `json:"participants,omitempty"`
	Protocol     string   `json:"protocol,omitempty"`
	Challenge    uint64   `json:"challenge,omitempty"`
	Weights      []int64  `json:"weights,omitempty"`
	Quorum       uint64   `json:"quorum,omitempty"`
	Version      uint64   `json:"version,omitempty"`
	Nonce        uint64   `json:"nonce,omitempty"`
}

// getAppSessions lists all sessions of a participant. There are no pages, and the real node promises no order.
func (n *Node) getAppSessions(_ *server.Conn, m *message) (any, error) {
	p := m.stringParams()
	if p["participant"] == "" {
		return nil, errors.New("missing participant")
	}
	n.Lock()
	defer n.Unlock()
	if n.Outage {
		return nil, fmt.Errorf("failed to find application sessions: %w", errDatabaseAway)
	}
	rows := []sessionRow{}
	for _, s := range n.Sessions.Of(p["participant"], p["status"]) {
		d := s.Definition
		rows = append(rows, sessionRow{s.ID, s.Status, d.Participants, d.Protocol, d.Challenge, d.Weights, d.Quorum, s.Version, d.Nonce})
	}
	return rows, nil
}

// getLedgerEntries lists only the caller's entries of an account, oldest first.
func (n *Node) getLedgerEntries(c *server.Conn, m *message) (any, error) {
	p := m.stringParams()
	if p["account_id"] == "" {
		return nil, errors.New("missing account_id")
	}
	n.Lock()
	defer n.Unlock()
	if n.Outage {
		return nil, fmt.Errorf("failed to find account: %w", errDatabaseAway)
	}
	rows := []server.EntryRow{}
	for _, e := range n.Ledger.EntriesOf[p["account_id"]] {
		if e.Part.Wallet == c.Wallet && (p["asset"] == "" || p["asset"] == e.Part.Asset) {
			rows = append(rows, e.Row())
		}
	}
	return rows, nil
}

// getLedgerBalances lists the caller's parts of an account. If none is named, it is the account without a name, which is empty.
func (n *Node) getLedgerBalances(c *server.Conn, m *message) (any, error) {
	account := m.stringParams()["participant"]
	n.Lock()
	defer n.Unlock()
	if n.Outage {
		return nil, fmt.Errorf("failed to find account: %w", errDatabaseAway)
	}
	return n.Ledger.BalancesOf(account, c.Wallet), nil
}
