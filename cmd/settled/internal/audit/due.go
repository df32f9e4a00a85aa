package audit

import "math/rand/v2"

// due collects, while the ledger is read, the entries that a reconciliation has to
// compare with the node afterwards, where that must not take longer the more was
// closed: all that disagreed before, and of the rest as many as most, drawn at random.
// It keeps their sequences alone.
type due struct {
	most  int
	again []uint64 // that disagreed before, at most as many
	drawn []uint64
	rest  uint64 // of which they are drawn
}

// add takes the sequence of a closed entry, or of the last failed one of a free
// session. It keeps each of those that came so far with the same chance (Vitter's
// algorithm R).
func (d *due) add(sequence uint64, again bool) {
	if again && len(d.again) < d.most {
		d.again = append(d.again, sequence)
		return
	}
	d.rest++
	if len(d.drawn) < d.most {
		d.drawn = append(d.drawn, sequence)
		return
	}
	if i := rand.Uint64N(d.rest); i < uint64(d.most) { // #nosec G404 G115 -- not a secret; most is a small constant
		d.drawn[i] = sequence
	}
}

// left is how many were not drawn.
func (d *due) left() uint64 { return d.rest - uint64(len(d.drawn)) }

// kept are those to compare.
func (d *due) kept() []uint64 { return append(d.again, d.drawn...) }
