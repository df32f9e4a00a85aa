package clearnode

import (
	"math"
	"sync"
)

// lengths remembers how long each participant's lists of sessions were: a node that
// has no pages is asked for the shortest. It is a hint, and forgotten when it grows.
type lengths struct {
	mu   sync.Mutex
	last map[string]int
}

// shortest is whose lists were, or may be, the shortest. Until the session was found
// in them they count as the longest there are: no connection may survive them.
func (l *lengths) shortest(participants []string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	best := participants[0]
	for _, p := range participants[1:] {
		if l.last[p] < l.last[best] {
			best = p
		}
	}
	l.keep(best, math.MaxInt)
	return best
}

func (l *lengths) were(participant string, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keep(participant, n)
}

func (l *lengths) keep(participant string, n int) {
	if l.last == nil || len(l.last) >= maxShelved {
		l.last = map[string]int{}
	}
	l.last[participant] = n
}
