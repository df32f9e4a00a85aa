package settlement

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestEndorse(t *testing.T) {
	house, err := ParsePolicy(PaymentCompleted, []PolicyStep{{To: addrJudge, Share: "2%"}, {To: "provider", Share: "remaining"}})
	if err != nil {
		t.Fatal(err)
	}
	pay := func(members string) Outcome {
		return outcome(t, "payment_completed", `"parties":{"provider":"`+addrB+`"}`+members, 1)
	}
	rows := func(amounts ...string) []Allocation {
		var rows []Allocation
		for i, spelling := range []string{addrA, addrB, addrJudge} {
			rows = append(rows, Allocation{Participant: spelling, Asset: "usdc", Amount: amount(amounts[i])})
		}
		return rows
	}
	all := rows("0", "15.00", "0")
	swapped := []Allocation{all[1], all[0], all[2]}
	respelled := slices.Clone(all)
	respelled[1].Participant = strings.ToLower(addrB)
	renamed := slices.Clone(all)
	renamed[2].Asset = "USDC"
	invalid := pay("")
	invalid.Invalid = Fail(InvalidOutcome, "broken")
	for it, c := range map[string]struct {
		o        Outcome
		policies Policies
		change   func(w *world)
		proposed []Allocation
		code     Code // "": accepted
		says     string
	}{
		"the same":         {proposed: all},
		"another amount":   {proposed: rows("1", "14", "0"), code: AllocationRejected, says: `row 1: this co-signer would pay 0 of "usdc" to "` + addrA + `", the proposal pays 1 of "usdc" to "` + addrA + `"`},
		"another policy":   {policies: Policies{PaymentCompleted: house}, proposed: all, code: AllocationRejected, says: "row 2: this co-signer would pay 14.7"},
		"another order":    {proposed: swapped, code: AllocationRejected, says: "row 1"},
		"another spelling": {proposed: respelled, code: AllocationRejected, says: "row 2"},
		"another asset":    {proposed: renamed, code: AllocationRejected, says: "row 3"},
		"a row less":       {proposed: all[:2], code: AllocationRejected, says: "pays nothing more"},
		"a row more":       {proposed: append(slices.Clone(all), all[0]), code: AllocationRejected, says: "this co-signer would pay nothing more"},
		"nothing":          {proposed: nil, code: AllocationRejected, says: "row 1"},
		"no policy":        {policies: Policies{}, proposed: all, code: UnknownScenario},
		"invalid":          {o: invalid, proposed: all, code: InvalidOutcome},
		"no provider":      {o: outcome(t, "payment_completed", "", 1), proposed: all, code: InvalidOutcome},
		"a stranger":       {o: outcome(t, "payment_completed", `"parties":{"provider":"`+addrX+`"}`, 1), proposed: all, code: NotAParticipant},
		"expected":         {o: pay(`,"expect":{"totals":[{"asset":"usdc","amount":"15"}],"version":1}`), proposed: all},
		"expected less":    {o: pay(`,"expect":{"totals":[{"asset":"usdc","amount":"14"}]}`), proposed: all, code: ExpectationFailed},
		"closed":           {change: func(w *world) { w.close(Plan{}) }, proposed: all, code: ClosedElsewhere},
		"unfunded":         {change: func(w *world) { w.session.Deposits, w.session.Current = nil, nil }, proposed: all, code: SessionUnfunded},
	} {
		for _, k := range []kind{expiring, versioned} {
			w := newWorldOf(t, k)
			if c.change != nil {
				c.change(w)
			}
			if c.o.Session == "" {
				c.o = pay("")
			}
			if c.policies == nil {
				c.policies = builtIn5
			}
			f := CheckProposal(c.o, c.policies, w.shown(ReadOptions{Funding: true}), c.proposed)
			switch {
			case f == nil && c.code != "", f != nil && f.Code != c.code:
				t.Errorf("%s, %s: %v, want %q", it, k, f, c.code)
			case f != nil && !strings.Contains(f.Message, c.says):
				t.Errorf("%s, %s: %q doesn't say %q", it, k, f.Message, c.says)
			}
		}
	}
	w := newWorld(t)
	w.pay(all)
	w.pay(all)
	if f := CheckProposal(pay(""), builtIn5, w.session, all); f == nil || f.Code != Overpaid {
		t.Errorf("overpaid: %v", f)
	}
}

// The co-signer of the state update is asked again for the close, one version later.
func TestEndorseBothWrites(t *testing.T) {
	w := newWorldOf(t, versioned)
	o := outcome(t, "partial_service", `"parties":{"provider":"`+addrB+`"},"completion":"0.3333333","expect":{"version":1}`, 1)
	plan, f := builtIn5[PartialService].Plan(o, w.session)
	if f != nil {
		t.Fatal(f)
	}
	if f := CheckProposal(o, builtIn5, w.session, plan.Allocations); f != nil {
		t.Errorf("operate: %v", f)
	}
	w.operate(plan.Allocations)
	if f := CheckProposal(o, builtIn5, w.session, plan.Allocations); f != nil {
		t.Errorf("close: %v", f)
	}
	w.operate(plan.Allocations) // again, by another party
	if f := CheckProposal(o, builtIn5, w.session, plan.Allocations); f == nil || f.Code != ExpectationFailed {
		t.Errorf("two versions on: %v", f)
	}
	w = newWorldOf(t, versioned)
	w.operate(w.allTo(2))
	if f := CheckProposal(o, builtIn5, w.session, plan.Allocations); f == nil || f.Code != ExpectationFailed {
		t.Errorf("moved elsewhere: %v", f)
	}
}

// CheckProposal accepts exactly the plan that Policy.Plan makes.
func TestEndorseIsPlan(t *testing.T) {
	endorsed := 0
	rapid.Check(t, func(t *rapid.T) {
		p, o, s := drawPlan(t)
		policies := Policies{o.Scenario: p}
		plan, f := p.Plan(o, s)
		if f != nil {
			if got := CheckProposal(o, policies, s, nil); got == nil || got.Code != f.Code {
				t.Fatalf("no plan (%v), and endorse says %v", f, got)
			}
			return
		}
		endorsed++
		if f := CheckProposal(o, policies, s, plan.Allocations); f != nil {
			t.Fatalf("the own plan is refused: %v", f)
		}
		changed := slices.Clone(plan.Allocations)
		at := rapid.IntRange(0, len(changed)-1).Draw(t, "row")
		changed[at].Amount = changed[at].Amount.Add(amount("0.000000000000000000001"))
		if f := CheckProposal(o, policies, s, changed); f == nil || f.Code != AllocationRejected {
			t.Fatalf("another plan is endorsed: %v", f)
		}
	})
	if endorsed == 0 {
		t.Error("nothing was ever planned")
	}
}
