package clearnodetest

import (
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
)

var (
	playerA = addressOf(key(1))
	playerB = addressOf(key(2))
	judge   = addressOf(key(3))
)

// duel is the recordings' session: two players who may not decide and a judge who does.
func duel(nonce uint64) Definition {
	return Definition{
		Application: "cnharness", Protocol: "NitroRPC/0.2", Participants: []string{playerA, playerB, judge},
		Weights: []int64{0, 0, 100}, Quorum: 100, Challenge: 86400, Nonce: nonce,
	}
}

// open opens a duel with 10 usdc of player A and 5 of player B.
func open(t testing.TB, n *Node, nonce uint64) string {
	t.Helper()
	return openDuel(t, n, duel(nonce))
}

func openDuel(t testing.TB, n *Node, def Definition) string {
	t.Helper()
	n.Fund(common.HexToAddress(playerA), "usdc", amount("10"))
	n.Fund(common.HexToAddress(playerB), "usdc", amount("5"))
	id, err := n.OpenSession(def, rows("10", "5"))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// rows are the players' usdc.
func rows(a, b string) []Allocation {
	return []Allocation{{playerA, "usdc", amount(a)}, {playerB, "usdc", amount(b)}}
}

func closeOf(id string, rows []Allocation) closing { return closing{ID: id, Allocations: rows} }

// wantChecked compares what Check finds with a word of each finding.
func wantChecked(t *testing.T, n *Node, words ...string) {
	t.Helper()
	err := n.Check()
	if err == nil {
		if len(words) > 0 {
			t.Errorf("nothing found, want %q", words)
		}
		return
	}
	found := strings.Split(err.Error(), "\n")
	if len(found) != len(words) {
		t.Fatalf("found %q, want %q", found, words)
	}
	for i, w := range words {
		if !strings.Contains(found[i], w) {
			t.Errorf("found %q, want %q", found[i], w)
		}
	}
}

func wantStatus(t *testing.T, n *Node, id, status string) SessionState {
	t.Helper()
	s, ok := n.Session(id)
	if !ok || s.Status != status {
		t.Fatalf("session %+v, want it %s", s, status)
	}
	return s
}
