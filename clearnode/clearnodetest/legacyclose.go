package clearnodetest

import (
	"errors"
	"fmt"
	"strings"

	"github.com/shopspring/decimal"
)

// legacyClosing is all that the signatures of a close are over, in this order.
type legacyClosing struct {
	ID          string       `json:"app_session_id"`
	Allocations []Allocation `json:"allocations"`
}

func legacyClose(n *Node, c *conn, m *legacyMessage) (any, error) {
	var p legacyClosing
	if err := m.parse(&p); err != nil {
		return nil, err
	}
	if p.ID == "" || len(p.Allocations) == 0 {
		return nil, refusal("missing required parameters: app_id or allocations")
	}
	for _, a := range p.Allocations {
		if a.Participant == "" || a.Asset == "" || a.Amount.IsNegative() {
			return nil, refusal("invalid allocation row")
		}
	}
	v, err := n.checkLegacyClose(m, p)
	if err != nil {
		return nil, err
	}
	if !n.work(c, &m.request) {
		return nil, errStopped
	}
	err = n.commitClose(c, &m.request, closing{ID: p.ID, Allocations: p.Allocations}, v)
	switch {
	case errors.Is(err, errStopped):
		return nil, err
	case err != nil: // the database went away in the middle
		return nil, errLegacyCut
	}
	return legacyRow{ID: p.ID, Status: "closed"}, nil
}

// checkLegacyClose makes a close's checks. The real node's transaction locks nothing either, and its update finds the session
// by its key alone, so of two that meet both go through.
func (n *Node) checkLegacyClose(m *legacyMessage, p legacyClosing) (verdict, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down {
		return verdict{}, errLegacyAway
	}
	s, ok := n.sessions.byID[p.ID]
	if !ok || s.status != "open" {
		return verdict{}, refusal("virtual app not found or not open: " + errNoRecord.Error())
	}
	signed, err := s.legacyQuorum(m.data.over([]legacyClosing{p}), m.texts)
	if err != nil {
		return verdict{}, err
	}
	v := verdict{session: s, draft: n.book.draft(), signed: signed, version: s.version}
	held := s.legacyBalance(n.book, p.Allocations)
	return v, v.payLegacy(held, p.Allocations)
}

// legacyQuorum adds up the signers' weights, addresses in any case. It returns the signers as the definition spells them.
func (s *session) legacyQuorum(signed []byte, sigs []string) ([]string, error) {
	var wallets []string
	var total int64
	for _, text := range sigs {
		signer, err := legacySigner(signed, text)
		if err != nil {
			return nil, err
		}
		wallet, weight := s.participant(signer)
		lower := strings.ToLower(signer)
		switch {
		case wallet != "" && contains(wallets, wallet):
			return nil, refusal("duplicate signature")
		case wallet == "":
			return nil, refusal("signature from unknown participant " + lower)
		case weight <= 0:
			return nil, refusal("zero weight for signer " + lower)
		}
		wallets = append(wallets, wallet)
		total += weight
	}
	if total < int64(s.def.Quorum) {
		return nil, refusal(fmt.Sprintf("quorum not met: %d / %d", total, s.def.Quorum))
	}
	return wallets, nil
}

// participant finds an address in any case, as the definition spells it, and its weight. Of one listed twice the last counts.
func (s *session) participant(address string) (spelled string, weight int64) {
	for i, p := range s.def.Participants {
		if strings.EqualFold(p, address) {
			spelled, weight = p, s.def.Weights[i]
		}
	}
	return spelled, weight
}

// legacyBalance is what the participants have in the session of the assets that the rows name. Nobody asks for the others.
func (s *session) legacyBalance(b *book, rows []Allocation) map[string]decimal.Decimal {
	held := map[string]decimal.Decimal{}
	for _, a := range rows {
		held[a.Asset] = decimal.Zero
	}
	for asset := range held {
		for _, p := range s.def.Participants {
			held[asset] = held[asset].Add(b.sums[part{s.id, p, asset}])
		}
	}
	return held
}

// payLegacy drafts the payout. Whether a row's participant is one is asked in any case, but the accounts are debited and
// credited as the row spells them: another spelling leaves the session's part where it is and credits an account that is
// nobody's.
func (v verdict) payLegacy(held map[string]decimal.Decimal, rows []Allocation) error {
	paid := map[string]decimal.Decimal{}
	var seen []string
	for _, a := range rows {
		spelled, _ := v.session.participant(a.Participant)
		switch {
		case spelled == "":
			return refusal("allocation to non-participant " + a.Participant)
		case contains(seen, spelled):
			return refusal("participant " + a.Participant + " appears more than once")
		}
		seen = append(seen, spelled)
		mine := v.draft.balance(part{v.session.id, a.Participant, a.Asset})
		if err := recordLegacy(v.draft, v.session.id, a.Participant, a.Asset, mine.Neg()); err != nil {
			return refusal("failed to debit session: " + err.Error())
		}
		if err := recordLegacy(v.draft, a.Participant, a.Participant, a.Asset, a.Amount); err != nil {
			return refusal("failed to credit participant: " + err.Error())
		}
		paid[a.Asset] = paid[a.Asset].Add(a.Amount)
	}
	if len(seen) != len(v.session.def.Participants) {
		return refusal("allocations must be provided for every participant exactly once")
	}
	for _, asset := range sorted(held) {
		if !held[asset].Equal(paid[asset]) {
			return refusal(fmt.Sprintf("asset %s not fully redistributed", asset))
		}
	}
	return nil
}
