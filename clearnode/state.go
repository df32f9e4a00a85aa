package clearnode

import (
	"context"
	"errors"
	"fmt"

	"settled/settlement"
)

// state finds out whether the session is open, and its version. No read by
// session id says so. Of each asset, what went in and what came out tell:
//
//	more out than in    paid twice; nothing else matters
//	less out than in    open: a close gives out all there is
//	as much, or nothing closed, or emptied, or never funded: the lists of
//	                    sessions tell, in which it is open or closed
//
// The lists are by participant, newest first, a hundred rows a page. Our own
// open sessions were read already. A list is proof of absence only if it is whole,
// and if it is of a participant, spelled as in the definition.
func (r *reading) state(ctx context.Context, s *settlement.Session, seen sight) error {
	if _, _, _, found := s.Overpaid(); found {
		return nil
	}
	_, ours := seen.definition.spelled(r.own)
	complete := ours && seen.open.whole()
	at := seen.open.find(r.id)
	switch {
	case at != nil:
		return r.found(s, at)
	case !s.Unfunded():
		s.Open = true
		return r.version(ctx, s, seen.definition, complete)
	case complete:
		return r.closed(ctx, s, seen.definition)
	}
	return r.search(ctx, s, seen)
}

// found takes what a list says of the session.
func (r *reading) found(s *settlement.Session, at *listed) error {
	switch at.Status {
	case "open":
		s.Open = true
	case "closed":
	default:
		return fmt.Errorf("get_app_sessions: the session's status is %s", quote(at.Status))
	}
	s.Version, s.Application = at.Version, at.Application
	return nil
}

// version looks for an open session's version in lists that are not ours. Our own
// was complete, or too long to hold it. Oldest first: where many sessions are
// open, those that are settled now are among the ones that waited longest.
func (r *reading) version(ctx context.Context, s *settlement.Session, d definition, complete bool) error {
	pages := 1
	if r.look.Version {
		pages = maxSessionPages
	}
	for n := 0; n < pages && !complete; n++ {
		var open page
		if err := r.conn.questions(ctx, r.askSorted(d.somebodyElse(r.own), "open", "asc", n, &open)); err != nil {
			return err
		}
		if at := open.find(r.id); at != nil {
			return r.found(s, at)
		}
		complete = open.whole()
	}
	if r.look.Version {
		return errors.New("its version is needed and can't be found: it is in no list of open sessions")
	}
	return nil
}

// closed looks for a closed session's version where it is if it was closed of
// late. It isn't needed.
func (r *reading) closed(ctx context.Context, s *settlement.Session, d definition) error {
	var closed page
	if err := r.conn.questions(ctx, r.askSessions(r.spelling(d), "closed", 0, &closed)); err != nil {
		return err
	}
	if at := closed.find(r.id); at != nil {
		return r.found(s, at)
	}
	return nil
}

// search looks through the sessions of a participant that isn't us, who
// hopefully has fewer.
func (r *reading) search(ctx context.Context, s *settlement.Session, seen sight) error {
	other := seen.definition.somebodyElse(r.own)
	for n := range maxSessionPages {
		var open, closed page
		err := r.conn.questions(ctx, r.askSessions(other, "open", n, &open), r.askSessions(other, "closed", n, &closed))
		if err != nil {
			return err
		}
		if at := open.find(r.id); at != nil {
			return r.found(s, at)
		}
		at := closed.find(r.id)
		if at != nil || n == 0 && open.whole() {
			return r.closedByNow(ctx, s, at, seen)
		}
		if open.whole() && closed.whole() {
			break
		}
	}
	return errors.New("it is in no list of sessions, open or closed: looking again later")
}

// closedByNow: these lists were read after the transactions, so the session may
// have been closed in between. The transactions must still be the same.
func (r *reading) closedByNow(ctx context.Context, s *settlement.Session, at *listed, seen sight) error {
	var now []row
	if err := r.conn.questions(ctx, r.askTransactions(0, &now, nil)); err != nil {
		return err
	}
	newest := uint64(0)
	for _, t := range seen.rows {
		newest = max(newest, t.id)
	}
	for _, t := range now {
		if t.id > newest {
			return errors.New("it was closed while it was read: looking again later")
		}
	}
	if at != nil {
		return r.found(s, at)
	}
	return nil
}
