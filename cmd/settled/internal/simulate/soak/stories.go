package main

import (
	"encoding/binary"
	"fmt"

	"github.com/ethereum/go-ethereum/crypto"

	"settled/settlement"
)

// story is what is published for the session of this number: the outcome that
// closes it, and now and then one that has to fail beside it.
func (s *stage) story(number uint64) ([]*outcome, error) {
	p := pairOf(number)
	scenario := scenarios[number%uint64(len(scenarios))]
	session, err := s.open(p, 2*number+1)
	if err != nil {
		return nil, err
	}
	o := &outcome{id: fmt.Sprint(number), scenario: scenario, session: session, pair: p, data: says(scenario, p), paid: paid[scenario]}
	switch number % 100 {
	case 60, 61: // the same once more, when it is long settled: no second result
		o.after = o
	case 70: // another outcome of the session comes too late
		o.after = &outcome{id: o.id + "-rival", scenario: "cancellation", session: session, pair: p, data: says("cancellation", p), code: settlement.OutcomeConflict}
	case 80: // three messages of it at once
		o.again = 2
	}
	failing, err := s.failing(number, p)
	if failing == nil {
		return []*outcome{o}, err
	}
	return []*outcome{o, failing}, err
}

// failing is an outcome that can't be settled, for one session in twenty.
func (s *stage) failing(number uint64, p pair) (*outcome, error) {
	o := &outcome{id: fmt.Sprint(number, "-failing"), scenario: "payment_completed", pair: p, data: says("payment_completed", p)}
	switch number % 100 {
	case 10:
		o.code, o.data = settlement.NotAParticipant, map[string]any{"parties": map[string]any{"provider": addressOf(1 << 60).Hex()}}
	case 20:
		o.code, o.data = settlement.InvalidOutcome, nil
		return o, nil
	case 30:
		o.code = settlement.SessionNotFound
		o.session = settlement.SessionID(fmt.Sprintf("0x%x", crypto.Keccak256(binary.BigEndian.AppendUint64([]byte("nowhere"), number))))
		return o, nil
	case 40:
		o.code, o.scenario = settlement.UnknownScenario, "lost_in_space"
	case 50:
		o.code = settlement.ExpectationFailed
		o.data["expect"] = map[string]any{"totals": []any{map[string]any{"asset": "usdc", "amount": "99"}}}
	default:
		return nil, nil
	}
	var err error
	o.session, err = s.open(p, 2*number+2)
	return o, err
}
