package clearnodetest

import (
	"errors"
	"fmt"

	"github.com/shopspring/decimal"
)

type closing struct {
	ID          string       `json:"app_session_id"`
	Data        *string      `json:"session_data"`
	Allocations []Allocation `json:"allocations"`
}

// verdict is a close whose checks have passed, before its commit. Nothing holds the session meanwhile: another close of it
// may pass its checks too.
type verdict struct {
	session *session
	draft   *draft
	signed  []string // wallets
	version uint64
}

// errStopped ends a request that the node's stop overtook. Nobody hears of it.
var errStopped = errors.New("stopped")

func closeAppSession(n *Node, c *conn, r *request) (any, error) {
	var p closing
	if err := r.parse(&p); err != nil {
		return nil, err
	}
	signers, err := r.signers()
	if err != nil {
		return nil, refusal("failed to get wallets from RPC message")
	}
	if p.ID == "" || len(p.Allocations) == 0 {
		return nil, refusal("missing required parameters: app_id or allocations")
	}
	v, err := n.checkClose(p, signers)
	if err != nil {
		return nil, err
	}
	if !n.work(c, r) {
		return nil, errStopped
	}
	if err := n.commitClose(c, r, p, v); err != nil {
		return nil, err
	}
	n.tellFunders(p.Allocations)
	return sessionRow{ID: p.ID, Status: "closed", Version: v.version}, nil
}

// work is the time between a close's checks and its commit.
func (n *Node) work(c *conn, r *request) bool {
	if f := n.strike(r, func(k FaultKind) bool { return k == Stall }); f.Kind == Stall {
		return c.life.pause(f.Delay, f.Release)
	}
	return n.cfg.Work <= 0 || c.life.pause(n.cfg.Work, nil)
}

func (n *Node) checkClose(p closing, signers []string) (verdict, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down {
		return verdict{}, refusal("failed to close application session")
	}
	s, err := n.sessions.open(p.ID)
	if err != nil {
		return verdict{}, err
	}
	now := n.cfg.Now()
	wallets := n.keys.wallets(signers, now)
	if err := s.quorum(wallets, "submit_state"); err != nil {
		return verdict{}, err
	}
	if err := n.keys.fit(signers, s.def.Application, now); err != nil {
		return verdict{}, err
	}
	v := verdict{session: s, draft: n.book.draft(), signed: wallets, version: s.version + 1}
	return v, v.pay(n.book.total(s.id), p.Allocations)
}

// quorum adds up the weights of the wallets. One signature by somebody unknown spoils it all.
func (s *session) quorum(wallets []string, request string) error {
	total, unknown := s.weight(wallets)
	if unknown != "" {
		return refusal("signature from unknown participant wallet " + unknown)
	}
	if total < int64(s.def.Quorum) {
		return refusal(fmt.Sprintf("incorrect %s request: quorum not reached: %d / %d", request, total, s.def.Quorum))
	}
	return nil
}

func (s *session) weight(wallets []string) (total int64, unknown string) {
	weights := map[string]int64{}
	for i, p := range s.def.Participants {
		weights[p] = s.def.Weights[i]
	}
	for _, w := range wallets {
		weight, ok := weights[w]
		if !ok {
			return 0, w
		}
		total += weight
	}
	return total, ""
}

// pay drafts the payout: for each row the participant's part of the session is emptied and the row's amount credited to them.
// Only the sums are compared, so the part of a funder without a row stays where it is.
func (v verdict) pay(held map[string]decimal.Decimal, rows []Allocation) error {
	paid := map[string]decimal.Decimal{}
	for _, a := range rows {
		if err := v.session.receives(a); err != nil {
			return err
		}
		account, wallet := accountID(a.Participant), address(a.Participant)
		mine := v.draft.balance(part{v.session.id, wallet, a.Asset})
		if err := v.draft.record(v.session.id, wallet, a.Asset, mine.Neg(), ""); err != nil {
			return err
		}
		if err := v.draft.record(account, wallet, a.Asset, a.Amount, ""); err != nil {
			return err
		}
		v.draft.move(appWithdrawal, v.session.id, account, a.Asset, a.Amount)
		if !a.Amount.IsZero() {
			paid[a.Asset] = paid[a.Asset].Add(a.Amount)
		}
	}
	return redistributed(held, paid)
}

// receives tells whether a row may be paid. Addresses compare byte for byte with the definition's.
func (s *session) receives(a Allocation) error {
	if a.Amount.IsNegative() {
		return refusal(fmt.Sprintf("negative allocation: %s for asset %s", a.Amount, a.Asset))
	}
	if !contains(s.def.Participants, a.Participant) {
		return refusal("allocation to non-participant " + a.Participant)
	}
	return nil
}

func redistributed(held, paid map[string]decimal.Decimal) error {
	for _, asset := range sorted(held) {
		switch out, ok := paid[asset]; {
		case held[asset].IsZero() && ok:
			return refusal(fmt.Sprintf("asset %s is not deposited into the app session. Please deposit the asset first", asset))
		case !held[asset].IsZero() && !held[asset].Equal(out):
			return refusal(fmt.Sprintf("asset %s not fully redistributed", asset))
		}
	}
	for _, asset := range sorted(paid) {
		if _, ok := held[asset]; !ok {
			return refusal("allocation references unknown asset " + asset)
		}
	}
	return nil
}

// commitClose makes the close true, whatever became of the session since its checks.
func (n *Node) commitClose(c *conn, r *request, p closing, v verdict) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c.life.ctx.Err() != nil {
		return errStopped
	}
	if n.down {
		return refusal("failed to close application session")
	}
	v.draft.commit()
	s := v.session
	s.status, s.version, s.updated = "closed", v.version, n.cfg.Now()
	if p.Data != nil {
		s.data = *p.Data
	}
	s.payouts = append(s.payouts, p.Allocations...)
	s.closes = append(s.closes, v.signed)
	if r.close != nil {
		r.close.Committed = true
	}
	return nil
}
