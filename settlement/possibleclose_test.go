package settlement

import (
	"cmp"
	"testing"
	"time"
)

// TestPossibleCloses: a closed versioned session whose payouts may include withdrawals is
// done if the last of them, from some instant on, are what the policy pays of their sum.
func TestPossibleCloses(t *testing.T) {
	a, _ := ParseAddress(addrA)
	b, _ := ParseAddress(addrB)
	row := func(of Address, sum string, second int64) Transfer {
		return Transfer{Wallet: of, Asset: "usdc", Amount: amount(sum), At: time.Unix(second, 0)}
	}
	o := outcome(t, "payment_completed", `"parties":{"provider":"`+addrB+`"}`, 1)
	for name, c := range map[string]struct {
		payouts  []Transfer
		recorded string // what b gets; none: closed_elsewhere
		version  uint64 // 0: 5
	}{
		"withdrawn before":         {[]Transfer{row(a, "5", 1), row(b, "10", 8)}, "10", 0},
		"all of it":                {[]Transfer{row(b, "15", 1)}, "15", 0},
		"in the same second":       {[]Transfer{row(a, "5", 1), row(b, "10", 1)}, "", 0},
		"the last is another's":    {[]Transfer{row(b, "10", 1), row(a, "5", 8)}, "", 0},
		"no room for a withdrawal": {[]Transfer{row(a, "5", 1), row(b, "10", 8)}, "", 3},
		"room for one":             {[]Transfer{row(a, "5", 1), row(b, "10", 8)}, "10", 4},
		"another's between":        {[]Transfer{row(b, "5", 1), row(a, "5", 4), row(b, "5", 8)}, "5", 0},
		"another's with the last":  {[]Transfer{row(b, "5", 1), row(b, "10", 8), row(a, "1", 8)}, "", 0},
		"nothing shown":            {nil, "", 0},
	} {
		s := newWorldOf(t, versioned).session
		s.Open, s.Version, s.Payouts, s.Undisclosed.Payouts = false, cmp.Or(c.version, 5), c.payouts, true
		decision := Next(Observation{Outcome: o, Policy: builtIn5[o.Scenario], Session: s, MaxAttempts: 8, FenceMargin: margin})
		if c.recorded == "" {
			if decision.Action != ActionFail || decision.Failure.Code != ClosedElsewhere {
				t.Errorf("%s: %+v", name, decision)
			}
			continue
		}
		if decision.Action != ActionDone {
			t.Errorf("%s: %+v", name, decision)
			continue
		}
		closed := Entry{Allocation: decision.Plan.Allocations}
		paid, readable := sumAllocations(closed.Allocation)
		if !readable || len(paid) != 1 || !paid[payoutKey{b, "usdc"}].Equal(amount(c.recorded)) {
			t.Errorf("%s: recorded %v", name, closed.Allocation)
		}
		if rows, comparable := s.PaidOtherwise(closed); rows != nil || !comparable {
			t.Errorf("%s: compared %v %v", name, rows, comparable)
		}
	}
}
