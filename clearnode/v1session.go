package clearnode

import (
	"context"
	"errors"
	"fmt"

	"settled/settlement"
)

// v1Reading is one read of a session, on one connection.
type v1Reading struct {
	v       *v1
	conn    *conn
	id      settlement.SessionID
	options settlement.ReadOptions
}

// session reads all of an open session in one answer. What its parts show may be
// of two moments (the node reads its rows one after the other, source): each change
// moves the version, so that a request made from such a sight is refused. Where a
// doubt has to be settled a second look would show nothing that the version
// doesn't, so there is none, and Quiet says nothing.
func (v *v1) session(ctx context.Context, c *conn, id settlement.SessionID, options settlement.ReadOptions) (settlement.Session, error) {
	r := v1Reading{v: v, conn: c, id: id, options: options}
	s, err := r.confirmed(ctx)
	if err != nil || s.Open && !options.Funding {
		return s, err
	}
	if !s.Open {
		return r.closed(ctx, s)
	}
	return r.funded(ctx, s)
}

// confirmed looks once, or twice where one look could mislead.
func (r *v1Reading) confirmed(ctx context.Context) (settlement.Session, error) {
	first, err := r.glance(ctx)
	absent := errors.Is(err, errAbsent)
	if err != nil && !absent || err == nil && !(first.Open && first.Unfunded()) {
		return first, err
	}
	if err := pause(ctx, r.v.client.pace.secondLook); err != nil {
		return first, err
	}
	second, err := r.glance(ctx)
	switch {
	case errors.Is(err, errAbsent) && absent:
		return second, settlement.ErrSessionNotFound
	case err != nil:
		return second, fmt.Errorf("second look: %w", err)
	case absent:
		return second, errors.New("the node did not know it at first, and then did: looking again later")
	}
	return second, nil
}

// glance looks once.
func (r *v1Reading) glance(ctx context.Context) (s settlement.Session, err error) {
	var seen answer
	qs := []question{{v1Sessions, v1SessionOf{r.id}, func(a answer) (err error) {
		seen = a
		s, err = readV1Session(a, r.id)
		return err
	}}}
	listing := r.v.shelf.assets() == nil
	if listing {
		qs = append(qs, r.v.askAssets())
	}
	if err := r.conn.questions(ctx, qs...); err != nil {
		return s, err
	}
	s.Undisclosed.Funding = true // as long as nobody looked
	s.Evidence = r.v.client.evidence(seen, protocolV1)
	return s, r.decimals(ctx, &s, listing)
}

// decimals are those of the session's assets. One that isn't listed is asked for
// again: it may be new. What was emptied and is listed no more is left out, for the
// node takes no row of it.
func (r *v1Reading) decimals(ctx context.Context, s *settlement.Session, listing bool) error {
	s.Decimals = map[settlement.Asset]int32{}
	kept := s.Current[:0]
	for _, a := range s.Current {
		n, listed := r.v.shelf.assets()[a.Asset]
		if !listed && !listing && !a.Amount.IsZero() {
			if err := r.conn.questions(ctx, r.v.askAssets()); err != nil {
				return err
			}
			listing = true
			n, listed = r.v.shelf.assets()[a.Asset]
		}
		switch {
		case listed:
			s.Decimals[a.Asset] = n
			kept = append(kept, a)
		case !a.Amount.IsZero():
			return fmt.Errorf("the node does not list asset %s, which is in the session: its smallest unit is not known", quote(string(a.Asset)))
		}
	}
	s.Current = kept
	return nil
}

// funded adds who funded an open session, as far as its participants' transactions
// say so. Where they don't, it must not be because the session has changed since.
func (r *v1Reading) funded(ctx context.Context, s settlement.Session) (settlement.Session, error) {
	l := r.ledger(s)
	held := map[settlement.Asset]settlement.Amount{}
	for _, a := range s.Current {
		held[a.Asset] = held[a.Asset].Add(a.Amount)
	}
	deposits, known, err := l.deposits(ctx, s.Version-1, nil, held)
	if err != nil {
		return s, err
	}
	s.Deposits, s.Undisclosed.Funding = deposits, !known
	if known {
		return s, nil
	}
	now, err := r.glance(ctx)
	if err == nil && (!now.Open || now.Version != s.Version) {
		err = errors.New("it was changed while it was read: looking again later")
	}
	return s, err
}

// closed adds what a closed session paid, and who had funded it where that is
// asked. Closed is the end: nothing of it changes any more.
func (r *v1Reading) closed(ctx context.Context, s settlement.Session) (settlement.Session, error) {
	l := r.ledger(s)
	reached, err := l.lastReleases(ctx)
	if err != nil || !reached {
		s.Undisclosed.Payouts = true
		return s, err
	}
	payouts, told := closing(l.moves(v1Release))
	if !told {
		all, err := l.onlyClose(ctx, s.Version)
		if err != nil {
			return s, err
		}
		if all != nil {
			payouts, told = all, true
		}
	}
	s.Undisclosed.Payouts = !told
	paid := map[settlement.Asset]settlement.Amount{}
	for _, p := range payouts {
		s.Payouts = append(s.Payouts, p.Transfer)
		paid[p.Asset] = paid[p.Asset].Add(p.Amount)
		if n, listed := r.v.shelf.assets()[p.Asset]; listed {
			s.Decimals[p.Asset] = n
		}
	}
	if !r.options.Funding || !told {
		return s, nil
	}
	deposits, known, err := l.deposits(ctx, s.Version-2, payouts, paid)
	s.Deposits, s.Undisclosed.Funding = deposits, !known
	return s, err
}
