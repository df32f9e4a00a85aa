package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"settled/settlement"
)

// storyKind is what happens around one session.
type storyKind string

const (
	settles   storyKind = "settles"       // one outcome
	repeated  storyKind = "repeated"      // one outcome, published several times
	contested storyKind = "contested"     // several outcomes: one wins, the others conflict
	reused    storyKind = "reused id"     // likewise, all under one id
	junkFirst storyKind = "junk and good" // one that must fail, and beside it one that settles
	unknown   storyKind = "unknown"       // the node has no such session
	garbage   storyKind = "garbage"       // no event at all
	mistaken  storyKind = "mistaken"      // one outcome, which must fail
)

// storyBag is how often each kind comes.
var storyBag = map[storyKind]int{settles: 24, repeated: 5, contested: 4, reused: 2, junkFirst: 4, unknown: 1, garbage: 1, mistaken: 4}

// story is drawn from the seed alone; addresses and sessions come when it is told.
type story struct {
	number          int
	kind            storyKind
	scenario, other string
	binary          bool
	junk            int
	again           []time.Duration // after how long it is published again
}

// drawStories draws as many as asked for.
func drawStories(seed uint64, count int) []story {
	random := rand.New(rand.NewPCG(seed, 1))
	kinds := newBag(random, storyBag)
	all := make([]story, count)
	for i := range all {
		s := story{
			number: i, kind: kinds.draw(), scenario: scenarios[random.IntN(len(scenarios))], other: scenarios[random.IntN(len(scenarios))],
			binary: random.IntN(2) == 0, junk: random.IntN(len(junk)),
		}
		for range 1 + random.IntN(3) {
			s.again = append(s.again, time.Duration(random.IntN(15_000))*time.Millisecond)
		}
		all[i] = s
	}
	return all
}

// publication is a message to be published some time after its story begins.
type publication struct {
	outcome *outcome
	copy    int
	after   time.Duration
}

// junk are outcomes that fail before anything is sent, and may stand beside good ones.
var junk = []struct {
	scenario string
	data     func(pair) map[string]any
	codes    []settlement.Code
}{
	{"payment_completed", func(pair) map[string]any {
		return map[string]any{"parties": map[string]any{"provider": "0x00000000000000000000000000000000000000AA"}}
	}, []settlement.Code{settlement.NotAParticipant, settlement.OutcomeConflict}},
	{"lost_in_space", func(pair) map[string]any { return map[string]any{} }, []settlement.Code{settlement.UnknownScenario, settlement.OutcomeConflict}},
	{"dispute_resolved", func(s pair) map[string]any {
		return map[string]any{"awards": []any{map[string]any{"participant": s.alice, "share": "1.2"}}}
	}, []settlement.Code{settlement.InvalidOutcome}},
}

// tell makes the story's outcomes. It opens a session where one is needed.
func (s pair) tellStory(t story) ([]publication, error) {
	var id settlement.SessionID
	var err error
	switch t.kind {
	case garbage:
		o := &outcome{source: source, id: t.id(""), scenario: t.scenario, header: nats.Header{}, payload: []byte("no event " + t.id("")), codes: []settlement.Code{settlement.InvalidOutcome}}
		return []publication{{outcome: o}}, nil
	case unknown:
		id = settlement.SessionID("0x" + strings.Repeat("0", 56) + fmt.Sprintf("%08x", t.number+1))
	default:
		if id, err = s.open(); err != nil {
			return nil, err
		}
	}
	var told []publication
	for i, d := range s.drafts(t) {
		d.session, d.binary = id, t.binary != (i%2 == 1)
		o, err := s.write(d)
		if err != nil {
			return nil, err
		}
		told = append(told, publication{outcome: o})
	}
	if t.kind == repeated {
		for i, after := range t.again {
			told = append(told, publication{told[0].outcome, i + 1, after})
		}
	}
	return told, nil
}

func (t story) id(suffix string) string { return fmt.Sprintf("%06d%s", t.number, suffix) }

// drafts are the story's outcomes, without their session.
func (s pair) drafts(t story) []draft {
	conflict := []settlement.Code{settlement.OutcomeConflict}
	switch t.kind {
	case contested:
		return []draft{s.good(t.id("a"), t.scenario, conflict), s.good(t.id("b"), t.other, conflict)}
	case reused:
		return []draft{s.good(t.id(""), t.scenario, conflict, "first"), s.good(t.id(""), t.scenario, conflict, "second")}
	case junkFirst:
		return []draft{s.junk(t.id("-junk"), t.junk), s.good(t.id(""), t.scenario, nil)}
	case unknown:
		d := s.good(t.id(""), t.scenario, []settlement.Code{settlement.SessionNotFound})
		d.paid = ""
		return []draft{d}
	case mistaken:
		return []draft{s.mistake(t)}
	default:
		return []draft{s.good(t.id(""), t.scenario, nil)}
	}
}

// good is an outcome that can settle its session.
func (s pair) good(id, scenario string, codes []settlement.Code, words ...string) draft {
	data := s.data(scenario)
	data["reference"] = strings.Join(append([]string{id}, words...), " ") // no two payloads are alike
	return draft{id: id, scenario: scenario, data: data, paid: s.scene.paid[scenario], codes: codes}
}

func (s pair) junk(id string, i int) draft {
	data := junk[i].data(s)
	data["reference"] = id
	return draft{id: id, scenario: junk[i].scenario, data: data, codes: junk[i].codes}
}

// mistake is an outcome alone with its session: junk, or one that expects another
// total. The latter may hold the session for a while where only the node knows.
func (s pair) mistake(t story) draft {
	if len(t.again) > 1 {
		return s.junk(t.id(""), t.junk)
	}
	d := s.good(t.id(""), t.scenario, []settlement.Code{s.scene.wrongTotal})
	d.data["expect"], d.paid = expecting("usdc", "99"), ""
	return d
}
