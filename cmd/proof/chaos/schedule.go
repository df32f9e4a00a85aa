package main

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"settled/clearnode/clearnodetest"
)

// faultKind names a kind of fault in records.
type faultKind string

const (
	killReplica  faultKind = "kill -9 of a settled"
	killReplicas faultKind = "kill -9 of all settled"
	pauseReplica faultKind = "pause of a settled"
	termReplica  faultKind = "SIGTERM of a settled"
	partReplica  faultKind = "a settled parted from NATS"
	cutReplica   faultKind = "NATS connections of a settled cut"

	killServer  faultKind = "kill -9 of a NATS server"
	killServers faultKind = "kill -9 of two NATS servers"
	killCluster faultKind = "kill -9 of all NATS servers"
	pauseServer faultKind = "pause of a NATS server"
	partServer  faultKind = "a NATS server parted from all"
	partRoutes  faultKind = "a NATS server parted from the others"
	stepDown    faultKind = "leader step-down"
	fillDisk    faultKind = "disk full under a NATS server"

	stopNode     faultKind = "node away"
	nodeOutage   faultKind = "node without its database"
	dropNode     faultKind = "node connections dropped"
	impairNode   faultKind = "bad way to the node"
	nodeFaults   faultKind = "requests and answers lost or late"
	stallAndDrop faultKind = "closes at work while connections drop"

	replayDeadLetters faultKind = "dead letters replayed"
)

// fault is one fault, drawn from the seed.
type fault struct {
	At         time.Duration // since the first fault may begin
	Duration   time.Duration
	Kind       faultKind
	Target     int // index of the replica, of the server, or in leaders
	Impairment impairment
	NodeFault  clearnodetest.FaultKind // of nodeFaults
	Times      int
	Delay      time.Duration // of nodeFaults
}

// track is a sequence of faults, of which each ends before the next begins, so that
// one kind of component has one fault at a time. Tracks run concurrently.
type track struct {
	gap   interval // between two faults
	kinds map[faultKind]faultSpec
}

type faultSpec struct {
	weight   int
	duration interval
}

type interval struct{ min, max time.Duration }

const second = time.Second

var tracks = []track{
	{gap: interval{second, 5 * second}, kinds: map[faultKind]faultSpec{
		killReplica:  {4, interval{0, 3 * second}},
		killReplicas: {1, interval{0, 2 * second}},
		pauseReplica: {3, interval{ackWait + second, 14 * second}},
		termReplica:  {1, interval{0, second}},
		partReplica:  {3, interval{2 * second, 10 * second}},
		cutReplica:   {2, interval{}},
	}},
	// With shorter gaps the servers would elect leaders all the time.
	{gap: interval{4 * second, 14 * second}, kinds: map[faultKind]faultSpec{
		killServer:  {3, interval{0, 5 * second}},
		killServers: {1, interval{0, 3 * second}},
		killCluster: {1, interval{0, 2 * second}},
		pauseServer: {2, interval{3 * second, 10 * second}},
		partServer:  {2, interval{2 * second, 10 * second}},
		partRoutes:  {2, interval{2 * second, 10 * second}},
		stepDown:    {5, interval{}},
		fillDisk:    {1, interval{3 * second, 8 * second}},
	}},
	{gap: interval{second / 2, 4 * second}, kinds: map[faultKind]faultSpec{
		stopNode:     {2, interval{second / 2, 6 * second}},
		nodeOutage:   {2, interval{second / 2, 6 * second}},
		dropNode:     {2, interval{}},
		impairNode:   {4, interval{second, 6 * second}},
		nodeFaults:   {8, interval{0, 2 * second}},
		stallAndDrop: {5, interval{second, second}},
	}},
	{gap: interval{4 * second, 12 * second}, kinds: map[faultKind]faultSpec{replayDeadLetters: {1, interval{}}}},
}

// nodeFaultWeights is how often each fault of nodeFaults is drawn.
func nodeFaultWeights(protocol string) map[clearnodetest.FaultKind]int {
	weights := map[clearnodetest.FaultKind]int{
		clearnodetest.LoseRequest: 1, clearnodetest.LoseAnswer: 3, clearnodetest.CutAfter: 3, clearnodetest.Delay: 2, clearnodetest.DelayAnswer: 2,
		clearnodetest.Stall: 2, clearnodetest.Error: 1, clearnodetest.ErrorApplied: 1, clearnodetest.Garbage: 1,
	}
	if protocol != clearnodetest.NitronodeV1 { // a nitronode has no login and signs no answers
		weights[clearnodetest.ExpireAuth], weights[clearnodetest.WrongSignature] = 1, 1
	}
	return weights
}

// leaders are the leaders that can be made to step down, as API subjects.
var leaders = []string{"STREAM.LEADER.STEPDOWN.OUTCOMES", "STREAM.LEADER.STEPDOWN.SETTLEMENTS", "CONSUMER.LEADER.STEPDOWN.OUTCOMES.settled"}

// drawSchedule draws the faults of a run, sorted by their begin. All end within length.
func drawSchedule(seed uint64, length time.Duration, replicas int, protocol string) []fault {
	var all []fault
	for i, t := range tracks {
		random := rand.New(rand.NewPCG(seed, uint64(2+i)))
		weights := map[faultKind]int{}
		for kind, spec := range t.kinds {
			weights[kind] = spec.weight
		}
		kinds, nodeFaults := newBag(random, weights), newBag(random, nodeFaultWeights(protocol))
		for at := t.gap.draw(random); ; at += t.gap.draw(random) {
			f := fault{At: at, Kind: kinds.draw()}
			f.Duration = t.kinds[f.Kind].duration.draw(random)
			f.drawDetails(random, replicas, nodeFaults)
			if f.At+f.Duration > length {
				break
			}
			all = append(all, f)
			at += f.Duration
		}
	}
	slices.SortStableFunc(all, func(a, b fault) int { return cmp.Compare(a.At, b.At) })
	return all
}

// drawDetails draws the remaining fields, with the same number of draws for every kind.
func (f *fault) drawDetails(random *rand.Rand, replicas int, nodeFaults *bag[clearnodetest.FaultKind]) {
	targets := servers
	impairments := []impairment{{kind: refused}, {kind: stalled}}
	switch f.Kind {
	case killReplica, killReplicas, pauseReplica, termReplica, cutReplica:
		targets = replicas
	case partReplica:
		// Only clients meet silence: how long servers take to notice it among
		// themselves isn't settled's concern.
		targets, impairments = replicas, append(impairments, impairment{kind: silent})
	case impairNode:
		impairments = append(impairments, impairment{kind: silent}, impairment{kind: delayed, delay: second / 5})
	case stepDown:
		targets = len(leaders)
	}
	f.Target = random.IntN(targets)
	f.Impairment = impairments[random.IntN(len(impairments))]
	f.NodeFault = nodeFaults.draw()
	f.Times = 1 + random.IntN(12)
	f.Delay = interval{second / 10, 12 * second}.draw(random)
	if f.NodeFault == clearnodetest.Stall {
		f.Delay = f.Delay * longestStall / (12 * second)
	}
}

func (i interval) draw(random *rand.Rand) time.Duration {
	return i.min + time.Duration(random.Int64N(int64(i.max-i.min)+1)).Round(time.Millisecond)
}

// bag draws without replacement until it is empty, and then starts again. Thus every
// value comes up, in an unpredictable order.
type bag[T cmp.Ordered] struct {
	random  *rand.Rand
	weights map[T]int
	left    []T
}

func newBag[T cmp.Ordered](random *rand.Rand, weights map[T]int) *bag[T] {
	return &bag[T]{random: random, weights: weights}
}

func (b *bag[T]) draw() T {
	if len(b.left) == 0 {
		for _, v := range slices.Sorted(maps.Keys(b.weights)) {
			b.left = append(b.left, slices.Repeat([]T{v}, b.weights[v])...)
		}
		b.random.Shuffle(len(b.left), func(i, j int) { b.left[i], b.left[j] = b.left[j], b.left[i] })
	}
	v := b.left[0]
	b.left = b.left[1:]
	return v
}

func (f fault) String() string {
	detail := ""
	switch f.Kind {
	case killReplica, pauseReplica, termReplica, cutReplica:
		detail = " (" + replicaName(f.Target) + ")"
	case partReplica:
		detail = fmt.Sprintf(" (%s, %s)", replicaName(f.Target), f.Impairment.kind)
	case killServer, pauseServer:
		detail = " (" + serverName(f.Target) + ")"
	case partServer, partRoutes:
		detail = fmt.Sprintf(" (%s, %s)", serverName(f.Target), f.Impairment.kind)
	case stepDown:
		detail = " (" + leaders[f.Target] + ")"
	case impairNode:
		detail = fmt.Sprintf(" (%s)", f.Impairment.kind)
	case stallAndDrop:
		return fmt.Sprintf("%s (%d times)", f.Kind, f.Times)
	case nodeFaults:
		detail = fmt.Sprintf(" (%s, %d times)", nodeFaultNames[f.NodeFault], f.Times)
	}
	if f.Duration > 0 {
		detail += fmt.Sprintf(" for %.1f s", f.Duration.Seconds())
	}
	return string(f.Kind) + detail
}

var nodeFaultNames = map[clearnodetest.FaultKind]string{
	clearnodetest.LoseRequest: "request lost", clearnodetest.LoseAnswer: "answer lost", clearnodetest.CutAfter: "connection cut after the request",
	clearnodetest.Delay: "request late", clearnodetest.DelayAnswer: "answer late", clearnodetest.Stall: "stall before commit", clearnodetest.Error: "error",
	clearnodetest.ErrorApplied: "error, but applied", clearnodetest.Garbage: "garbage", clearnodetest.ExpireAuth: "login forgotten", clearnodetest.WrongSignature: "wrong signature",
}
