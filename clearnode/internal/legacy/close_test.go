package legacy

import (
	"fmt"
	"strings"
	"testing"

	"settled/clearnode/internal/protocoltest"
	"settled/settlement"
)

// crowd is a session of so many participants, the recording's people.
func crowd(t *testing.T, n int) settlement.Session {
	t.Helper()
	s := settlement.Session{ID: settlement.SessionID("0x" + strings.Repeat("ab", 32)), Quorum: 100}
	for k := 1; k <= n; k++ {
		a := protocoltest.NewKey(t, int64(k)).Address()
		s.Participants = append(s.Participants, settlement.Participant{Address: a, Spelling: a.String()})
	}
	return s
}

// planOf reads "1 usdc 7, 2 weth 0".
func planOf(t *testing.T, text string) []settlement.Allocation {
	t.Helper()
	var plan []settlement.Allocation
	for row := range strings.SplitSeq(text, ", ") {
		var who int
		var asset, amount string
		if _, err := fmt.Sscan(row, &who, &asset, &amount); err != nil {
			t.Fatal(err)
		}
		a, err := settlement.ParseAmount(amount)
		if err != nil {
			t.Fatal(err)
		}
		plan = append(plan, settlement.Allocation{Participant: protocoltest.NewKey(t, int64(who)).Address().String(), Asset: settlement.Asset(asset), Amount: a})
	}
	return plan
}

// TestLegacyRows: exactly one row each, every asset named, nothing due left out.
func TestLegacyRows(t *testing.T) {
	for _, tc := range []struct {
		it, plan, want string
		people         int
		code           settlement.Code
	}{
		{"one asset", "1 usdc 7, 2 usdc 8, 3 usdc 0", "1 usdc 7, 2 usdc 8, 3 usdc 0", 3, ""},
		{"the winner takes it all", "1 usdc 15, 2 usdc 0, 3 usdc 0", "1 usdc 15, 2 usdc 0, 3 usdc 0", 3, ""},
		{"rows that are left out", "2 usdc 15", "1 usdc 0, 2 usdc 15, 3 usdc 0", 3, ""},
		{"two assets, each to one", "1 usdc 7, 1 weth 0, 2 usdc 0, 2 weth 2, 3 usdc 0, 3 weth 0", "", 3, settlement.AllocationRejected},
		{"two assets, the other way", "1 usdc 0, 1 weth 2, 2 usdc 7, 2 weth 0", "", 2, settlement.AllocationRejected},
		{"an asset of which there is nothing", "1 usdc 7, 1 weth 0, 2 usdc 8, 2 weth 0, 3 usdc 0, 3 weth 0", "1 usdc 7, 2 usdc 8, 3 usdc 0", 3, ""},
		{"no room for such an asset", "1 usdc 7, 1 weth 0, 2 usdc 8, 2 weth 0", "1 usdc 7, 2 usdc 8", 2, ""},
		{"nothing at all", "1 usdc 0, 1 weth 0, 2 usdc 0, 2 weth 0", "1 usdc 0, 2 usdc 0", 2, ""},
		{"two assets to one", "1 usdc 7, 1 weth 2, 2 usdc 0, 2 weth 0", "", 2, settlement.AllocationRejected},
		{"two rows of one asset to one", "1 usdc 7, 1 usdc 2, 2 usdc 0", "", 2, settlement.AllocationRejected},
		{"somebody else", "1 usdc 7, 3 usdc 0", "", 2, settlement.NotAParticipant},
	} {
		rows, f := closeRows(planOf(t, tc.plan), crowd(t, tc.people))
		if tc.code != "" {
			if f == nil || f.Code != tc.code {
				t.Errorf("%s: %v, %v", tc.it, rows, f)
			}
			continue
		}
		if f != nil || fmt.Sprint(rows) != fmt.Sprint(planOf(t, tc.want)) {
			t.Errorf("%s: %v, %v", tc.it, rows, f)
		}
	}
	if rows, f := closeRows(nil, crowd(t, 2)); f == nil {
		t.Errorf("no plan: %v", rows)
	}
}

// TestLegacySpelling: a definition that isn't in EIP-55 is refused, whoever it is
// and whatever is due to them.
func TestLegacySpelling(t *testing.T) {
	for i := range 3 {
		s := crowd(t, 3)
		s.Participants[i].Spelling = strings.ToLower(s.Participants[i].Spelling)
		plan := planOf(t, "1 usdc 7, 2 usdc 8, 3 usdc 0")
		plan[i].Participant = s.Participants[i].Spelling
		rows, f := closeRows(plan, s)
		if f == nil || f.Code != settlement.AllocationRejected || !strings.Contains(f.Message, s.Participants[i].Spelling) || !strings.Contains(f.Message, "account") {
			t.Errorf("participant %d: %v, %v", i+1, rows, f)
		}
	}
	s := crowd(t, 2)
	plan := planOf(t, "1 usdc 7, 2 usdc 8")
	plan[0].Participant = strings.ToLower(plan[0].Participant)
	if rows, f := closeRows(plan, s); f == nil || f.Code != settlement.NotAParticipant {
		t.Errorf("a plan in lower case: %v, %v", rows, f)
	}
	s.Participants[1] = s.Participants[0]
	if rows, f := closeRows(planOf(t, "1 usdc 7"), s); f == nil || f.Code != settlement.AllocationRejected {
		t.Errorf("twice the same: %v, %v", rows, f)
	}
}
