package settlement_test

import (
	"testing"

	"settled/cmd/proof/benchcompare/calibrate"
	"settled/settlement"
)

func BenchmarkCalibration(b *testing.B) { calibrate.Run(b) }

// benchmarked is an outcome by which two of three participants share two assets, in an
// envelope, and its session.
func benchmarked(b *testing.B) (settlement.Envelope, settlement.Session) {
	b.Helper()
	const alice, bob, judge = "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf", "0x2B5AD5c4795c026514f8317c7a215E218DcCD6cF", "0x6813Eb9362372EEF6200f3b1dbC3f819671cBA69"
	const id = "0xcaeb884b5c79853a0c2c01fdeb6599f86d8703be0be03dd251db6c053fa64c16"
	s := settlement.Session{ID: id, Open: true, Version: 1, Quorum: 100, Decimals: map[settlement.Asset]int32{"usdc": 6, "weth": 18}}
	for i, spelling := range []string{alice, bob, judge} {
		s.Participants = append(s.Participants, settlement.Participant{Address: address(spelling), Spelling: spelling, Weight: int64(i / 2 * 100)})
	}
	s.Deposits = []settlement.Transfer{
		{Wallet: address(alice), Asset: "usdc", Amount: amount("10")}, {Wallet: address(bob), Asset: "usdc", Amount: amount("5.000001")},
		{Wallet: address(alice), Asset: "weth", Amount: amount("0.25")},
	}
	return settlement.Envelope{
		Subject: "outcome.partial_service", Type: "outcome.partial_service", Source: "/workers", ID: "job-9", Stream: "OUTCOMES", Sequence: 1,
		Data: []byte(`{"session_id":"` + id + `","parties":{"provider":"` + bob + `"},"completion":"0.3333333","reference":"invoice 7","reason":"stopped early"}`),
	}, s
}

func BenchmarkParseOutcome(b *testing.B) {
	envelope, _ := benchmarked(b)
	for b.Loop() {
		if _, err := settlement.ParseOutcome(envelope); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPlan(b *testing.B) {
	envelope, session := benchmarked(b)
	outcome, err := settlement.ParseOutcome(envelope)
	if err != nil {
		b.Fatal(err)
	}
	policy := settlement.BuiltIn()[outcome.Scenario]
	for b.Loop() {
		if plan, f := policy.Plan(outcome, session); f != nil || len(plan.Allocations) == 0 {
			b.Fatal(f)
		}
	}
}
