package main

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"settled/clearnode/clearnodetest"
)

// faultKind names a fault, as the record counts it.
type faultKind string

const (
	killReplica  faultKind = "kill -9 of a settled"
	killReplicas faultKind = "kill -9 of all settled"
	pauseReplica faultKind = "pause of a settled"
	termReplica  faultKind = "SIGTERM of a settled"
	partReplica  faultKind = "a settled parted from NATS"
	cutReplica   faultKind = "NATS connections of a settled cut"

	killServer   faultKind = "kill -9 of a NATS server"
	killServers  faultKind = "kill -9 of two NATS servers"
	killCluster  faultKind = "kill -9 of all NATS servers"
	pauseServer  faultKind = "pause of a NATS server"
	partServer   faultKind = "a NATS server parted from all"
	partRoutes   faultKind = "a NATS server parted from the others"
	stepDown     faultKind = "leader step-down"
	fillDisk     faultKind = "disk full under a NATS server"
	stopNode     faultKind = "node away"
	nodeOutage   faultKind = "node without its database"
	dropNode     faultKind = "node connections dropped"
	wayToNode    faultKind = "bad way to the node"
	nodeFaults   faultKind = "requests and answers lost or late"
	stallAndDrop faultKind = "closes at work while connections drop"
	replayLetter faultKind = "dead letters replayed"
)

// fault is one thing that goes wrong, drawn from the seed.
type fault struct {
	At     time.Duration // since the beginning
	For    time.Duration // until it is healed
	Kind   faultKind
	Target int // which replica or server, from 0; of a step-down, which leader
	How    weather
	Strike clearnodetest.FaultKind // of nodeFaults
	Times  int                     // likewise
	Late   time.Duration           // likewise
}

// track is a row of faults of which one ends before the next begins, so that one
// kind of party is hit once at a time; tracks run beside one another.
type track struct {
	kinds    map[faultKind]int
	gap      [2]time.Duration // from one's end to the next one's beginning
	duration map[faultKind][2]time.Duration
}

const second = time.Second

var tracks = []track{
	{
		kinds: map[faultKind]int{killReplica: 4, killReplicas: 1, pauseReplica: 3, termReplica: 1, partReplica: 3, cutReplica: 2},
		gap:   [2]time.Duration{second, 5 * second},
		duration: map[faultKind][2]time.Duration{
			killReplica: {0, 3 * second}, killReplicas: {0, 2 * second}, pauseReplica: {ackWait + second, 14 * second},
			termReplica: {0, second}, partReplica: {2 * second, 10 * second}, cutReplica: {0, 0},
		},
	},
	{
		kinds: map[faultKind]int{killServer: 3, killServers: 1, killCluster: 1, pauseServer: 2, partServer: 2, partRoutes: 2, stepDown: 5, fillDisk: 1},
		gap:   [2]time.Duration{4 * second, 14 * second}, // or the servers would choose leaders all the time, and nothing else would happen
		duration: map[faultKind][2]time.Duration{
			killServer: {0, 5 * second}, killServers: {0, 3 * second}, killCluster: {0, 2 * second}, pauseServer: {3 * second, 10 * second},
			partServer: {2 * second, 10 * second}, partRoutes: {2 * second, 10 * second}, stepDown: {0, 0}, fillDisk: {3 * second, 8 * second},
		},
	},
	{
		kinds: map[faultKind]int{stopNode: 2, nodeOutage: 2, dropNode: 2, wayToNode: 4, nodeFaults: 8, stallAndDrop: 5},
		gap:   [2]time.Duration{second / 2, 4 * second},
		duration: map[faultKind][2]time.Duration{
			stopNode: {second / 2, 6 * second}, nodeOutage: {second / 2, 6 * second}, dropNode: {0, 0}, wayToNode: {second, 6 * second}, nodeFaults: {0, 2 * second}, stallAndDrop: {second, second},
		},
	},
	{
		kinds:    map[faultKind]int{replayLetter: 1},
		gap:      [2]time.Duration{4 * second, 12 * second},
		duration: map[faultKind][2]time.Duration{replayLetter: {0, 0}},
	},
}

// strikes are what nodeFaults may be; a nitronode knows neither logins nor
// signatures of its own.
var strikes = map[clearnodetest.FaultKind]int{
	clearnodetest.LoseRequest: 1, clearnodetest.LoseAnswer: 3, clearnodetest.CutAfter: 3, clearnodetest.Delay: 2, clearnodetest.DelayAnswer: 2,
	clearnodetest.Stall: 2, clearnodetest.Error: 1, clearnodetest.ErrorApplied: 1, clearnodetest.Garbage: 1,
}

func strikesOf(protocol string) map[clearnodetest.FaultKind]int {
	all := map[clearnodetest.FaultKind]int{}
	for kind, n := range strikes {
		all[kind] = n
	}
	if protocol != clearnodetest.NitronodeV1 {
		all[clearnodetest.ExpireAuth], all[clearnodetest.WrongSignature] = 1, 1
	}
	return all
}

// drawSchedule draws the faults of a run, in the order of their beginning. All of
// them end before length is over.
func drawSchedule(seed uint64, length time.Duration, replicas int, protocol string) []fault {
	var all []fault
	for i, t := range tracks {
		random := rand.New(rand.NewPCG(seed, uint64(2+i)))
		kinds, strikes := newBag(random, t.kinds), newBag(random, strikesOf(protocol))
		for at := between(random, t.gap); ; at += between(random, t.gap) {
			f := fault{At: at, Kind: kinds.draw()}
			f.For = between(random, t.duration[f.Kind])
			f.fill(random, replicas, strikes)
			if f.At+f.For > length {
				break
			}
			all = append(all, f)
			at += f.For
		}
	}
	slices.SortStableFunc(all, func(a, b fault) int { return cmp.Compare(a.At, b.At) })
	return all
}

// fill draws what the kind of fault leaves open. It draws the same number of times
// for every kind.
func (f *fault) fill(random *rand.Rand, replicas int, strikes *bag[clearnodetest.FaultKind]) {
	targets := map[faultKind]int{
		killReplica: replicas, killReplicas: replicas, pauseReplica: replicas, termReplica: replicas, partReplica: replicas, cutReplica: replicas,
		stepDown: len(leaders),
	}[f.Kind]
	if targets == 0 {
		targets = servers
	}
	f.Target = random.IntN(targets)
	f.How = ways(f.Kind)[random.IntN(len(ways(f.Kind)))]
	f.Strike = strikes.draw()
	f.Times = 1 + random.IntN(12)
	f.Late = between(random, [2]time.Duration{second / 10, 12 * second})
	if f.Strike == clearnodetest.Stall {
		f.Late = f.Late * longestStall / (12 * second)
	}
}

// ways are the weathers that a fault of the kind may bring. Servers never fall
// silent for good to one another: how long they take to notice is theirs.
func ways(kind faultKind) []weather {
	switch kind {
	case partReplica:
		return []weather{{kind: refused}, {kind: stalled}, {kind: silent}}
	case wayToNode:
		return []weather{{kind: refused}, {kind: stalled}, {kind: silent}, {kind: delayed, delay: second / 5}}
	default:
		return []weather{{kind: refused}, {kind: stalled}}
	}
}

func between(random *rand.Rand, limits [2]time.Duration) time.Duration {
	return limits[0] + time.Duration(random.Int64N(int64(limits[1]-limits[0])+1)).Round(time.Millisecond)
}

func (f fault) String() string {
	who := ""
	switch f.Kind {
	case killReplica, pauseReplica, termReplica, cutReplica:
		who = " (" + replicaName(f.Target) + ")"
	case partReplica:
		who = fmt.Sprintf(" (%s, %s)", replicaName(f.Target), f.How.kind)
	case killServer, pauseServer:
		who = " (" + serverName(f.Target) + ")"
	case partServer, partRoutes:
		who = fmt.Sprintf(" (%s, %s)", serverName(f.Target), f.How.kind)
	case stepDown:
		who = " (" + leaders[f.Target] + ")"
	case wayToNode:
		who = fmt.Sprintf(" (%s)", f.How.kind)
	case stallAndDrop:
		who = fmt.Sprintf(" (%d times)", f.Times)
		f.For = 0
	case nodeFaults:
		who = fmt.Sprintf(" (%s, %d times)", strikeNames[f.Strike], f.Times)
	}
	if f.For > 0 {
		who += fmt.Sprintf(" for %.1f s", f.For.Seconds())
	}
	return string(f.Kind) + who
}

var strikeNames = map[clearnodetest.FaultKind]string{
	clearnodetest.LoseRequest: "request lost", clearnodetest.LoseAnswer: "answer lost", clearnodetest.CutAfter: "cut after it", clearnodetest.Delay: "request late",
	clearnodetest.DelayAnswer: "answer late", clearnodetest.Stall: "stall before commit", clearnodetest.Error: "error", clearnodetest.ErrorApplied: "error, and done all the same",
	clearnodetest.Garbage: "garbage", clearnodetest.ExpireAuth: "sign-in forgotten", clearnodetest.WrongSignature: "wrong signature",
}

func (k weatherKind) String() string {
	return map[weatherKind]string{clear: "clear", delayed: "delayed", stalled: "stalled", silent: "silent", refused: "refused"}[k]
}
