package audit

import "math/rand/v2"

// sample selects the entries that a reconciliation compares with the node, a bounded
// number: those that disagreed before, and a random sample of the others. It keeps their
// sequences only.
type sample struct {
	size       int
	priority   []uint64 // disagreed before; at most size
	drawn      []uint64
	candidates uint64 // from which they are drawn
}

// add offers the sequence of a closed entry, or of the last failed one of a free session.
// Every sequence has the same probability (Vitter's algorithm R).
func (d *sample) add(sequence uint64, again bool) {
	if again && len(d.priority) < d.size {
		d.priority = append(d.priority, sequence)
		return
	}
	d.candidates++
	if len(d.drawn) < d.size {
		d.drawn = append(d.drawn, sequence)
		return
	}
	if i := rand.Uint64N(d.candidates); i < uint64(d.size) { // #nosec G404 G115 -- not a secret; most is a small constant
		d.drawn[i] = sequence
	}
}

// skipped returns how many were not selected.
func (d *sample) skipped() uint64 { return d.candidates - uint64(len(d.drawn)) }

// sequences returns the selected ones.
func (d *sample) sequences() []uint64 { return append(d.priority, d.drawn...) }
