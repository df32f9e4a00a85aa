package settlement

import (
	"testing"
	"time"
)

// A withdrawal and the close of a later plan can together pay what an earlier plan would
// have paid: the close is that of the later plan.
func TestPaidAsTheNewestPlan(t *testing.T) {
	w := newWorld(t)
	provider := w.session.Participants[1]
	pays := func(amount string) Transfer {
		a, err := ParseAmount(amount)
		if err != nil {
			t.Fatal(err)
		}
		return Transfer{Wallet: provider.Address, Asset: "usdc", Amount: a}
	}
	intent := func(at time.Time, policy, amount string) Entry {
		return Entry{
			State: EntryClosing, Request: &RequestRef{Timestamp: uint64(at.UnixMilli())}, Policy: &PolicyRef{Name: policy},
			Allocation: []Allocation{{Participant: provider.Spelling, Asset: "usdc", Amount: pays(amount).Amount}},
		}
	}
	first, second := w.now, w.now.Add(time.Minute)
	s := w.session
	s.Open = false
	withdrawn, paid := pays("1"), pays("14")
	withdrawn.At, paid.At = first.Add(30*time.Second), second.Add(time.Second)
	s.Payouts = []Transfer{withdrawn, paid}
	decision := Next(Observation{Session: s, Recorded: []Entry{intent(first, "first", "15"), intent(second, "second", "14")}})
	if decision.Action != ActionDone || decision.Plan.Policy.Name != "second" || decision.Plan.Allocations[0].Amount.String() != "14" {
		t.Errorf("%+v %+v", decision, decision.Plan)
	}
}
