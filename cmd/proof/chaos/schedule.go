package main

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"settled/clearnode/clearnodetest"
)

// fault is one fault, drawn from the seed.
type fault struct {
	At         time.Duration // since the first fault may begin
	Duration   time.Duration
	Kind       string // as in records
	Target     int    // index of the replica, of the server, or in leaders
	Impairment impairment
	NodeFault  clearnodetest.FaultKind // of nodeFaults
	Times      int
	Delay      time.Duration // of nodeFaults
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

// drawSchedule draws the faults of a run, sorted by their begin. All end within length.
func drawSchedule(seed uint64, length time.Duration, replicas int, protocol string) []fault {
	var all []fault
	for i, t := range tracks {
		random := rand.New(rand.NewPCG(seed, uint64(2+i)))
		weights := map[string]int{}
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
	spec, targets := f.spec(), servers
	if spec.target == oneReplica || spec.target == allReplicas {
		targets = replicas
	}
	impairments := spec.impairments
	if impairments == nil {
		impairments = blocked
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
