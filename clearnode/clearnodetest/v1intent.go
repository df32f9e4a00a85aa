package clearnodetest

import (
	"fmt"
	"strings"

	"github.com/shopspring/decimal"
)

// split is who holds how much of each asset of a session, by the participant's address in lower case. Parts that were emptied
// are there with 0.
type split map[string]map[string]decimal.Decimal

func (p split) set(who, asset string, amount decimal.Decimal) {
	if p[who] == nil {
		p[who] = map[string]decimal.Decimal{}
	}
	p[who][asset] = amount
}

// rows are in the order of participants, then assets. The real node's order is a map's where it only reports, and this one
// where it writes.
func (p split) rows() []Allocation {
	var all []Allocation
	for _, who := range sorted(p) {
		for _, asset := range sorted(p[who]) {
			all = append(all, Allocation{who, asset, p[who][asset]})
		}
	}
	return all
}

func (n *Node) heldV1(s *session) split {
	held := split{}
	for _, e := range n.book.in[s.id] {
		held.set(strings.ToLower(e.part.wallet), e.part.asset, n.book.sums[e.part])
	}
	return held
}

// splitV1 reads an update's rows: only participants, nothing negative, nobody twice. More is checked by the intent.
func (s *session) splitV1(rows []Allocation, more func(Allocation) error) (split, error) {
	asked := split{}
	for _, a := range rows {
		if !s.takesPart(a.Participant) {
			return nil, refusal("allocation to non-participant " + a.Participant)
		}
		if a.Amount.IsNegative() {
			return nil, refusal(fmt.Sprintf("negative allocation: %s for asset %s", a.Amount, a.Asset))
		}
		if err := more(a); err != nil {
			return nil, err
		}
		if _, twice := asked[a.Participant][a.Asset]; twice {
			return nil, refusal(fmt.Sprintf("duplicate allocation for participant %s, asset %s", a.Participant, a.Asset))
		}
		asked.set(a.Participant, a.Asset, a.Amount)
	}
	return asked, nil
}

func (s *session) takesPart(lower string) bool {
	for _, p := range s.def.Participants {
		if strings.ToLower(p) == lower {
			return true
		}
	}
	return false
}

// overflow is the least amount that the database can't keep, and overflowing what it says of it.
var overflow = decimal.New(1, 60)

const overflowing = "ERROR: numeric field overflow (SQLSTATE 22003)"

// operateV1 moves parts within the session: every part that isn't zero is named, and the sums stay.
func (n *Node) operateV1(s *session, rows []Allocation, held split) ([]v1Move, error) {
	asked, err := s.splitV1(rows, n.precise)
	if err != nil {
		return nil, err
	}
	if err := asked.names(held, "operate"); err != nil {
		return nil, err
	}
	var moves []v1Move
	for _, a := range held.rows() {
		if change := asked[a.Participant][a.Asset].Sub(a.Amount); !a.Amount.IsZero() && !change.IsZero() {
			if change.GreaterThanOrEqual(overflow) {
				return nil, refusal("failed to record operate ledger entry: failed to record ledger entry: " + overflowing)
			}
			moves = append(moves, v1Move{wallet: address(a.Participant), asset: a.Asset, change: change})
		}
	}
	for _, a := range asked.rows() {
		if held[a.Participant][a.Asset].IsZero() && !a.Amount.IsZero() {
			if a.Amount.GreaterThanOrEqual(overflow) {
				return nil, refusal("failed to record new allocation ledger entry: failed to record ledger entry: " + overflowing)
			}
			moves = append(moves, v1Move{wallet: address(a.Participant), asset: a.Asset, change: a.Amount})
		}
	}
	return moves, balanced(total(rows), n.book.total(s.id))
}

// precise checks a row's asset and that its amount isn't finer than it.
func (n *Node) precise(a Allocation) error {
	decimals, ok := n.decimals(a.Asset)
	if !ok {
		return refusal(fmt.Sprintf("failed to get asset decimals: asset '%s' is not supported", a.Asset))
	}
	if given := -int(a.Amount.Exponent()); given > decimals {
		return refusal(fmt.Sprintf("invalid amount for allocation with asset %s and participant %s: "+
			"amount exceeds maximum decimal precision: max %d decimals allowed, got %d", a.Asset, a.Participant, decimals, given))
	}
	return nil
}

// names checks that no part that isn't zero was left out.
func (p split) names(held split, intent string) error {
	for _, a := range held.rows() {
		if _, named := p[a.Participant][a.Asset]; !named && !a.Amount.IsZero() {
			return refusal(fmt.Sprintf("%s intent missing allocation for participant %s, asset %s with current amount %s",
				intent, a.Participant, a.Asset, a.Amount))
		}
	}
	return nil
}

func balanced(asked, held map[string]decimal.Decimal) error {
	for _, asset := range sorted(asked) {
		if !asked[asset].Equal(held[asset]) {
			return refusal(fmt.Sprintf("operate intent allocation mismatch for asset %s: total allocations %s, session balance %s",
				asset, asked[asset], held[asset]))
		}
	}
	return nil
}

// withdrawV1 pays out what parts are lowered by.
func (n *Node) withdrawV1(s *session, rows []Allocation, held split) ([]v1Move, error) {
	asked, err := s.splitV1(rows, func(a Allocation) error {
		if !a.Amount.IsZero() && held[a.Participant][a.Asset].IsZero() {
			return refusal(fmt.Sprintf("withdraw intent cannot add new allocation for participant %s, asset %s", a.Participant, a.Asset))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := asked.names(held, "withdraw"); err != nil {
		return nil, err
	}
	var moves []v1Move
	for _, a := range held.rows() {
		change := asked[a.Participant][a.Asset].Sub(a.Amount)
		if change.IsPositive() {
			return nil, refusal(fmt.Sprintf("withdraw intent cannot increase allocations: participant %s, asset %s", a.Participant, a.Asset))
		}
		if change.IsNegative() {
			if err := n.withdrawable(a); err != nil {
				return nil, err
			}
			moves = append(moves, v1Move{address(a.Participant), a.Asset, change, true})
		}
	}
	return moves, nil
}

// withdrawable refuses nearly every asset, as the real node does: what its database holds has 18 decimals, so what is left of
// it has too.
func (n *Node) withdrawable(a Allocation) error {
	if decimals, _ := n.decimals(a.Asset); decimals < digits {
		return refusal(fmt.Sprintf("invalid withdraw amount for allocation with asset %s and participant %s: "+
			"amount exceeds maximum decimal precision: max %d decimals allowed, got %d", a.Asset, a.Participant, decimals, digits))
	}
	return nil
}

// closeV1 pays out all there is. The rows only say that the quorum knows who gets what.
func (s *session) closeV1(rows []Allocation, held split) ([]v1Move, error) {
	asked, err := s.splitV1(rows, func(Allocation) error { return nil })
	if err != nil {
		return nil, err
	}
	if err := asked.restates(held); err != nil {
		return nil, err
	}
	var moves []v1Move
	for _, a := range held.rows() {
		if !a.Amount.IsZero() {
			moves = append(moves, v1Move{address(a.Participant), a.Asset, a.Amount.Neg(), true})
		}
	}
	return moves, nil
}

func (p split) restates(held split) error {
	for _, a := range held.rows() {
		if a.Amount.IsZero() {
			continue
		}
		given, named := p[a.Participant][a.Asset]
		if !named {
			return p.names(split{a.Participant: {a.Asset: a.Amount}}, "close")
		}
		if !given.Equal(a.Amount) {
			return refusal(fmt.Sprintf("close intent requires allocations to match current state: participant %s, asset %s, current %s, provided %s",
				a.Participant, a.Asset, a.Amount, given))
		}
	}
	for _, a := range p.rows() {
		if held[a.Participant][a.Asset].IsZero() && !a.Amount.IsZero() {
			return refusal(fmt.Sprintf("close intent contains unexpected allocation for participant %s, asset %s with amount %s",
				a.Participant, a.Asset, a.Amount))
		}
	}
	return nil
}
