package clearnode_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/ethereum/go-ethereum/common"

	"settled/clearnode/clearnodetest"
	"settled/settlement"
)

// TestV1BookIsKept: two players with many sessions. Who funded each is found out with
// a page for a hundred of them, and none where it is known already.
func TestV1BookIsKept(t *testing.T) {
	n, c := readyV1(t)
	var ids []settlement.SessionID
	for range 250 {
		ids = append(ids, openGame(t, n))
	}
	for _, id := range ids {
		if s := readSession(t, c, id, settlement.ReadOptions{Funding: true}); s.Undisclosed.Funding || len(s.Deposits) != 2 {
			t.Fatalf("%+v", s)
		}
	}
	// Three pages of each player's deposits, and one of the judge's, who has none.
	if pages := n.Requests(v1Transactions); pages > 8 {
		t.Errorf("%d pages were read, want no more than each player's three and the judge's", pages)
	}
	before := n.Requests(v1Transactions)
	if s := readSession(t, c, openGame(t, n), settlement.ReadOptions{Funding: true}); s.Undisclosed.Funding {
		t.Errorf("a new session: %+v", s)
	}
	if pages := n.Requests(v1Transactions) - before; pages > 3 {
		t.Errorf("%d pages were read for a new session, want the newest of each participant", pages)
	}
}

// TestV1BookAgrees: whatever happens between two looks, who remembers tells the same
// as who has just come.
func TestV1BookAgrees(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	n := startV1(t)
	old := ready(t, configV1(n))
	var ids []settlement.SessionID
	for round := range 6 {
		for range random.IntN(130) {
			ids = append(ids, open(t, n, gameDefinition(), put(playerA, "weth", "3"), put(playerB, "weth", "2")))
		}
		if len(ids) == 0 {
			continue
		}
		for range 5 {
			disturb(t, n, random, ids[random.IntN(len(ids))])
		}
		fresh := ready(t, configV1(n))
		for range 8 {
			id := ids[random.IntN(len(ids))]
			a, b := readSession(t, old, id, settlement.ReadOptions{Funding: true}), readSession(t, fresh, id, settlement.ReadOptions{Funding: true})
			if a.Undisclosed != b.Undisclosed || text(sortedDeposits(a)) != text(sortedDeposits(b)) {
				t.Fatalf("round %d: who remembers sees %v %s, who has just come %v %s", round, a.Undisclosed, text(a.Deposits), b.Undisclosed, text(b.Deposits))
			}
			if a.Undisclosed.Funding {
				t.Fatalf("round %d: %s: the transactions explain it, and it is hidden", round, id)
			}
		}
	}
}

func sortedDeposits(s settlement.Session) []settlement.Transfer {
	return slices.SortedFunc(slices.Values(s.Deposits), func(a, b settlement.Transfer) int {
		return common.Address(a.Wallet).Cmp(common.Address(b.Wallet))
	})
}

// disturb puts more into a session, or takes something out.
func disturb(t *testing.T, n *clearnodetest.Node, random *rand.Rand, id settlement.SessionID) {
	t.Helper()
	n.Fund(common.HexToAddress(playerA), "weth", amount("5"))
	if random.IntN(2) == 0 {
		must(t, n.Deposit(string(id), common.HexToAddress(playerA), "weth", amount("1.5")))
		return
	}
	s, _ := n.Session(string(id))
	rows := s.Current
	for i := range rows {
		rows[i].Amount = rows[i].Amount.Sub(amount("0.125"))
	}
	err := n.Submit(clearnodetest.StateUpdate{Session: string(id), Intent: clearnodetest.IntentWithdraw, Version: s.Version + 1, Allocations: rows}, keyOf(keyJudge))
	must(t, err)
}
