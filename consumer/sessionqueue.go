package consumer

import (
	"math/rand/v2"
	"time"

	"settled/settlement"
)

// Bounds of what waits for its session's turn, in hand and kept alive.
const (
	mostOfOne = 64 // messages of one session
	mostTurns = 4  // messages of all sessions together, times the workers
)

// Bounds of the delays with which messages that find no room are given back. They are
// not those of the configuration, which are for outcomes that were tried. The server
// delivers what returns before new messages, so these must not return faster than they
// can be given back again: a million of one session return at 2,000 a second.
const (
	leastDelay = time.Second // about, of the first delivery
	mostDelay  = 10 * time.Minute
	firstPace  = 2 * time.Millisecond // from one turn to the next, as long as nothing else is known
	leastPace  = time.Millisecond
	tellAgain  = time.Minute // it is told at most so often, of one session for all
)

// turns lets one message of a session be settled at a time. Each Settle call reads
// what the session's ledger entries say, and adds one: of many at once only one
// gets on, and sends all others back to reading. Others of the session wait for
// its turn without a worker; those that find no room are given back, with delays
// by which they return one after the other at the pace at which the session gets
// on. So no session, however many messages name it, keeps others from being
// fetched and settled.
//
// The ledger's compare-and-set is what keeps a session safe, between processes
// and within one: turns only spare the work of losing it.
type turns struct {
	most    int       // that may wait
	waiting int       // of all sessions together
	told    time.Time // when it was told last that a session has more than can wait
	of      map[settlement.SessionID]*turn
}

// turn is that of a session one of whose messages has it: that is being settled, or is
// the next that a worker takes.
type turn struct {
	waiting []*message
	pace    time.Duration // from one turn to the next
	since   time.Time     // when the turn came to who has it
	booked  time.Time     // when the last of those given back returns
}

func newTurns(workers int) *turns {
	return &turns{most: mostTurns * workers, of: map[settlement.SessionID]*turn{}}
}

// place is where a message that arrived has come.
type place int

const (
	itsTurn place = iota // it is to be settled next
	inLine               // it waits, and ended will hand it out
	noRoom               // it is to be given back with the delay
)

// arrived finds the place of a message; tell asks for a line in the log. What names
// no session, or is not trusted to name it, waits for nobody: its entry is appended to
// nothing.
func (t *turns) arrived(m *message, now time.Time) (p place, delay time.Duration, tell bool) {
	if m.session() == "" {
		return itsTurn, 0, false
	}
	s := t.of[m.session()]
	switch {
	case s == nil:
		t.of[m.session()] = &turn{pace: firstPace, since: now}
		return itsTurn, 0, false
	case len(s.waiting) < mostOfOne && t.waiting < t.most:
		s.waiting = append(s.waiting, m)
		t.waiting++
		return inLine, 0, false
	default:
		if tell = now.Sub(t.told) >= tellAgain; tell {
			t.told = now
		}
		return noRoom, s.book(now, m.delivered()), tell
	}
}

// book says how long a message that finds no room stays away: about until those
// before it, in the line and away, are done. They return twice as fast as the
// session gets on: a return in vain costs little, a session that waits for one
// doesn't get on at all. But who returned in vain stays away twice as long as the
// last time, so that those of a session that is held up, however many they are, soon
// leave the way to other sessions' free: the server delivers them before new ones.
func (s *turn) book(now time.Time, delivered uint64) time.Duration {
	if inLine := now.Add(s.pace / 2 * time.Duration(len(s.waiting))); s.booked.Before(inLine) {
		s.booked = inLine
	}
	least := min(leastDelay<<min(max(delivered, 1)-1, 16), mostDelay)
	delay := max(s.booked.Sub(now), least/2+rand.N(least)) // #nosec G404 -- spreads load
	if delay >= mostDelay {
		return mostDelay/2 + rand.N(mostDelay/2) // #nosec G404 -- spreads load
	}
	s.booked = s.booked.Add(s.pace / 2)
	return delay
}

// took takes note of how long a turn took. One that was held up says little of the
// next ones, and what is booked by its pace would stay away for long.
func (s *turn) took(d time.Duration) {
	s.pace = max((7*s.pace+min(d, 4*s.pace))/8, leastPace)
}

// ended passes on the turn of a message that was answered; next is nil where
// nobody waits for it.
func (t *turns) ended(m *message, now time.Time) (next *message) {
	s := t.of[m.session()]
	if s == nil {
		return nil
	}
	if len(s.waiting) == 0 {
		delete(t.of, m.session())
		return nil
	}
	s.took(now.Sub(s.since))
	s.since = now
	next, s.waiting = s.waiting[0], s.waiting[1:]
	t.waiting--
	return next
}

// takeAll empties the lines, of every session in order; who has a turn keeps it.
func (t *turns) takeAll() (all []*message) {
	for _, s := range t.of {
		all = append(all, s.waiting...)
		s.waiting = nil
	}
	t.waiting = 0
	return all
}
