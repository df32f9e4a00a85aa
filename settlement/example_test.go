package settlement_test

import (
	"fmt"

	"settled/settlement"
)

func amount(text string) settlement.Amount {
	a, err := settlement.ParseAmount(text)
	if err != nil {
		panic(err)
	}
	return a
}

func address(text string) settlement.Address {
	a, err := settlement.ParseAddress(text)
	if err != nil {
		panic(err)
	}
	return a
}

func ExampleParseAmount() {
	a, err := settlement.ParseAmount("12.500")
	fmt.Println(a, err)
	_, err = settlement.ParseAmount("1e3")
	fmt.Println(err != nil)
	// Output:
	// 12.5 <nil>
	// true
}

func ExampleParsePolicy() {
	policy, err := settlement.ParsePolicy("no_show", []settlement.PolicyStep{
		{To: "provider", Share: "50%"},
		{To: "funders", Share: "remaining"},
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(policy.Ref().Name, len(policy.Steps), "steps")

	_, err = settlement.ParsePolicy("no_show", []settlement.PolicyStep{{To: "provider", Share: "50%"}})
	fmt.Println(err != nil) // half of the money would be left
	// Output:
	// no_show 2 steps
	// true
}

func ExamplePolicy_Plan() {
	const alice, bob = "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf", "0x2B5AD5c4795c026514f8317c7a215E218DcCD6cF"
	policy, err := settlement.ParsePolicy("partial_service", []settlement.PolicyStep{
		{To: "provider", Share: "completion"},
		{To: "funders", Share: "remaining"},
	})
	if err != nil {
		panic(err)
	}
	outcome, err := settlement.ParseOutcome(settlement.Envelope{
		Subject: "outcome.partial_service", Type: "outcome.partial_service", Source: "/workers", ID: "job-9", Stream: "OUTCOMES", Sequence: 1,
		Data: []byte(`{"session_id":"0xcaeb884b5c79853a0c2c01fdeb6599f86d8703be0be03dd251db6c053fa64c16",
			"parties":{"provider":"` + bob + `"},"completion":"0.3"}`),
	})
	if err != nil {
		panic(err)
	}
	session := settlement.Session{
		ID: outcome.Session, Open: true, Version: 1,
		Participants: []settlement.Participant{{Address: address(alice), Spelling: alice, Weight: 0}, {Address: address(bob), Spelling: bob, Weight: 100}},
		Quorum:       100,
		Deposits:     []settlement.Transfer{{Wallet: address(alice), Asset: "usdc", Amount: amount("10")}},
		Decimals:     map[settlement.Asset]int32{"usdc": 6},
	}
	plan, failure := policy.Plan(outcome, session)
	if failure != nil {
		panic(failure)
	}
	for _, a := range plan.Allocations {
		fmt.Println(a.Participant, a.Amount, a.Asset)
	}
	// Output:
	// 0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf 7 usdc
	// 0x2B5AD5c4795c026514f8317c7a215E218DcCD6cF 3 usdc
}

func ExampleParseOutcome() {
	outcome, err := settlement.ParseOutcome(settlement.Envelope{
		Subject: "outcome.cancellation", Type: "outcome.cancellation", Source: "/shop", ID: "order-17", Stream: "OUTCOMES", Sequence: 1,
		Data: []byte(`{"session_id":"0xcaeb884b5c79853a0c2c01fdeb6599f86d8703be0be03dd251db6c053fa64c16"}`),
	})
	fmt.Println(outcome.Scenario, outcome.Session[:8], outcome.Ref.Source, outcome.Ref.ID, err)
	// Output:
	// cancellation 0xcaeb88 /shop order-17 <nil>
}

func ExampleLimits_Check() {
	limit, err := settlement.ParseLimit("usdc", "", "participant", "500")
	if err != nil {
		panic(err)
	}
	limits := settlement.Limits{limit}
	pay := func(text string) []settlement.Allocation {
		return []settlement.Allocation{{Participant: "0x2B5AD5c4795c026514f8317c7a215E218DcCD6cF", Asset: "usdc", Amount: amount(text)}}
	}
	fmt.Println(limits.Check("payment_completed", pay("500")) == nil)
	fmt.Println(limits.Check("payment_completed", pay("500.000001")).Code)
	// Output:
	// true
	// limit_exceeded
}

func ExampleOutcomeRef_SignedText() {
	ref := settlement.OutcomeRef{
		Source: "/shop", ID: "order-17", Type: "outcome.payment_completed",
		Digest: "621bda2d3189cf28115ce114f88af7f03b5c26818bcc0c399f892a24aa0c8258",
	}
	fmt.Printf("%s\n", ref.SignedText())
	// Output:
	// settled outcome
	// ["/shop","order-17","outcome.payment_completed","621bda2d3189cf28115ce114f88af7f03b5c26818bcc0c399f892a24aa0c8258"]
}
