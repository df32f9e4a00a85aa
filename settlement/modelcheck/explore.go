package main

import (
	"fmt"
	"hash/maphash"
	"strings"
)

// result is what the exploration of a case found.
type result struct {
	States, Transitions int
	Complete            bool
	Bad                 string   // the first violation; "" for none
	Trace               []string // the shortest way to it
	Stuck               int      // states from which no way without a fault ends every message; -1: not looked for
}

// Kind is the name of the violated invariant.
func (r result) Kind() string {
	name, _, _ := strings.Cut(r.Bad, ":")
	return name
}

// space is the set of states found, in the order they were found.
type space struct {
	seed   maphash.Seed
	states []state
	parent []int32
	table  []int32 // open addressing; id+1
}

func newSpace() *space { return &space{seed: maphash.MakeSeed(), table: make([]int32, 1<<12)} }

// add returns the id of a state, and whether it is new.
func (p *space) add(s state, parent int32) (id int32, fresh bool) {
	if 2*len(p.states) >= len(p.table) {
		p.grow()
	}
	at := p.find(&s)
	if p.table[at] != 0 {
		return p.table[at] - 1, false
	}
	p.states, p.parent = append(p.states, s), append(p.parent, parent)
	p.table[at] = int32(len(p.states))
	return int32(len(p.states) - 1), true
}

func (p *space) find(s *state) uint64 {
	mask := uint64(len(p.table) - 1)
	at := maphash.Comparable(p.seed, *s) & mask
	for p.table[at] != 0 && p.states[p.table[at]-1] != *s {
		at = (at + 1) & mask
	}
	return at
}

func (p *space) grow() {
	p.table = make([]int32, 2*len(p.table))
	for id := range p.states {
		p.table[p.find(&p.states[id])] = int32(id + 1)
	}
}

// explore visits every state that can be reached, breadth first, up to a limit, until
// one violates an invariant. With ends it then looks for states that no way without
// a fault leads out of.
func (c *config) explore(limit int, ends bool) result {
	p := newSpace()
	first := c.initial()
	c.normalize(&first)
	p.add(first, -1)
	r := result{Complete: true, Stuck: -1}
	var back [][2]int32
	for i := 0; i < len(p.states); i++ {
		s := p.states[i]
		for _, t := range c.successors(&s) {
			r.Transitions++
			if t.Bad != "" {
				r.States, r.Complete = len(p.states), false
				r.Bad, r.Trace = t.Bad, c.trace(p, int32(i), &t.To)
				return r
			}
			id, _ := p.add(t.To, int32(i))
			if ends && !t.Fault && id != int32(i) {
				back = append(back, [2]int32{id, int32(i)})
			}
		}
		if len(p.states) > limit {
			r.Complete = false
			break
		}
	}
	r.States = len(p.states)
	if ends && r.Complete {
		stuckAt, n := c.unfinished(p, back)
		r.Stuck = n
		if n > 0 {
			r.Bad = fmt.Sprintf("NO-END: from %d states no way without a fault ends every message", n)
			r.Trace = c.trace(p, stuckAt, nil)
		}
	}
	return r
}

// trace is the labels of the way to a state, and of the step from it to the last.
func (c *config) trace(p *space, id int32, last *state) []string {
	told := *c
	told.Labels = true
	var labels []string
	label := func(from int32, to *state) {
		for _, t := range told.successors(&p.states[from]) {
			if t.To == *to {
				labels = append(labels, t.Label)
				return
			}
		}
	}
	if last != nil {
		label(id, last)
	}
	for ; id > 0; id = p.parent[id] {
		label(p.parent[id], &p.states[id])
	}
	for i, j := 0, len(labels)-1; i < j; i, j = i+1, j-1 {
		labels[i], labels[j] = labels[j], labels[i]
	}
	return labels
}

// unfinished counts the states from which no fault-free way leads to an end. edges
// are the fault-free transitions, backwards.
func (c *config) unfinished(p *space, edges [][2]int32) (first int32, count int) {
	from := make([]int32, len(p.states)+1)
	for _, e := range edges {
		from[e[0]+1]++
	}
	for i := range p.states {
		from[i+1] += from[i]
	}
	to, next := make([]int32, len(edges)), append([]int32(nil), from...)
	for _, e := range edges {
		to[next[e[0]]] = e[1]
		next[e[0]]++
	}
	good := make([]bool, len(p.states))
	var queue []int32
	for i := range p.states {
		if p.states[i].done() {
			good[i] = true
			queue = append(queue, int32(i))
		}
	}
	for len(queue) > 0 {
		i := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		for _, k := range to[from[i]:from[i+1]] {
			if !good[k] {
				good[k] = true
				queue = append(queue, k)
			}
		}
	}
	first = -1
	for i, ok := range good {
		if !ok {
			if count++; first < 0 {
				first = int32(i)
			}
		}
	}
	return first, count
}
