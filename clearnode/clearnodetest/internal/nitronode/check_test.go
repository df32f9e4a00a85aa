package nitronode

import (
	"errors"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/shopspring/decimal"

	"settled/clearnode/clearnodetest/internal/server"
)

const (
	playerA = "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf"
	playerB = "0x2B5AD5c4795c026514f8317c7a215E218DcCD6cF"
	judge   = "0x6813Eb9362372EEF6200f3b1dbC3f819671cBA69"
)

func usdc(a, b int64) []server.Allocation {
	return []server.Allocation{
		{Participant: playerA, Asset: "usdc", Amount: decimal.NewFromInt(a)}, {Participant: playerB, Asset: "usdc", Amount: decimal.NewFromInt(b)},
	}
}

// TestCheckSession violates the node's rules, which no request can.
func TestCheckSession(t *testing.T) {
	for _, tc := range []struct {
		name    string
		violate func(n *Node, s *server.Session)
		want    []string
	}{
		{"nothing", func(*Node, *server.Session) {}, nil},
		{"an unsigned operate", func(n *Node, s *server.Session) { n.states[s][3].Signers = []string{playerA} },
			[]string{"version 4 (operate) signed with weight 0 of 100"}},
		{"an operate by a stranger", func(n *Node, s *server.Session) { n.states[s][3].Signers = []string{judge, "0x00"} },
			[]string{"version 4 (operate) signed with weight 0 of 100"}},
		{"an unsigned close", func(n *Node, s *server.Session) { n.states[s][4].Signers = nil },
			[]string{"version 5 (close) signed with weight 0 of 100"}},
		{"a duplicate version", func(n *Node, s *server.Session) { n.states[s][4].Version = 4 }, []string{"version 4 (close) follows version 4"}},
		{"an operate that creates money", func(n *Node, s *server.Session) { n.states[s][3].Rows = usdc(8, 8) },
			[]string{"version 4 (operate) left", "version 5 (close) left", "version 5 (close) paid"}},
		{"a close that pays another allocation", func(n *Node, s *server.Session) { n.states[s][4].Paid = usdc(8, 7) },
			[]string{"version 5 (close) paid"}},
		{"money left behind", func(n *Node, s *server.Session) { n.FundSession(s, usdc(2, 0)[0]) }, []string{"version 5 (close) left"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := newNode(t)
			if err := n.Listen(n); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = n.Close() })
			n.Ledger.Fund(playerA, "usdc", decimal.NewFromInt(10))
			n.Ledger.Fund(playerB, "usdc", decimal.NewFromInt(5))
			id, err := n.OpenSession(server.Definition{
				Application: "cnharness", Participants: []string{playerA, playerB, common.HexToAddress(judge).Hex()},
				Weights: []int64{0, 0, 100}, Quorum: 100, Nonce: 1,
			}, usdc(10, 5))
			if err != nil {
				t.Fatal(err)
			}
			for i, intent := range []Intent{IntentOperate, IntentClose} {
				u := StateUpdate{Session: id, Intent: intent, Version: uint64(4 + i), Allocations: usdc(7, 8)}
				if err := n.Submit(n.Running(), u, judgeKey(t)); err != nil {
					t.Fatal(err)
				}
			}
			s := n.Sessions.ByID[id]
			tc.violate(n, s)
			var found []string
			if err := errors.Join(n.CheckSession(s)...); err != nil {
				found = strings.Split(err.Error(), "\n")
			}
			if len(found) != len(tc.want) {
				t.Fatalf("found %q, want %q", found, tc.want)
			}
			for i, want := range tc.want {
				if !strings.Contains(found[i], want) {
					t.Errorf("found %q, want %q", found[i], want)
				}
			}
		})
	}
}
