package nitronode

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/shopspring/decimal"

	"settled/clearnode/clearnodetest/internal/server"
)

// split is a session's allocation: amounts by participant, in lower case, and asset.
// Amounts that were emptied are 0.
type split map[string]map[string]decimal.Decimal

func (p split) set(participant, asset string, amount decimal.Decimal) {
	if p[participant] == nil {
		p[participant] = map[string]decimal.Decimal{}
	}
	p[participant][asset] = amount
}

// rows are ordered by participant, then asset. The real node's order is a map's when it only reports, and this one when it
// writes.
func (p split) rows() []server.Allocation {
	var all []server.Allocation
	for _, participant := range server.SortedKeys(p) {
		for _, asset := range server.SortedKeys(p[participant]) {
			all = append(all, server.Allocation{Participant: participant, Asset: asset, Amount: p[participant][asset]})
		}
	}
	return all
}

// requireAll checks that no part that isn't zero was left out.
func (p split) requireAll(current split, intent string) error {
	for _, a := range current.rows() {
		if _, named := p[a.Participant][a.Asset]; !named && !a.Amount.IsZero() {
			return fmt.Errorf("%s intent missing allocation for participant %s, asset %s with current amount %s",
				intent, a.Participant, a.Asset, a.Amount)
		}
	}
	return nil
}

func (n *Node) currentSplit(s *server.Session) split {
	current := split{}
	for _, e := range n.Ledger.EntriesOf[s.ID] {
		current.set(strings.ToLower(e.Part.Wallet), e.Part.Asset, n.Ledger.Balances[e.Part])
	}
	return current
}

// parseSplit reads an update's rows: only participants, nothing negative, no duplicates, and what the intent checks.
func parseSplit(s *server.Session, rows []server.Allocation, check func(server.Allocation) error) (split, error) {
	requested := split{}
	for _, a := range rows {
		if !slices.ContainsFunc(s.Definition.Participants, func(p string) bool { return strings.ToLower(p) == a.Participant }) {
			return nil, errors.New("allocation to non-participant " + a.Participant)
		}
		if a.Amount.IsNegative() {
			return nil, fmt.Errorf("negative allocation: %s for asset %s", a.Amount, a.Asset)
		}
		if err := check(a); err != nil {
			return nil, err
		}
		if _, duplicate := requested[a.Participant][a.Asset]; duplicate {
			return nil, fmt.Errorf("duplicate allocation for participant %s, asset %s", a.Participant, a.Asset)
		}
		requested.set(a.Participant, a.Asset, a.Amount)
	}
	return requested, nil
}

// overflow is the smallest amount that the database can't store.
var overflow = decimal.New(1, 60)

// checkOperate moves amounts within the session: every part that isn't zero is named, and the sums stay.
func (n *Node) checkOperate(s *server.Session, rows []server.Allocation, current split) ([]move, error) {
	requested, err := parseSplit(s, rows, n.checkPrecision)
	if err != nil {
		return nil, err
	}
	if err := requested.requireAll(current, "operate"); err != nil {
		return nil, err
	}
	const failed = "ledger entry: failed to record ledger entry: "
	var moves []move
	for _, a := range current.rows() {
		if change := requested[a.Participant][a.Asset].Sub(a.Amount); !a.Amount.IsZero() && !change.IsZero() {
			if change.GreaterThanOrEqual(overflow) {
				return nil, fmt.Errorf("failed to record operate "+failed+"%w", server.ErrOverflow)
			}
			moves = append(moves, move{wallet: server.Checksum(a.Participant), asset: a.Asset, change: change})
		}
	}
	for _, a := range requested.rows() {
		if current[a.Participant][a.Asset].IsZero() && !a.Amount.IsZero() {
			if a.Amount.GreaterThanOrEqual(overflow) {
				return nil, fmt.Errorf("failed to record new allocation "+failed+"%w", server.ErrOverflow)
			}
			moves = append(moves, move{wallet: server.Checksum(a.Participant), asset: a.Asset, change: a.Amount})
		}
	}
	sums, contents := server.SumByAsset(rows), n.Ledger.Total(s.ID)
	for _, asset := range server.SortedKeys(sums) {
		if !sums[asset].Equal(contents[asset]) {
			return nil, fmt.Errorf("operate intent allocation mismatch for asset %s: total allocations %s, session balance %s",
				asset, sums[asset], contents[asset])
		}
	}
	return moves, nil
}

// checkPrecision checks a row's asset, and that its amount has no more decimals than the asset.
func (n *Node) checkPrecision(a server.Allocation) error {
	decimals, ok := n.decimals(a.Asset)
	if !ok {
		return fmt.Errorf("failed to get asset decimals: asset '%s' is not supported", a.Asset)
	}
	if given := -int(a.Amount.Exponent()); given > decimals {
		return fmt.Errorf("invalid amount for allocation with asset %s and participant %s: "+
			"amount exceeds maximum decimal precision: max %d decimals allowed, got %d", a.Asset, a.Participant, decimals, given)
	}
	return nil
}

// checkWithdraw pays out what parts are lowered by. It refuses nearly every asset, as the real node does: an amount in its
// database has 18 decimals, so the remainder has too.
func (n *Node) checkWithdraw(s *server.Session, rows []server.Allocation, current split) ([]move, error) {
	requested, err := parseSplit(s, rows, func(a server.Allocation) error {
		if !a.Amount.IsZero() && current[a.Participant][a.Asset].IsZero() {
			return fmt.Errorf("withdraw intent cannot add new allocation for participant %s, asset %s", a.Participant, a.Asset)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := requested.requireAll(current, "withdraw"); err != nil {
		return nil, err
	}
	const databaseDecimals = 18
	var moves []move
	for _, a := range current.rows() {
		change := requested[a.Participant][a.Asset].Sub(a.Amount)
		if change.IsPositive() {
			return nil, fmt.Errorf("withdraw intent cannot increase allocations: participant %s, asset %s", a.Participant, a.Asset)
		}
		if change.IsNegative() {
			if decimals, _ := n.decimals(a.Asset); decimals < databaseDecimals {
				return nil, fmt.Errorf("invalid withdraw amount for allocation with asset %s and participant %s: "+
					"amount exceeds maximum decimal precision: max %d decimals allowed, got %d", a.Asset, a.Participant, decimals, databaseDecimals)
			}
			moves = append(moves, move{server.Checksum(a.Participant), a.Asset, change, true})
		}
	}
	return moves, nil
}

// checkClose pays out everything. The rows must restate the current allocation.
func checkClose(s *server.Session, rows []server.Allocation, current split) ([]move, error) {
	requested, err := parseSplit(s, rows, func(server.Allocation) error { return nil })
	if err != nil {
		return nil, err
	}
	var moves []move
	for _, a := range current.rows() {
		if a.Amount.IsZero() {
			continue
		}
		given, named := requested[a.Participant][a.Asset]
		if !named {
			return nil, requested.requireAll(split{a.Participant: {a.Asset: a.Amount}}, "close")
		}
		if !given.Equal(a.Amount) {
			return nil, fmt.Errorf("close intent requires allocations to match current state: participant %s, asset %s, current %s, provided %s",
				a.Participant, a.Asset, a.Amount, given)
		}
		moves = append(moves, move{server.Checksum(a.Participant), a.Asset, a.Amount.Neg(), true})
	}
	for _, a := range requested.rows() {
		if current[a.Participant][a.Asset].IsZero() && !a.Amount.IsZero() {
			return nil, fmt.Errorf("close intent contains unexpected allocation for participant %s, asset %s with amount %s",
				a.Participant, a.Asset, a.Amount)
		}
	}
	return moves, nil
}
