package main

import (
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
)

// result is what the exploration of a case found.
type result struct {
	States   int
	Complete bool     // every state that can be reached was visited
	Bad      string   // the first violation; "" for none
	Trace    []string // the shortest way to it
}

// Kind is the name of the violated invariant.
func (r result) Kind() string {
	name, _, _ := strings.Cut(r.Bad, ":")
	return name
}

// space is the set of states found, in the order they were found.
type space struct {
	seed   maphash.Seed
	ids    map[uint64]int32 // by the state's hash, or the next free number after it
	states []state
	parent []int32
}

// add returns the id of a state.
func (p *space) add(s *state, parent int32) int32 {
	for hash := maphash.Comparable(p.seed, *s); ; hash++ {
		id, found := p.ids[hash]
		if !found {
			id = int32(len(p.states))
			p.ids[hash] = id
			p.states, p.parent = append(p.states, *s), append(p.parent, parent)
			return id
		}
		if p.states[id] == *s {
			return id
		}
	}
}

// explore visits every state that can be reached, breadth first, up to a limit, until
// one violates an invariant. With ends it then looks for states that no way without
// a fault leads out of.
func (c *config) explore(limit int, ends bool) (r result) {
	p := &space{seed: maphash.MakeSeed(), ids: map[uint64]int32{}}
	first := c.initial()
	c.normalize(&first)
	p.add(&first, -1)
	var before [][]int32 // the states from which a step without a fault leads to a state
	for i := int32(0); r.Bad == "" && len(p.states) <= limit; i++ {
		if r.Complete = int(i) == len(p.states); r.Complete {
			break
		}
		s := p.states[i]
		c.successors(&s, func(t transition) {
			switch {
			case r.Bad != "":
			case t.Bad != "":
				r.Bad, r.Trace = t.Bad, c.trace(p, i, &t.To)
			default:
				id := p.add(&t.To, i)
				if ends && !t.Fault && id != i {
					before = append(before, make([][]int32, len(p.states)-len(before))...)
					before[id] = append(before[id], i)
				}
			}
		})
	}
	r.States = len(p.states)
	if ends && r.Complete {
		if stuckAt, n := p.unfinished(before); n > 0 {
			r.Bad = fmt.Sprintf("NO-END: from %d states no way without a fault ends every message", n)
			r.Trace = c.trace(p, stuckAt, nil)
		}
	}
	return r
}

// trace is the labels of the way to a state, and of the step from it to the last.
func (c *config) trace(p *space, id int32, to *state) (labels []string) {
	told := *c
	told.Labels = true
	for ; id >= 0; id = p.parent[id] {
		found := to == nil
		told.successors(&p.states[id], func(t transition) {
			if !found && t.To == *to {
				found, labels = true, append(labels, t.Label)
			}
		})
		to = &p.states[id]
	}
	slices.Reverse(labels)
	return labels
}

// unfinished counts the states from which no fault-free way leads to an end.
func (p *space) unfinished(before [][]int32) (first int32, count int) {
	before = append(before, make([][]int32, len(p.states)-len(before))...)
	ending := make([]bool, len(p.states))
	var queue []int32
	reach := func(i int32) {
		if !ending[i] {
			ending[i], queue = true, append(queue, i)
		}
	}
	for i := range p.states {
		if p.states[i].done() {
			reach(int32(i))
		}
	}
	for len(queue) > 0 {
		i := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		for _, k := range before[i] {
			reach(k)
		}
	}
	for _, ok := range ending {
		if !ok {
			count++
		}
	}
	return int32(slices.Index(ending, false)), count
}
