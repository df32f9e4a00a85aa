package settlement

import (
	"strings"
	"testing"
	"time"
)

// The outcome has to state what a legacy node doesn't show, and the failure names the
// missing member.
func TestHiddenHasToBeStated(t *testing.T) {
	totals, funder := `"expect":{"totals":[{"asset":"usdc","amount":"15"}]}`, `"parties":{"funder":"`+addrA+`"}`
	for it, c := range map[string]struct {
		members string
		code    Code
		says    string
	}{
		"no totals":         {funder, InvalidOutcome, "expect.totals"},
		"expect no totals":  {funder + `,"expect":{"version":1}`, InvalidOutcome, "expect.totals"},
		"totals of nothing": {funder + `,"expect":{"totals":[{"asset":"usdc","amount":"0"}]}`, SessionUnfunded, "expect.totals"},
		"no funder":         {totals, InvalidOutcome, "parties.funder"},
		"funder unreadable": {totals + `,"parties":{"funder":"0x12"}`, InvalidOutcome, "parties.funder"},
		"two funders":       {totals + `,"parties":{"funder":["` + addrA + `","` + addrB + `"]}`, InvalidOutcome, "exactly one"},
		"funder a stranger": {totals + `,"parties":{"funder":"` + addrX + `"}`, NotAParticipant, "parties.funder"},
		"another version":   {funder + `,"expect":{"totals":[{"asset":"usdc","amount":"15"}],"version":7}`, ExpectationFailed, "version"},
	} {
		w := newWorldOf(t, legacy)
		err := w.fails(outcome(t, "cancellation", c.members, 1), c.code)
		if !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v doesn't name %s", it, err, c.says)
		}
		if w.sent > 0 {
			t.Errorf("%s: sent", it)
		}
	}
}

// The outcome need not state what the policy doesn't need: no funder if it pays no funder.
func TestStatedPlans(t *testing.T) {
	totals := `"expect":{"totals":[{"asset":"weth","amount":"0"},{"asset":"usdc","amount":"15"}]}`
	for it, c := range map[string]struct{ scenario, members, paid string }{
		"payment":         {"payment_completed", totals + `,"parties":{"provider":"` + addrB + `"}`, "0 15 0 "},
		"cancellation":    {"cancellation", totals + `,"parties":{"funder":"` + strings.ToLower(addrA) + `"}`, "15 0 0 "},
		"partial":         {"partial_service", totals + `,"completion":"0.1","parties":{"provider":"` + addrB + `","funder":"` + addrA + `"}`, "13.5 1.5 0 "},
		"all done":        {"partial_service", totals + `,"completion":"1","parties":{"provider":"` + addrB + `"}`, "0 15 0 "},
		"award by amount": {"dispute_resolved", totals + `,"awards":[{"participant":"` + addrA + `","asset":"usdc","amount":"14"},{"participant":"` + addrB + `","asset":"usdc","amount":"1"}]`, "14 1 0 "},
	} {
		w := newWorldOf(t, legacy)
		w.settled(outcome(t, c.scenario, c.members, 1))
		var paid string
		for _, a := range w.landed[0].Allocations {
			paid += a.Amount.String() + " "
		}
		if paid != c.paid {
			t.Errorf("%s: paid %q, want %q", it, paid, c.paid)
		}
	}
}

// If the node shows the funding, parties.funder is ignored.
func TestShownFundingWins(t *testing.T) {
	for _, k := range []kind{expiring, versioned} {
		w := newWorldOf(t, k)
		w.settled(outcome(t, "cancellation", `"parties":{"funder":"`+addrB+`"}`, 1))
		if got := w.landed[0].Allocations[0].Amount.String(); got != "10" {
			t.Errorf("%s: the first funder got %s of the 10 it deposited", k, got)
		}
	}
}

// Nitronode shows deposits only among its users' transactions. They are read if the policy
// pays funders; if they can't be found the outcome has to name the funder.
func TestLookForFunding(t *testing.T) {
	for scenario, want := range map[Scenario]bool{PaymentCompleted: false, GameCompleted: false, PartialService: true, Cancellation: true, DisputeResolved: false} {
		if got := BuiltIn()[scenario].ReadOptions(Outcome{}).Funding; got != want {
			t.Errorf("%s: look for funding %v", scenario, got)
		}
	}
	w := newWorldOf(t, versioned)
	w.session.Undisclosed.Funding = true
	w.fails(outcome(t, "cancellation", "", 1), InvalidOutcome)
	w.settled(outcome(t, "cancellation", `"parties":{"funder":"`+addrB+`"}`, 2))
	if got := w.landed[0].Allocations[1].Amount.String(); got != "15" {
		t.Errorf("the funder got %s of 15", got)
	}
}

// A permanent refusal of a balance that only the outcome states fails it: no read could show
// that the balance has changed.
func TestStatedBalanceIsWrong(t *testing.T) {
	w := newWorldOf(t, legacy)
	w.refuse = Fail(AllocationRejected, "asset usdc not fully redistributed")
	w.fails(w.partial(1), AllocationRejected)
	w.want("closing failed(allocation_rejected) ", 1)
}

// A closed session whose payouts the node doesn't show.
func TestClosedUnseen(t *testing.T) {
	foreign := func(w *world) { w.session.Open, w.session.Version = false, 2 }
	t.Run("by ours", func(t *testing.T) {
		w := newWorldOf(t, legacy)
		w.sends(failedButDone, always)
		start := w.now
		s, err := w.run(w.partial(1))
		if err != nil || !*s.Entry.Recovered || w.now.Sub(start) > 2*time.Second {
			t.Errorf("%+v %v", s.Entry, err)
		}
		w.want("closing closed ", 1)
	})
	t.Run("without an intent", func(t *testing.T) {
		w := newWorldOf(t, legacy)
		foreign(w)
		if err := w.fails(w.partial(1), ClosedElsewhere); !strings.Contains(err.Error(), "doesn't show what it paid") {
			t.Error(err)
		}
		w.want("failed(closed_elsewhere) ", 0)
	})
	t.Run("and others can close it without us", func(t *testing.T) {
		w := newWorldOf(t, legacy)
		w.session.QuorumNeedsUs = false
		w.sends(failed, always)
		o := w.partial(1)
		w.waits(o, InDoubt)
		foreign(w)
		start := w.now
		w.fails(o, ClosedElsewhere)
		if w.now.Sub(start) < validity+margin-2*time.Second {
			t.Error("failed before the fence expired")
		}
	})
	t.Run("and ours was refused", func(t *testing.T) {
		w := newWorldOf(t, legacy)
		w.refuse, w.refused = Fail(NodeRejected, "not open"), func() { foreign(w) }
		w.fails(w.partial(1), ClosedElsewhere)
	})
	t.Run("versioned", func(t *testing.T) {
		for version, states := range map[uint64]string{2: "closing closed ", 3: "closing closed ", 4: "closing failed(closed_elsewhere) "} {
			w := newWorldOf(t, versioned)
			w.session.Undisclosed.Payouts = true
			w.sends(crashBefore, 1)
			o := partial(t, 1)
			_, _ = w.deliver(o)
			w.landed = []Plan{*w.entries[0].plan()} // as far as the node shows
			w.session.Open, w.session.Version = false, version
			_, _ = w.run(o)
			w.want(states, 1)
		}
	})
}

// Only what the node shows is compared: a close without its deposits is no overpayment.
func TestOverpaidNeedsBothSides(t *testing.T) {
	payouts := []Transfer{{Wallet: Address{1}, Asset: "usdc", Amount: amount("15")}}
	for it, c := range map[string]struct {
		s    Session
		want bool
	}{
		"both shown":         {Session{Payouts: payouts}, true},
		"versioned, shown":   {Session{Versioned: true, Payouts: payouts}, true},
		"funding not shown":  {Session{Versioned: true, Payouts: payouts, Undisclosed: Undisclosed{Funding: true}}, false},
		"payouts not shown":  {Session{Payouts: payouts, Undisclosed: Undisclosed{Payouts: true}}, false},
		"nothing paid twice": {Session{Deposits: payouts, Payouts: payouts}, false},
	} {
		if _, _, _, found := c.s.Overpaid(); found != c.want {
			t.Errorf("%s: overpaid %v", it, found)
		}
	}
}

func TestUnfundedOnlyWhereShown(t *testing.T) {
	rows := []Allocation{{Participant: addrA, Asset: "usdc"}, {Participant: addrB, Asset: "usdc"}}
	for it, c := range map[string]struct {
		s    Session
		want bool
	}{
		"hidden":             {Session{Undisclosed: Undisclosed{Balance: true}}, false},
		"never funded":       {Session{}, true},
		"versioned, 0":       {Session{Versioned: true, Current: rows}, true},
		"versioned, nothing": {Session{Versioned: true}, true},
		"versioned, funded":  {Session{Versioned: true, Current: []Allocation{{Participant: addrA, Asset: "usdc", Amount: amount("1")}}}, false},
	} {
		if got := c.s.Unfunded(); got != c.want {
			t.Errorf("%s: unfunded %v", it, got)
		}
	}
}

// What is known of a session and what the outcome says must fit together, or nobody is paid.
func TestPlansThatCantBeMade(t *testing.T) {
	quarter := []PolicyStep{{"provider", "25%"}, {"funders", "remaining"}}
	named := `"parties":{"provider":"` + addrB + `","funder":"` + addrA + `"}`
	for name, c := range map[string]struct {
		policy  []PolicyStep
		members string
		change  func(*world)
		code    Code
	}{
		"the node shows another funder than the named one": {quarter, named, func(w *world) { w.session.Undisclosed.Funding = true }, ExpectationFailed},
		"everybody withdrew at least the deposit": {quarter, named, func(w *world) {
			w.session.Versioned, w.session.Current = true, w.allTo(0)
			w.session.Payouts = w.session.Deposits
		}, SessionUnfunded},
		"a quarter of an asset whose unit is not known": {quarter, `"parties":{"provider":"` + addrB + `","funder":"` + addrA + `"},"expect":{"totals":[{"asset":"doge","amount":"10"}]}`, func(w *world) {
			w.session.Undisclosed = Undisclosed{Balance: true, Funding: true, Payouts: true}
			w.session.Deposits = nil
		}, AllocationRejected},
		"an award to a stranger": {[]PolicyStep{{"awards", "100%"}}, `"awards":[{"participant":"` + addrX + `","asset":"usdc","amount":"15"}]`, func(*world) {}, NotAParticipant},
		"no awards":              {[]PolicyStep{{"awards", "100%"}}, named, func(*world) {}, InvalidOutcome},
	} {
		w := newWorld(t)
		c.change(w)
		p, err := ParsePolicy("x", c.policy)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if plan, f := p.Plan(outcome(t, "x", c.members, 1), w.session); f == nil || f.Code != c.code {
			t.Errorf("%s: %+v, %v; want %s", name, plan, f, c.code)
		}
	}
}
