package dashboard

import (
	"math"
	"time"
)

// buckets is how many classes of duration are told apart: each reaches the square
// root of two as far as the one before it, from 1 ms to 9 hours.
const buckets = 50

// latency counts durations by class, so that days of them fit into memory and
// quantiles are right to a fifth.
type latency [buckets]uint32

func (l *latency) note(d time.Duration) {
	ms := float64(d) / float64(time.Millisecond)
	i := 0
	if ms > 1 {
		i = min(int(math.Ceil(2*math.Log2(ms))), buckets-1)
	}
	l[i]++
}

func (l *latency) add(other *latency) {
	for i, n := range other {
		l[i] += n
	}
}

// quantile is about that many milliseconds below which a share q of the durations
// lie; nil without any.
func (l *latency) quantile(q float64) *float64 {
	var total uint64
	for _, n := range l {
		total += uint64(n)
	}
	if total == 0 {
		return nil
	}
	rank, seen := q*float64(total), 0.0
	for i, n := range l {
		if n > 0 && seen+float64(n) >= rank {
			ms := math.Round(math.Exp2((float64(i)-1+(rank-seen)/float64(n))/2)*10) / 10
			return &ms
		}
		seen += float64(n)
	}
	return nil
}
