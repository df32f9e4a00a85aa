package nitronode

import (
	"context"
	"errors"
	"fmt"

	"settled/clearnode/internal/protocol"
	"settled/settlement"
)

// ReadSession reads everything about an open session in one answer. The node reads its rows
// one after the other (source), so the answer can mix two states. That is harmless: each
// change increments the version, and a request made from a mixed read is refused. Therefore
// ReadSession ignores options.InDoubt and does not set ConfirmedStable.
func (n *Node) ReadSession(ctx context.Context, c protocol.Conn, id settlement.SessionID, options settlement.ReadOptions) (settlement.Session, error) {
	r := sessionReader{n: n, conn: c, id: id, options: options}
	s, err := r.readConfirmed(ctx)
	if err != nil || s.Open && !options.Funding {
		return s, err
	}
	if s.Open {
		return r.addFunding(ctx, s)
	}
	return r.addPayouts(ctx, s)
}

// sessionReader reads one session, on one connection.
type sessionReader struct {
	n       *Node
	conn    protocol.Conn
	id      settlement.SessionID
	options settlement.ReadOptions
}

// readConfirmed reads once, or twice where one read could mislead.
func (r *sessionReader) readConfirmed(ctx context.Context) (settlement.Session, error) {
	first, err := r.readOnce(ctx)
	absent := errors.Is(err, protocol.ErrAbsent)
	if err != nil && !absent || err == nil && !(first.Open && first.Unfunded()) {
		return first, err
	}
	if err := protocol.Pause(ctx, r.n.settings.SecondRead); err != nil {
		return first, err
	}
	second, err := r.readOnce(ctx)
	switch {
	case errors.Is(err, protocol.ErrAbsent) && absent:
		return second, settlement.ErrSessionNotFound
	case err != nil:
		return second, fmt.Errorf("second read: %w", err)
	case absent:
		return second, protocol.ErrAppeared
	}
	return second, nil
}

func (r *sessionReader) readOnce(ctx context.Context) (s settlement.Session, err error) {
	var evidence protocol.Answer
	questions := []protocol.Question{{Method: methodSessions, Params: sessionParams{r.id}, Read: func(a protocol.Answer) (err error) {
		evidence = a
		s, err = readSession(a, r.id)
		return err
	}}}
	fresh := r.n.assets.Listed() == nil
	if fresh {
		questions = append(questions, r.n.assets.Question())
	}
	if err := r.conn.AskAll(ctx, questions...); err != nil {
		return s, err
	}
	s.Undisclosed.Funding = true // until the transactions are read
	s.Evidence = protocol.Evidence(evidence, Protocol)
	s.Decimals = map[settlement.Asset]int32{}
	// An asset that was emptied and is listed no more is left out: the node accepts no
	// row of it.
	kept := s.Current[:0]
	for _, a := range s.Current {
		if _, listed := r.n.assets.Listed()[a.Asset]; !listed && a.Amount.IsZero() {
			continue
		}
		decimals, listed, err := r.n.assets.Decimals(ctx, r.conn, a.Asset, &fresh)
		if err != nil {
			return s, err
		}
		if !listed {
			return s, protocol.ErrUnlisted(a.Asset)
		}
		s.Decimals[a.Asset] = decimals
		kept = append(kept, a)
	}
	s.Current = kept
	return s, nil
}

// addFunding adds who funded an open session, as far as its participants' transactions
// show it. If they don't, it reads the session again, and fails if the session has changed
// since the first read.
func (r *sessionReader) addFunding(ctx context.Context, s settlement.Session) (settlement.Session, error) {
	h := r.openHistory(s)
	balance := map[settlement.Asset]settlement.Amount{}
	for _, a := range s.Current {
		balance[a.Asset] = balance[a.Asset].Add(a.Amount)
	}
	deposits, known, err := h.netDeposits(ctx, s.Version-1, nil, balance)
	if err != nil {
		return s, err
	}
	s.Deposits, s.Undisclosed.Funding = deposits, !known
	if known {
		return s, nil
	}
	now, err := r.readOnce(ctx)
	if err == nil && (!now.Open || now.Version != s.Version) {
		err = errors.New("the session changed while it was read; it will be read again")
	}
	return s, err
}

// addPayouts adds what a closed session paid, and who had funded it where that is asked.
// Nothing of a closed session changes any more.
func (r *sessionReader) addPayouts(ctx context.Context, s settlement.Session) (settlement.Session, error) {
	h := r.openHistory(s)
	reached, err := h.readLastReleases(ctx)
	if err != nil || !reached {
		s.Undisclosed.Payouts = true
		return s, err
	}
	payouts, certain := closingReleases(h.movements(typeRelease))
	if !certain {
		all, err := h.releasesOfOnlyClose(ctx, s.Version)
		if err != nil {
			return s, err
		}
		if all != nil {
			payouts, certain = all, true
		}
	}
	s.Undisclosed.Payouts = !certain
	paid := map[settlement.Asset]settlement.Amount{}
	for _, p := range payouts {
		s.Payouts = append(s.Payouts, p.Transfer)
		paid[p.Asset] = paid[p.Asset].Add(p.Amount)
		if decimals, listed := r.n.assets.Listed()[p.Asset]; listed {
			s.Decimals[p.Asset] = decimals
		}
	}
	if !r.options.Funding || !certain {
		return s, nil
	}
	deposits, known, err := h.netDeposits(ctx, s.Version-2, payouts, paid)
	s.Deposits, s.Undisclosed.Funding = deposits, !known
	return s, err
}
