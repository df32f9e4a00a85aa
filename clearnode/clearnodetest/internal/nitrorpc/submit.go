package nitrorpc

import (
	"errors"
	"fmt"
	"strings"

	"github.com/shopspring/decimal"

	"settled/clearnode/clearnodetest/internal/server"
)

type submission struct {
	ID          string              `json:"app_session_id"`
	Intent      string              `json:"intent"`
	Version     uint64              `json:"version"`
	Allocations []server.Allocation `json:"allocations"`
	Data        *string             `json:"session_data"`
}

// stateUpdate notifies the participants of a new state.
type stateUpdate struct {
	AppSession  sessionRow          `json:"app_session"`
	Allocations []server.Allocation `json:"participant_allocations"`
}

func (n *Node) submitAppState(_ *server.Conn, _ *request, p submission, signers []string) (any, error) {
	n.Lock()
	s, changed, err := n.submit(p, signers)
	if err != nil {
		n.Unlock()
		return nil, err
	}
	update := stateUpdate{AppSession: rowOf(s), Allocations: n.CurrentAllocations(s)}
	update.AppSession.Application = "" // never reported, as recorded
	n.Unlock()
	n.notifyFunders(changed)
	for _, wallet := range update.AppSession.Participants {
		n.notify(n.ConnectionsOf(wallet), "asu", update)
	}
	return sessionRow{ID: p.ID, Status: "open", Version: update.AppSession.Version}, nil
}

// submit changes an open session. It returns the session and the rows whose wallets' balances changed.
func (n *Node) submit(p submission, signers []string) (*server.Session, []server.Allocation, error) {
	if n.Outage {
		return nil, nil, errors.New("failed to submit app state")
	}
	s, err := n.openSession(p.ID)
	if err != nil {
		return nil, nil, err
	}
	// Protocol 0.4 counts versions, 0.2 only knows how to operate.
	if s.Definition.Protocol == "NitroRPC/0.4" && p.Version != s.Version+1 {
		return nil, nil, fmt.Errorf("incorrect app state: incorrect version: expected %d, got %d", s.Version+1, p.Version)
	}
	if s.Definition.Protocol == "NitroRPC/0.2" && (p.Intent != "" || p.Version != 0) {
		return nil, nil, errors.New("incorrect request: specified parameters are not supported in this protocol")
	}
	name := "submit_state"
	switch p.Intent {
	case "deposit":
		name = "deposit"
	case "withdraw":
		name = "withdrawal"
	}
	if _, err := n.checkQuorum(s, signers, name); err != nil {
		return nil, nil, err
	}
	next := *s
	d := n.Ledger.Begin()
	var changed []server.Allocation
	switch p.Intent {
	case "deposit":
		changed, err = n.depositMore(d, &next, p.Allocations, signers)
	case "withdraw":
		changed, err = n.withdraw(d, &next, p.Allocations)
	case "operate", "":
		err = n.operate(d, &next, p.Allocations)
	default:
		err = errors.New("incorrect app state: unsupported intent: " + p.Intent)
	}
	if err != nil {
		return nil, nil, err
	}
	d.Commit()
	next.Version++
	next.Updated = n.Config.Now()
	if p.Data != nil {
		next.Data = *p.Data
	}
	*s = next
	return s, changed, nil
}

// current is what a row's participant holds in the session before the request.
func (n *Node) current(s *server.Session, a server.Allocation) decimal.Decimal {
	return n.Ledger.Balances[server.Part{Account: s.ID, Wallet: server.Checksum(a.Participant), Asset: a.Asset}]
}

// operate moves amounts within the session. Only the sums must stay.
func (n *Node) operate(d *server.Draft, s *server.Session, rows []server.Allocation) error {
	sums := map[string]decimal.Decimal{}
	for _, a := range rows {
		if err := checkRow(s, a); err != nil {
			return err
		}
		wallet := server.Checksum(a.Participant)
		before := d.Balance(server.Part{Account: s.ID, Wallet: wallet, Asset: a.Asset})
		if err := record(d, s.ID, wallet, a.Asset, a.Amount.Sub(before)); err != nil {
			return err
		}
		sums[a.Asset] = sums[a.Asset].Add(a.Amount)
	}
	for asset, sum := range sums {
		if sum.IsZero() {
			delete(sums, asset)
		}
	}
	if err := checkRedistributed(n.Ledger.Total(s.ID), sums); err != nil {
		return fmt.Errorf("incorrect operate request: non-zero allocations sum delta: %w", err)
	}
	return nil
}

func (n *Node) depositMore(d *server.Draft, s *server.Session, rows []server.Allocation, signers []string) ([]server.Allocation, error) {
	for _, a := range rows {
		if a.Amount.LessThan(n.current(s, a)) {
			return nil, errors.New("incorrect deposit request: decreased allocation for participant " + a.Participant)
		}
	}
	var changed []server.Allocation
	for _, a := range rows {
		increase := a.Amount.Sub(n.current(s, a))
		if !increase.IsPositive() {
			continue
		}
		if err := checkRow(s, a); err != nil {
			return nil, err
		}
		if err := n.deposit(d, s, a, increase, signers); err != nil {
			// Two errors have other texts here than at creation.
			switch text := err.Error(); {
			case strings.HasPrefix(text, "missing signature"):
				err = errors.New("incorrect deposit request: depositor signature is required")
			case strings.HasPrefix(text, "insufficient funds"):
				err = errors.New("incorrect deposit request: insufficient unified balance")
			}
			return nil, err
		}
		changed = append(changed, a)
	}
	if changed == nil {
		return nil, errors.New("incorrect deposit request: non-positive allocations sum delta")
	}
	return changed, nil
}

func (n *Node) withdraw(d *server.Draft, s *server.Session, rows []server.Allocation) ([]server.Allocation, error) {
	for _, a := range rows {
		if a.Amount.GreaterThan(n.current(s, a)) {
			return nil, errors.New("incorrect withdrawal request: increased allocation for participant " + a.Participant)
		}
	}
	var changed []server.Allocation
	for _, a := range rows {
		if err := checkRow(s, a); err != nil {
			return nil, err
		}
		decrease := n.current(s, a).Sub(a.Amount)
		if !decrease.IsPositive() {
			continue
		}
		if err := payOut(d, s, a, decrease, decrease); err != nil {
			return nil, err
		}
		changed = append(changed, server.Allocation{Participant: a.Participant, Asset: a.Asset, Amount: decrease})
	}
	if changed == nil {
		return nil, errors.New("incorrect withdrawal request: non-negative allocations sum delta")
	}
	s.Payouts = append(s.Payouts[:len(s.Payouts):len(s.Payouts)], changed...)
	return changed, nil
}

// payOut debits a participant's part of the session and credits the participant's account.
func payOut(d *server.Draft, s *server.Session, a server.Allocation, debit, credit decimal.Decimal) error {
	account, wallet := server.AccountID(a.Participant), server.Checksum(a.Participant)
	if err := record(d, s.ID, wallet, a.Asset, debit.Neg()); err != nil {
		return err
	}
	if err := record(d, account, wallet, a.Asset, credit); err != nil {
		return err
	}
	d.RecordTransfer(appWithdrawal, s.ID, account, a.Asset, credit)
	return nil
}
