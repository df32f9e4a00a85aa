package clearnodetest

import "sort"

// The real node passes its database's errors on as they are. These are what its driver says of a Postgres that isn't there,
// as seen with the real node, and of one that goes away in the middle of a transaction.
const (
	errLegacyAway = refusal("failed to connect to `user=postgres database=clearnode`: " +
		"127.0.0.1:5432 (127.0.0.1): dial error: dial tcp 127.0.0.1:5432: connect: connection refused")
	errLegacyCut = refusal("FATAL: terminating connection due to administrator command (SQLSTATE 57P01)")
)

const errNoRecord = refusal("record not found")

// legacySession looks a session up, whatever its status.
func (n *Node) legacySession(id string) (*session, error) {
	if n.down {
		return nil, errLegacyAway
	}
	s, ok := n.sessions.byID[id]
	if !ok {
		return nil, errNoRecord
	}
	return s, nil
}

func legacyPing(*Node, *conn, *legacyMessage) (any, error) { return nil, nil }

func legacyConfig(n *Node, c *conn, m *legacyMessage) (any, error) {
	return getConfig(n, c, &m.request)
}

func legacyAssets(n *Node, _ *conn, m *legacyMessage) (any, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down {
		return nil, refusal("failed to retrieve assets: " + errLegacyAway.Error())
	}
	var chain *uint32
	if p, ok := m.params.(map[string]any); ok {
		if id, ok := p["chain_id"].(float64); ok {
			wanted := uint32(id)
			chain = &wanted
		}
	}
	rows := n.assets(chain).Assets
	sort.SliceStable(rows, func(i, j int) bool {
		a, b := rows[i], rows[j]
		return a.ChainID < b.ChainID || a.ChainID == b.ChainID && a.Symbol < b.Symbol
	})
	return rows, nil
}

// legacyDefinition is what a session is, as on the wire; its id is the Keccak-256 of its JSON in this order of fields.
type legacyDefinition struct {
	Protocol     string   `json:"protocol"`
	Participants []string `json:"participants"`
	Weights      []uint64 `json:"weights"`
	Quorum       uint64   `json:"quorum"`
	Challenge    uint64   `json:"challenge"`
	Nonce        uint64   `json:"nonce,omitempty"`
}

func legacyAppDefinition(n *Node, _ *conn, m *legacyMessage) (any, error) {
	id := m.words()["app_session_id"]
	if id == "" {
		return nil, refusal("missing account ID")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	s, err := n.legacySession(id)
	if err != nil {
		return nil, refusal("failed to find application: " + err.Error())
	}
	return s.def.legacy(), nil
}

func (d Definition) legacy() legacyDefinition {
	weights := make([]uint64, len(d.Weights))
	for i, w := range d.Weights {
		weights[i] = uint64(w)
	}
	return legacyDefinition{d.Protocol, d.Participants, weights, d.Quorum, d.Challenge, d.Nonce}
}

// legacyRow is a session in lists. Answers to changes use it too, with no more than id and status.
type legacyRow struct {
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

// legacyAppSessions lists all of a participant's sessions: there are no pages, and no order that the real node promises.
func legacyAppSessions(n *Node, _ *conn, m *legacyMessage) (any, error) {
	p := m.words()
	if p["participant"] == "" {
		return nil, refusal("missing participant")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down {
		return nil, refusal("failed to find application sessions: " + errLegacyAway.Error())
	}
	rows := []legacyRow{}
	for _, s := range n.sessions.among(p["participant"], p["status"]) {
		d := s.def
		rows = append(rows, legacyRow{s.id, s.status, d.Participants, d.Protocol, d.Challenge, d.Weights, d.Quorum, s.version, d.Nonce})
	}
	return rows, nil
}

// legacyLedgerEntries shows the caller's rows of an account, oldest first, and nobody else's.
func legacyLedgerEntries(n *Node, c *conn, m *legacyMessage) (any, error) {
	p := m.words()
	if p["account_id"] == "" {
		return nil, refusal("missing account_id")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down {
		return nil, refusal("failed to find account: " + errLegacyAway.Error())
	}
	rows := []entryRow{}
	for _, e := range n.book.in[p["account_id"]] {
		if e.part.wallet == c.wallet && (p["asset"] == "" || p["asset"] == e.part.asset) {
			rows = append(rows, entryRow{e.id, e.part.account, e.accountType, e.part.asset, e.part.wallet, e.credit, e.debit, micros(e.at)})
		}
	}
	return rows, nil
}

// legacyLedgerBalances are the caller's parts of an account. Without one, of the account with no name, where nothing is.
func legacyLedgerBalances(n *Node, c *conn, m *legacyMessage) (any, error) {
	account := m.words()["participant"]
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down {
		return nil, refusal("failed to find account: " + errLegacyAway.Error())
	}
	return n.book.balances(account, c.wallet), nil
}
