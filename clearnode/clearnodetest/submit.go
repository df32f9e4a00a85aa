package clearnodetest

import (
	"fmt"
	"strings"

	"github.com/shopspring/decimal"
)

type submission struct {
	ID          string       `json:"app_session_id"`
	Intent      string       `json:"intent"`
	Version     uint64       `json:"version"`
	Allocations []Allocation `json:"allocations"`
	Data        *string      `json:"session_data"`
}

func submitAppState(n *Node, _ *conn, r *request) (any, error) {
	var p submission
	if err := r.parse(&p); err != nil {
		return nil, err
	}
	signers, err := r.signers()
	if err != nil {
		return nil, refusal("failed to get wallets from RPC message")
	}
	n.mu.Lock()
	s, changed, err := n.submit(p, signers)
	if err != nil {
		n.mu.Unlock()
		return nil, err
	}
	told := stateUpdate{AppSession: s.full(), Allocations: n.parts(s)}
	told.AppSession.Application = "" // never told, as recorded
	n.mu.Unlock()
	n.tellFunders(changed)
	for _, wallet := range told.AppSession.Participants {
		n.notify(wallet, "asu", told)
	}
	return sessionRow{ID: p.ID, Status: "open", Version: told.AppSession.Version}, nil
}

type stateUpdate struct {
	AppSession  sessionRow   `json:"app_session"`
	Allocations []Allocation `json:"participant_allocations"`
}

// parts are what each participant holds of a session's account.
func (n *Node) parts(s *session) []Allocation {
	all := []Allocation{}
	for _, p := range s.def.Participants {
		for _, b := range n.book.balances(s.id, address(p)) {
			if !b.Amount.IsZero() {
				all = append(all, Allocation{p, b.Asset, b.Amount})
			}
		}
	}
	return all
}

// submit changes an open session and returns it with the rows whose wallets' balances changed.
func (n *Node) submit(p submission, signers []string) (*session, []Allocation, error) {
	if n.down {
		return nil, nil, refusal("failed to submit app state")
	}
	s, err := n.sessions.open(p.ID)
	if err != nil {
		return nil, nil, err
	}
	if err := s.accepts(p); err != nil {
		return nil, nil, err
	}
	now := n.cfg.Now()
	if err := s.quorum(n.keys.wallets(signers, now), requestName(p.Intent)); err != nil {
		return nil, nil, err
	}
	if err := n.keys.fit(signers, s.def.Application, now); err != nil {
		return nil, nil, err
	}
	next := *s
	d := n.book.draft()
	changed, err := n.apply(d, &next, p, signers)
	if err != nil {
		return nil, nil, err
	}
	d.commit()
	next.version++
	next.updated = now
	if p.Data != nil {
		next.data = *p.Data
	}
	*s = next
	return s, changed, nil
}

// accepts tells whether the session's protocol knows such a request: 0.4 counts versions, 0.2 only knows how to operate.
func (s *session) accepts(p submission) error {
	if s.def.Protocol == "NitroRPC/0.4" && p.Version != s.version+1 {
		return refusal(fmt.Sprintf("incorrect app state: incorrect version: expected %d, got %d", s.version+1, p.Version))
	}
	if s.def.Protocol == "NitroRPC/0.2" && (p.Intent != "" || p.Version != 0) {
		return refusal("incorrect request: specified parameters are not supported in this protocol")
	}
	return nil
}

// requestName is what errors call a request.
func requestName(intent string) string {
	switch intent {
	case "deposit":
		return "deposit"
	case "withdraw":
		return "withdrawal"
	}
	return "submit_state"
}

func (n *Node) apply(d *draft, s *session, p submission, signers []string) ([]Allocation, error) {
	switch p.Intent {
	case "deposit":
		return n.depositMore(d, s, p.Allocations, signers)
	case "withdraw":
		return n.withdraw(d, s, p.Allocations)
	case "operate", "":
		return nil, n.operate(d, s, p.Allocations)
	}
	return nil, refusal("incorrect app state: unsupported intent: " + p.Intent)
}

// operate moves parts within the session. Only the sums must stay.
func (n *Node) operate(d *draft, s *session, rows []Allocation) error {
	sums := map[string]decimal.Decimal{}
	for _, a := range rows {
		if err := s.receives(a); err != nil {
			return err
		}
		mine := d.balance(part{s.id, address(a.Participant), a.Asset})
		if err := d.record(s.id, address(a.Participant), a.Asset, a.Amount.Sub(mine), ""); err != nil {
			return err
		}
		sums[a.Asset] = sums[a.Asset].Add(a.Amount)
	}
	for asset, sum := range sums {
		if sum.IsZero() {
			delete(sums, asset)
		}
	}
	if err := redistributed(n.book.total(s.id), sums); err != nil {
		return refusal("incorrect operate request: non-zero allocations sum delta: " + err.Error())
	}
	return nil
}

// held is a participant's part of the session before the request.
func (n *Node) held(s *session, a Allocation) decimal.Decimal {
	return n.book.sums[part{s.id, address(a.Participant), a.Asset}]
}

func (n *Node) depositMore(d *draft, s *session, rows []Allocation, signers []string) ([]Allocation, error) {
	for _, a := range rows {
		if a.Amount.LessThan(n.held(s, a)) {
			return nil, refusal("incorrect deposit request: decreased allocation for participant " + a.Participant)
		}
	}
	var changed []Allocation
	for _, a := range rows {
		more := a.Amount.Sub(n.held(s, a))
		if !more.IsPositive() {
			continue
		}
		if err := s.receives(a); err != nil {
			return nil, err
		}
		if err := n.deposit(d, s, a, more, signers); err != nil {
			return nil, depositRefusal(err)
		}
		changed = append(changed, a)
	}
	if changed == nil {
		return nil, refusal("incorrect deposit request: non-positive allocations sum delta")
	}
	return changed, nil
}

// depositRefusal words two refusals as they are worded here and not at creation.
func depositRefusal(err error) error {
	switch text := err.Error(); {
	case strings.HasPrefix(text, "missing signature"):
		return refusal("incorrect deposit request: depositor signature is required")
	case strings.HasPrefix(text, "insufficient funds"):
		return refusal("incorrect deposit request: insufficient unified balance")
	}
	return err
}

func (n *Node) withdraw(d *draft, s *session, rows []Allocation) ([]Allocation, error) {
	for _, a := range rows {
		if a.Amount.GreaterThan(n.held(s, a)) {
			return nil, refusal("incorrect withdrawal request: increased allocation for participant " + a.Participant)
		}
	}
	var changed []Allocation
	for _, a := range rows {
		if err := s.receives(a); err != nil {
			return nil, err
		}
		out := n.held(s, a).Sub(a.Amount)
		if !out.IsPositive() {
			continue
		}
		if err := takeOut(d, s, a, out); err != nil {
			return nil, err
		}
		changed = append(changed, Allocation{a.Participant, a.Asset, out})
	}
	if changed == nil {
		return nil, refusal("incorrect withdrawal request: non-negative allocations sum delta")
	}
	s.payouts = append(s.payouts[:len(s.payouts):len(s.payouts)], changed...)
	return changed, nil
}

func takeOut(d *draft, s *session, a Allocation, out decimal.Decimal) error {
	account, wallet := accountID(a.Participant), address(a.Participant)
	if err := d.record(s.id, wallet, a.Asset, out.Neg(), ""); err != nil {
		return err
	}
	if err := d.record(account, wallet, a.Asset, out, ""); err != nil {
		return err
	}
	d.move(appWithdrawal, s.id, account, a.Asset, out)
	return nil
}
