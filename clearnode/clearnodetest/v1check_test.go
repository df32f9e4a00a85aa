package clearnodetest

import "testing"

// TestV1CheckFinds breaks the node's own laws, which no request can.
func TestV1CheckFinds(t *testing.T) {
	one := []Allocation{{playerA, "usdc", amount("1")}}
	for _, tc := range []struct {
		it    string
		spoil func(*Node, *session)
		words []string
	}{
		{"nothing", func(*Node, *session) {}, nil},
		{"an unsigned operate", func(_ *Node, s *session) { s.states[3].signed = []string{playerA} },
			[]string{"version 4 (operate) signed with weight 0 of 100"}},
		{"a stranger's operate", func(_ *Node, s *session) { s.states[3].signed = []string{judge, "0x00"} },
			[]string{"version 4 (operate) signed with weight 0 of 100"}},
		{"an unsigned close", func(_ *Node, s *session) { s.closes[0], s.states[4].signed = nil, nil },
			[]string{"closed with weight 0 of 100", "version 5 (close) signed with weight 0 of 100"}},
		{"a version twice", func(_ *Node, s *session) { s.states[4].version = 4 }, []string{"version 4 (close) follows version 4"}},
		{"an operate that makes money", func(_ *Node, s *session) { s.states[3].rows = append(s.states[3].rows, one...) },
			[]string{"version 4 (operate) left", "version 5 (close) left", "version 5 (close) paid"}},
		{"a close that pays another split", func(_ *Node, s *session) { s.states[4].paid = rows("8", "7") },
			[]string{"version 5 (close) paid"}},
		{"a second close", func(_ *Node, s *session) { s.closes = append(s.closes, s.closes[0]) }, []string{"closed 2 times"}},
		{"an overpaid session", func(_ *Node, s *session) { s.payouts = append(s.payouts, one...) }, []string{"paid out 16 of 15 usdc"}},
		{"money from nowhere", func(n *Node, _ *session) {
			d := n.book.draft()
			_ = d.record(playerA, playerA, "usdc", amount("0.000001"), "")
			d.commit()
		}, []string{"created 0.000001 usdc"}},
		{"money left behind", func(n *Node, s *session) {
			n.grantV1(s, Allocation{playerA, "usdc", amount("2")})
		}, []string{"2 usdc of " + playerA + " left in the account", "version 5 (close) left"}},
	} {
		t.Run(tc.it, func(t *testing.T) {
			n := startV1(t, Config{})
			id := openV1Duel(t, n, 1)
			for _, u := range []StateUpdate{operate(id, 4, rows("7", "8")), closeAt(id, 5, rows("7", "8"))} {
				if err := n.Submit(u, key(3)); err != nil {
					t.Fatal(err)
				}
			}
			n.mu.Lock()
			tc.spoil(n, n.sessions.byID[id])
			n.mu.Unlock()
			wantChecked(t, n, tc.words...)
		})
	}
}
