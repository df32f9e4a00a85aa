package nitrorpc

import (
	"errors"
	"fmt"
	"slices"

	"github.com/shopspring/decimal"

	"settled/clearnode/clearnodetest/internal/server"
)

type closeParams struct {
	ID          string              `json:"app_session_id"`
	Data        *string             `json:"session_data"`
	Allocations []server.Allocation `json:"allocations"`
}

func (n *Node) closeAppSession(c *server.Conn, r *request, p closeParams, signers []string) (any, error) {
	if p.ID == "" || len(p.Allocations) == 0 {
		return nil, errors.New("missing required parameters: app_id or allocations")
	}
	closing, err := n.checkClose(p, signers)
	if err != nil {
		return nil, err
	}
	if !n.PauseBeforeCommit(c.Life, &r.Request) {
		return nil, server.ErrStopped
	}
	if err := n.CommitClose(c.Life, &r.Request, closing, errors.New("failed to close application session")); err != nil {
		return nil, err
	}
	n.notifyFunders(p.Allocations)
	return sessionRow{ID: p.ID, Status: "closed", Version: closing.Version}, nil
}

func (n *Node) checkClose(p closeParams, signers []string) (server.Closing, error) {
	n.Lock()
	defer n.Unlock()
	if n.Outage {
		return server.Closing{}, errors.New("failed to close application session")
	}
	s, err := n.openSession(p.ID)
	if err != nil {
		return server.Closing{}, err
	}
	wallets, err := n.checkQuorum(s, signers, "submit_state")
	if err != nil {
		return server.Closing{}, err
	}
	return draftClose(n.State, s, p.Allocations, p.Data, wallets)
}

// openSession finds an open session.
func (n *Node) openSession(id string) (*server.Session, error) {
	s, ok := n.Sessions.ByID[id]
	if !ok || s.Status != "open" {
		return nil, errors.New("an open app session not found: record not found")
	}
	return s, nil
}

// checkQuorum returns the wallets that signed if their weights reach the quorum. One signature by an unknown wallet fails all.
func (n *Node) checkQuorum(s *server.Session, signers []string, request string) ([]string, error) {
	now := n.Config.Now()
	wallets := n.keys.wallets(signers, now)
	total, unknown := s.Weight(wallets)
	if unknown != "" {
		return nil, errors.New("signature from unknown participant wallet " + unknown)
	}
	if total < int64(s.Definition.Quorum) {
		return nil, fmt.Errorf("incorrect %s request: quorum not reached: %d / %d", request, total, s.Definition.Quorum)
	}
	return wallets, n.keys.checkApplication(signers, s.Definition.Application, now)
}

// draftClose drafts the payout: each row empties the participant's part of the session and credits the row's amount. Only the
// sums are compared, so the part of a funder without a row stays where it is.
func draftClose(n *server.State, s *server.Session, rows []server.Allocation, data *string, signers []string) (server.Closing, error) {
	closing := server.Closing{Session: s, Draft: n.Ledger.Begin(), Payouts: rows, Data: data, Signers: signers, Version: s.Version + 1}
	paid := map[string]decimal.Decimal{}
	for _, a := range rows {
		if err := checkRow(s, a); err != nil {
			return closing, err
		}
		part := closing.Draft.Balance(server.Part{Account: s.ID, Wallet: server.Checksum(a.Participant), Asset: a.Asset})
		if err := payOut(closing.Draft, s, a, part, a.Amount); err != nil {
			return closing, err
		}
		if !a.Amount.IsZero() {
			paid[a.Asset] = paid[a.Asset].Add(a.Amount)
		}
	}
	return closing, checkRedistributed(n.Ledger.Total(s.ID), paid)
}

// checkRow checks that a row may be paid. Addresses must equal the definition's, byte for byte.
func checkRow(s *server.Session, a server.Allocation) error {
	if a.Amount.IsNegative() {
		return fmt.Errorf("negative allocation: %s for asset %s", a.Amount, a.Asset)
	}
	if !slices.Contains(s.Definition.Participants, a.Participant) {
		return errors.New("allocation to non-participant " + a.Participant)
	}
	return nil
}

// checkRedistributed checks that what is paid of each asset is what the session contains.
func checkRedistributed(contents, paid map[string]decimal.Decimal) error {
	for _, asset := range server.SortedKeys(contents) {
		switch out, ok := paid[asset]; {
		case contents[asset].IsZero() && ok:
			return fmt.Errorf("asset %s is not deposited into the app session. Please deposit the asset first", asset)
		case !contents[asset].IsZero() && !contents[asset].Equal(out):
			return fmt.Errorf("asset %s not fully redistributed", asset)
		}
	}
	for _, asset := range server.SortedKeys(paid) {
		if _, ok := contents[asset]; !ok {
			return errors.New("allocation references unknown asset " + asset)
		}
	}
	return nil
}

// CloseWithoutRequest closes a session with the signatures of all participants, without a connection. It does so several times
// as closes do that overlap: all pass their checks before the first is committed.
func CloseWithoutRequest(n *server.State, id string, rows []server.Allocation, times int) error {
	n.Lock()
	defer n.Unlock()
	s, ok := n.Sessions.ByID[id]
	if !ok || s.Status != "open" {
		return errors.New("an open app session not found: record not found")
	}
	var drafts []server.Closing
	for range times {
		closing, err := draftClose(n, s, rows, nil, s.Definition.Participants)
		if err != nil {
			return err
		}
		drafts = append(drafts, closing)
	}
	for _, closing := range drafts {
		closing.Commit(n.Config.Now())
	}
	return nil
}
