package main

import (
	"encoding/binary"
	"fmt"

	"github.com/ethereum/go-ethereum/crypto"

	"settled/cmd/proof/workload"
	"settled/settlement"
)

// publication is an outcome to be published, and what follows its result.
type publication struct {
	outcome *workload.Outcome
	copies  int          // further messages at once
	repeat  bool         // publish it again after its result
	next    *publication // publish this after its result
}

// sessionsOfPair limits the sessions of a pair, because settled reads a wallet's
// history when it looks for a session in it.
const sessionsOfPair = 16

// publications returns what is published for the session of this number: the outcome
// that closes it, and for some sessions another outcome before, beside or after it.
func publications(node *workload.Node, number uint64) ([]*publication, error) {
	pair := workload.PairOf(number / sessionsOfPair)
	scenario := workload.Scenarios[number%uint64(len(workload.Scenarios))]
	session, err := node.OpenSession(pair)
	if err != nil {
		return nil, err
	}
	id := fmt.Sprint(number)
	good := &publication{outcome: node.NewOutcome(id, id, scenario, pair).Encode(session, false)}
	failing := func(code settlement.Code, scenario string) *publication {
		return &publication{outcome: node.NewFailure(code, id+"-bad", scenario, pair).Encode(session, false)}
	}
	before := map[uint64]settlement.Code{10: settlement.NotAParticipant, 40: settlement.UnknownScenario, 50: settlement.ExpectationFailed}
	switch n := number % 100; n {
	case 10, 40, 50: // the upstream service corrects its outcome
		bad := failing(before[n], scenario)
		bad.next = good
		return []*publication{bad}, nil
	case 20:
		return []*publication{{outcome: workload.NewGarbage(id+"-bad", scenario)}, good}, nil
	case 30:
		bad := node.NewFailure(settlement.SessionNotFound, id+"-bad", scenario, pair)
		bad.Encode(settlement.SessionID(fmt.Sprintf("0x%x", crypto.Keccak256(binary.BigEndian.AppendUint64([]byte("nowhere"), number)))), false)
		return []*publication{{outcome: bad}, good}, nil
	case 60, 61:
		good.repeat = true
	case 70:
		good.next = failing(settlement.OutcomeConflict, "cancellation")
	case 80:
		good.copies = 2
	}
	return []*publication{good}, nil
}
