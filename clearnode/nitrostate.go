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
// and if it is of a participant, spelled as in the definition; of any of them, so
// that one with thousands of sessions hides nothing.
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
		at, err := r.closed(ctx, r.spelling(seen.definition))
		if at == nil {
			return err
		}
		return r.found(s, at)
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
// open, those that are settled now are among the ones that waited longest. Where
// the version isn't needed one page must do.
func (r *reading) version(ctx context.Context, s *settlement.Session, d definition, complete bool) error {
	others, pages := d.others(r.spelling(d)), maxSessionPages
	if !r.options.Version {
		others, pages = others[:1], 1
	}
	for n := 0; n < pages && !complete; n++ {
		at, whole, err := r.openOf(ctx, others, "asc", n)
		if at != nil {
			return r.found(s, at)
		}
		if err != nil {
			return err
		}
		complete, others = whole != "", others[:1]
	}
	if r.options.Version {
		return errors.New("its version is needed and can't be found: it is in no list of open sessions")
	}
	return nil
}

// openOf looks for the session on a page of the open sessions of each of some
// participants, all asked for at once. Where it isn't, it names one whose list
// ends there, if there is one.
func (r *reading) openOf(ctx context.Context, participants []string, sort string, n int) (at *listed, whole string, err error) {
	open := make([]page, len(participants))
	qs := make([]question, len(participants))
	for i, p := range participants {
		qs[i] = r.askSorted(p, "open", sort, n, &open[i])
	}
	if err := r.conn.questions(ctx, qs...); err != nil {
		return nil, "", err
	}
	for i, p := range participants {
		if at := open[i].find(r.id); at != nil {
			return at, "", nil
		}
		if whole == "" && open[i].whole() {
			whole = p
		}
	}
	return nil, whole, nil
}

// closed looks for a closed session where it is if it was closed of late. It
// tells its version, which isn't needed.
func (r *reading) closed(ctx context.Context, participant string) (*listed, error) {
	var closed page
	err := r.conn.questions(ctx, r.askSessions(participant, "closed", 0, &closed))
	return closed.find(r.id), err
}

// search looks for the session among those of the other participants. It is
// enough that one of them has few open ones; only where all have many are the
// lists of one paged through.
func (r *reading) search(ctx context.Context, s *settlement.Session, seen sight) error {
	others := seen.definition.others(r.spelling(seen.definition))
	at, whole, err := r.openOf(ctx, others, "", 0)
	switch {
	case err != nil:
		return err
	case at != nil:
		return r.found(s, at)
	case whole == "":
		return r.leaf(ctx, s, seen, others[0])
	}
	if at, err = r.closed(ctx, whole); err != nil {
		return err
	}
	return r.closedByNow(ctx, s, at, seen)
}

// leaf turns the pages of one participant's lists.
func (r *reading) leaf(ctx context.Context, s *settlement.Session, seen sight, other string) error {
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
