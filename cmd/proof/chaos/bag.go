package main

import (
	"cmp"
	"math/rand/v2"
	"slices"
)

// bag draws without putting back until it is empty: whatever is in it comes, and
// in no order that could be known.
type bag[T cmp.Ordered] struct {
	random *rand.Rand
	all    []T
	left   []T
}

func newBag[T cmp.Ordered](random *rand.Rand, counts map[T]int) *bag[T] {
	b := &bag[T]{random: random}
	for v, n := range counts {
		for range n {
			b.all = append(b.all, v)
		}
	}
	slices.Sort(b.all) // a map has no order, a seed must have
	return b
}

func (b *bag[T]) draw() T {
	if len(b.left) == 0 {
		b.left = slices.Clone(b.all)
		b.random.Shuffle(len(b.left), func(i, j int) { b.left[i], b.left[j] = b.left[j], b.left[i] })
	}
	v := b.left[0]
	b.left = b.left[1:]
	return v
}
