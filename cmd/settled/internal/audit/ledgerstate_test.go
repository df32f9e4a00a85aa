package audit

import (
	"testing"
	"time"

	"settled/settlement"
)

// The result of one outcome is not taken for that of another with a similar name.
func TestResultsBelongToTheirOutcome(t *testing.T) {
	o := settlement.OutcomeRef{Source: "/shop", ID: "a/b", Type: "outcome.cancellation", Digest: "d", Stream: "OUTCOMES", Sequence: 7}
	books := &ledgerState{results: map[outcomeKey]ended{}, closing: map[settlement.SessionID]intent{}, free: map[settlement.SessionID]freed{}}
	books.apply(settlement.Entry{State: settlement.EntryFailed, Outcome: o, Time: time.Now(), Error: &settlement.Failure{}})
	earlier := o
	earlier.Sequence = 3
	if !books.result(newOutcomeKey(earlier), earlier) {
		t.Error("an earlier message of the outcome has no result")
	}
	for _, change := range []func(*settlement.OutcomeRef){
		func(o *settlement.OutcomeRef) { o.Source, o.ID = "/shop/a", "b" },
		func(o *settlement.OutcomeRef) { o.Source, o.ID = "/shopa", "/b" },
		func(o *settlement.OutcomeRef) { o.Source, o.ID = "", "/shopa/b" },
		func(o *settlement.OutcomeRef) { o.Type = "outcome.payment_completed" },
		func(o *settlement.OutcomeRef) { o.Digest = "" },
	} {
		other := earlier
		change(&other)
		if books.result(newOutcomeKey(other), other) {
			t.Errorf("%+v has the result of %+v", other, o)
		}
	}
}
