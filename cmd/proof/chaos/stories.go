package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"settled/cmd/proof/workload"
	"settled/settlement"
)

// storyKind is what happens around one session.
type storyKind string

const (
	settles   storyKind = "settles"       // one outcome
	repeated  storyKind = "repeated"      // one outcome, published several times
	contested storyKind = "contested"     // two outcomes: one closes the session, the other conflicts
	reusedID  storyKind = "reused id"     // the same, both with one id
	junkFirst storyKind = "junk and good" // one that must fail, and one that closes the session
	unknown   storyKind = "unknown"       // the node has no such session
	garbage   storyKind = "garbage"       // the payload is no event
	mistaken  storyKind = "mistaken"      // one outcome, which must fail
)

// storyWeights is how often each kind is drawn.
var storyWeights = map[storyKind]int{settles: 24, repeated: 5, contested: 4, reusedID: 2, junkFirst: 4, unknown: 1, garbage: 1, mistaken: 4}

// story is drawn from the seed. It has no addresses and no session yet.
type story struct {
	number          int
	kind            storyKind
	scenario, other string
	binary          bool
	junk            settlement.Code
	repeatAfter     []time.Duration
}

func drawStories(seed uint64, count int) []story {
	random := rand.New(rand.NewPCG(seed, 1))
	kinds := newBag(random, storyWeights)
	scenarios, junk := workload.Scenarios, []settlement.Code{settlement.NotAParticipant, settlement.UnknownScenario, settlement.InvalidOutcome}
	all := make([]story, count)
	for i := range all {
		s := story{
			number: i, kind: kinds.draw(), scenario: scenarios[random.IntN(len(scenarios))], other: scenarios[random.IntN(len(scenarios))],
			binary: random.IntN(2) == 0, junk: junk[random.IntN(len(junk))],
		}
		for range 1 + random.IntN(3) {
			s.repeatAfter = append(s.repeatAfter, time.Duration(random.IntN(15_000))*time.Millisecond)
		}
		all[i] = s
	}
	return all
}

// publication is a message to be published some time after its story begins.
type publication struct {
	outcome *workload.Outcome
	copy    int
	after   time.Duration
}

// pairs limits the pairs of players; with so many no wallet's history gets long.
const pairs = 64

// publications makes the outcomes of a story. It opens a session if the story needs one.
func (s story) publications(node *workload.Node) ([]publication, error) {
	id, pair := fmt.Sprintf("%06d", s.number), workload.PairOf(uint64(s.number%pairs))
	if s.kind == garbage {
		return []publication{{outcome: workload.NewGarbage(id, s.scenario)}}, nil
	}
	session := settlement.SessionID("0x" + strings.Repeat("0", 56) + fmt.Sprintf("%08x", s.number+1))
	if s.kind != unknown {
		var err error
		if session, err = node.OpenSession(pair); err != nil {
			return nil, err
		}
	}
	var all []publication
	for i, o := range s.outcomes(node, id, pair) {
		all = append(all, publication{outcome: o.Encode(session, s.binary != (i == 1))})
	}
	if s.kind == repeated {
		for i, after := range s.repeatAfter {
			all = append(all, publication{all[0].outcome, i + 1, after})
		}
	}
	return all, nil
}

func (s story) outcomes(node *workload.Node, id string, pair workload.Pair) []*workload.Outcome {
	rival := func(id, reference, scenario string) *workload.Outcome {
		o := node.NewOutcome(id, reference, scenario, pair)
		o.Codes = []settlement.Code{settlement.OutcomeConflict}
		return o
	}
	switch s.kind {
	case contested:
		return []*workload.Outcome{rival(id+"a", id+"a", s.scenario), rival(id+"b", id+"b", s.other)}
	case reusedID:
		return []*workload.Outcome{rival(id, id+" first", s.scenario), rival(id, id+" second", s.scenario)}
	case junkFirst:
		junk := node.NewFailure(s.junk, id+"-junk", s.scenario, pair)
		if s.junk != settlement.InvalidOutcome { // these are compared with the session first
			junk.Codes = append(junk.Codes, settlement.OutcomeConflict)
		}
		return []*workload.Outcome{junk, node.NewOutcome(id, id, s.scenario, pair)}
	case unknown:
		return []*workload.Outcome{node.NewFailure(settlement.SessionNotFound, id, s.scenario, pair)}
	case mistaken:
		code := s.junk
		if len(s.repeatAfter) == 1 {
			code = settlement.ExpectationFailed
		}
		return []*workload.Outcome{node.NewFailure(code, id, s.scenario, pair)}
	default:
		return []*workload.Outcome{node.NewOutcome(id, id, s.scenario, pair)}
	}
}
