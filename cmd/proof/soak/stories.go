package main

import (
	"encoding/binary"
	"fmt"

	"github.com/ethereum/go-ethereum/crypto"

	"settled/settlement"
)

// story is what is published for the session of this number: the outcome that
// closes it, and for some something else before, beside or after it. Every session
// is closed in the end.
func (s *stage) story(number uint64) ([]*outcome, error) {
	p := pairOf(number)
	scenario := scenarios[number%uint64(len(scenarios))]
	session, err := s.open(p, number)
	if err != nil {
		return nil, err
	}
	o := &outcome{id: fmt.Sprint(number), scenario: scenario, session: session, pair: p, data: says(scenario, p), paid: paid[scenario]}
	bad := &outcome{id: o.id + "-bad", scenario: "payment_completed", session: session, pair: p, data: says("payment_completed", p)}
	switch number % 100 {
	case 10, 40, 50: // the outcome comes right at the second try
		bad.fault(number)
		bad.after = o
		return []*outcome{bad}, nil
	case 20, 30: // of no session of ours
		bad.fault(number)
		return []*outcome{bad, o}, nil
	case 60, 61: // the same once more, when it is long settled: no second result
		o.after = o
	case 70: // another outcome of the session comes too late
		bad.code, bad.scenario, bad.data = settlement.OutcomeConflict, "cancellation", says("cancellation", p)
		o.after = bad
	case 80: // three messages of it at once
		o.again = 2
	}
	return []*outcome{o}, nil
}

// fault is what is wrong with an outcome that can't be settled.
func (o *outcome) fault(number uint64) {
	switch number % 100 {
	case 10:
		o.code, o.data = settlement.NotAParticipant, map[string]any{"parties": map[string]any{"provider": addressOf(1 << 60).Hex()}}
	case 20:
		o.code, o.data, o.session = settlement.InvalidOutcome, nil, ""
	case 30:
		o.code = settlement.SessionNotFound
		o.session = settlement.SessionID(fmt.Sprintf("0x%x", crypto.Keccak256(binary.BigEndian.AppendUint64([]byte("nowhere"), number))))
	case 40:
		o.code, o.scenario = settlement.UnknownScenario, "lost_in_space"
	case 50:
		o.code = settlement.ExpectationFailed
		o.data["expect"] = map[string]any{"totals": []any{map[string]any{"asset": "usdc", "amount": "99"}}}
	}
}
