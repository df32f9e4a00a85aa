package consumer

import (
	"math/rand/v2"
	"time"

	"settled/settlement"
)

// Bounds of the deliveries that wait for others of their session.
const (
	maxWaitingOfSession = 64 // of one session
	maxWaitingPerWorker = 4  // of all sessions together, times the number of workers
)

// Bounds of the delays of deliveries that find no room. They differ from those of the
// configuration, which are for outcomes that were tried. The server delivers what returns
// before new messages, so these must not return faster than they can be returned again:
// a million of one session return at 2,000 a second.
const (
	minDelay     = time.Second // about, after the first delivery
	maxDelay     = 10 * time.Minute
	initialPace  = 2 * time.Millisecond // for each outcome of a session, until it is measured
	minPace      = time.Millisecond
	noRoomLogged = time.Minute // at most one log line in this time
)

// sessionQueue lets one delivery of a session be settled at a time. Each Settle call reads
// the session's ledger entries and appends one: of several at once only one succeeds, and
// makes all others read again. Other deliveries of the session wait without occupying a
// worker. Those that find no room are returned, with delays that bring them back one
// after the other at the pace of the session. So the messages of one session, however many
// there are, keep no other session's from being fetched and settled.
//
// The ledger's compare-and-set keeps a session safe, between processes and within one: the
// queue only avoids the work of losing it.
type sessionQueue struct {
	maxWaiting int
	waiting    int       // deliveries of all sessions together
	logged     time.Time // when a session without room was last logged
	sessions   map[settlement.SessionID]*sessionState
}

// sessionState is that of a session with a delivery that is being settled, or is next.
type sessionState struct {
	waiting []*delivery
	pace    time.Duration // for each outcome of the session
	since   time.Time     // when the current delivery became the next
	booked  time.Time     // when the last of the deliveries that were returned returns
}

func newSessionQueue(workers int) *sessionQueue {
	return &sessionQueue{maxWaiting: maxWaitingPerWorker * workers, sessions: map[settlement.SessionID]*sessionState{}}
}

// position says what to do with a delivery.
type position int

// add returns the position of a delivery, and whether to log that it found no room. A
// delivery that names no session, or is not trusted to name it, does not wait: the ledger
// gets no entry for that session.
func (q *sessionQueue) add(d *delivery, now time.Time) (p position, delay time.Duration, logIt bool) {
	id := d.session()
	if id == "" {
		return isNext, 0, false
	}
	s := q.sessions[id]
	switch {
	case s == nil:
		q.sessions[id] = &sessionState{pace: initialPace, since: now}
		return isNext, 0, false
	case len(s.waiting) < maxWaitingOfSession && q.waiting < q.maxWaiting:
		s.waiting = append(s.waiting, d)
		q.waiting++
		return waits, 0, false
	default:
		if logIt = now.Sub(q.logged) >= noRoomLogged; logIt {
			q.logged = now
		}
		return noRoom, s.book(now, d.meta.NumDelivered), logIt
	}
}

// session is the session whose other outcomes the delivery waits for; empty for none.
func (d *delivery) session() settlement.SessionID {
	if d.untrusted {
		return ""
	}
	return d.outcome.Session
}

// book returns the delay of a delivery that finds no room: about until those before it,
// waiting or returned, are settled. They return twice as fast as the session's pace: to
// return too early costs little, but a session without a delivery makes no progress. After
// each delivery that returned too early the delay doubles, so that the deliveries of a
// session that makes no progress soon stop hindering those of others, however many they
// are: the server delivers them before new ones.
func (s *sessionState) book(now time.Time, delivered uint64) time.Duration {
	if queued := now.Add(s.pace / 2 * time.Duration(len(s.waiting))); s.booked.Before(queued) {
		s.booked = queued
	}
	least := min(minDelay<<min(max(delivered, 1)-1, 16), maxDelay)
	delay := max(s.booked.Sub(now), least/2+rand.N(least)) // #nosec G404 -- spreads load
	if delay >= maxDelay {
		return maxDelay/2 + rand.N(maxDelay/2) // #nosec G404 -- spreads load
	}
	s.booked = s.booked.Add(s.pace / 2)
	return delay
}

const (
	isNext position = iota // settle it next
	waits                  // it waits until done returns it
	noRoom                 // give it back with the delay
)

// done removes a delivery that was answered and returns the next one of its session, or
// nil.
func (q *sessionQueue) done(d *delivery, now time.Time) (next *delivery) {
	id := d.session()
	s := q.sessions[id]
	if s == nil {
		return nil
	}
	if len(s.waiting) == 0 {
		delete(q.sessions, id)
		return nil
	}
	// One that took unusually long says little about the next ones, and would make booked
	// deliveries stay away for too long.
	s.pace = max((7*s.pace+min(now.Sub(s.since), 4*s.pace))/8, minPace)
	s.since = now
	next, s.waiting = s.waiting[0], s.waiting[1:]
	q.waiting--
	return next
}

// removeWaiting removes and returns all deliveries that wait, of each session in order.
func (q *sessionQueue) removeWaiting() (all []*delivery) {
	for _, s := range q.sessions {
		all = append(all, s.waiting...)
		s.waiting = nil
	}
	q.waiting = 0
	return all
}
