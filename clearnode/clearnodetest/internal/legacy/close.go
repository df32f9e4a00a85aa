package legacy

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/shopspring/decimal"

	"settled/clearnode/clearnodetest/internal/server"
)

// closeParams is all that the signatures of a close sign, in this order.
type closeParams struct {
	ID          string              `json:"app_session_id"`
	Allocations []server.Allocation `json:"allocations"`
}

func (n *Node) closeAppSession(c *server.Conn, m *message) (any, error) {
	var p closeParams
	if err := m.parse(&p); err != nil {
		return nil, err
	}
	if p.ID == "" || len(p.Allocations) == 0 {
		return nil, errors.New("missing required parameters: app_id or allocations")
	}
	for _, a := range p.Allocations {
		if a.Participant == "" || a.Asset == "" || a.Amount.IsNegative() {
			return nil, errors.New("invalid allocation row")
		}
	}
	closing, err := n.checkClose(m, p)
	if err != nil {
		return nil, err
	}
	if !n.PauseBeforeCommit(c.Life, &m.Request) {
		return nil, server.ErrStopped
	}
	if err := n.CommitClose(c.Life, &m.Request, closing, errDatabaseLost); err != nil {
		return nil, err
	}
	return sessionRow{ID: p.ID, Status: "closed"}, nil
}

// checkClose makes the checks of a close. The real node's transaction locks nothing either, and its update finds the session by
// its key alone, so two closes that overlap are both committed.
func (n *Node) checkClose(m *message, p closeParams) (server.Closing, error) {
	n.Lock()
	defer n.Unlock()
	if n.Outage {
		return server.Closing{}, errDatabaseAway
	}
	s, ok := n.Sessions.ByID[p.ID]
	if !ok || s.Status != "open" {
		return server.Closing{}, fmt.Errorf("virtual app not found or not open: %w", errNoRecord)
	}
	signers, err := checkQuorum(s, m.data.withParams([]closeParams{p}), m.sigs)
	if err != nil {
		return server.Closing{}, err
	}
	return n.draftClose(s, p.Allocations, signers)
}

// checkQuorum returns the signers, as the definition spells them, if their weights reach the quorum. Addresses may be spelled in
// any case.
func checkQuorum(s *server.Session, signed []byte, sigs []string) ([]string, error) {
	var wallets []string
	var total int64
	for _, sig := range sigs {
		signer, err := recoverSigner(signed, sig)
		if err != nil {
			return nil, err
		}
		wallet, weight := findParticipant(s, signer)
		lower := strings.ToLower(signer)
		switch {
		case wallet != "" && slices.Contains(wallets, wallet):
			return nil, errors.New("duplicate signature")
		case wallet == "":
			return nil, errors.New("signature from unknown participant " + lower)
		case weight <= 0:
			return nil, errors.New("zero weight for signer " + lower)
		}
		wallets = append(wallets, wallet)
		total += weight
	}
	if total < int64(s.Definition.Quorum) {
		return nil, fmt.Errorf("quorum not met: %d / %d", total, s.Definition.Quorum)
	}
	return wallets, nil
}

// findParticipant finds an address in any case. It returns the definition's spelling and weight, the last if it is listed twice.
func findParticipant(s *server.Session, address string) (spelled string, weight int64) {
	for i, p := range s.Definition.Participants {
		if strings.EqualFold(p, address) {
			spelled, weight = p, s.Definition.Weights[i]
		}
	}
	return spelled, weight
}

// draftClose drafts the payout. A row's participant may be spelled in any case, but the accounts are debited and credited as the
// row spells them: another spelling leaves the session's part where it is and credits an account that belongs to nobody. Only
// the sums of the assets that the rows name are compared.
func (n *Node) draftClose(s *server.Session, rows []server.Allocation, signers []string) (server.Closing, error) {
	closing := server.Closing{Session: s, Draft: n.Ledger.Begin(), Payouts: rows, Signers: signers, Version: s.Version}
	contents, paid := map[string]decimal.Decimal{}, map[string]decimal.Decimal{}
	for _, a := range rows {
		if _, known := contents[a.Asset]; known {
			continue
		}
		contents[a.Asset] = decimal.Zero
		for _, p := range s.Definition.Participants {
			contents[a.Asset] = contents[a.Asset].Add(n.Ledger.Balances[server.Part{Account: s.ID, Wallet: p, Asset: a.Asset}])
		}
	}
	var seen []string
	for _, a := range rows {
		spelled, _ := findParticipant(s, a.Participant)
		switch {
		case spelled == "":
			return closing, errors.New("allocation to non-participant " + a.Participant)
		case slices.Contains(seen, spelled):
			return closing, errors.New("participant " + a.Participant + " appears more than once")
		}
		seen = append(seen, spelled)
		part := closing.Draft.Balance(server.Part{Account: s.ID, Wallet: a.Participant, Asset: a.Asset})
		if err := closing.Draft.Record(s.ID, a.Participant, a.Asset, part.Neg()); err != nil {
			return closing, fmt.Errorf("failed to debit session: %w", err)
		}
		if err := closing.Draft.Record(a.Participant, a.Participant, a.Asset, a.Amount); err != nil {
			return closing, fmt.Errorf("failed to credit participant: %w", err)
		}
		paid[a.Asset] = paid[a.Asset].Add(a.Amount)
	}
	if len(seen) != len(s.Definition.Participants) {
		return closing, errors.New("allocations must be provided for every participant exactly once")
	}
	for _, asset := range server.SortedKeys(contents) {
		if !contents[asset].Equal(paid[asset]) {
			return closing, fmt.Errorf("asset %s not fully redistributed", asset)
		}
	}
	return closing, nil
}
