package clearnode

import (
	"context"
	"errors"
	"fmt"

	"settled/settlement"
)

func (n *nitro) session(ctx context.Context, c *conn, id settlement.SessionID, options settlement.ReadOptions) (settlement.Session, error) {
	r := reading{n: n, c: n.client, conn: c, id: id, options: options, own: n.client.own()}
	return r.session(ctx)
}

// reading is one read of a session, on one connection.
type reading struct {
	n       *nitro
	c       *Client
	conn    *conn
	id      settlement.SessionID
	options settlement.ReadOptions
	own     settlement.Address
}

// session looks once, or twice where one look could mislead.
func (r *reading) session(ctx context.Context) (settlement.Session, error) {
	first, err := r.glance(ctx)
	if errors.Is(err, errAbsent) {
		return first.Session, r.confirmAbsent(ctx)
	}
	if err == nil && !first.Open && !first.untouched() && r.options.InDoubt {
		return r.stillClosed(ctx, first), nil
	}
	if err != nil || !first.Open && !first.untouched() {
		return first.Session, err
	}
	unfunded := first.Unfunded()
	if !unfunded && !r.options.InDoubt {
		return first.Session, nil
	}
	if unfunded {
		if err := pause(ctx, r.c.pace.secondLook); err != nil {
			return first.Session, err
		}
	}
	second, err := r.glance(ctx)
	if err != nil {
		return second.Session, fmt.Errorf("second look: %w", err)
	}
	if second.Open && second.Unfunded() && !unfunded {
		return second.Session, errors.New("it was emptied between two looks: looking again later")
	}
	quick := r.c.cfg.FenceMargin / 4
	second.ConfirmedStable = r.options.InDoubt && second.Open && first.took <= quick && second.took <= quick
	return second.Session, nil
}

// stillClosed looks a second time at a closed session, so that Quiet can be said of
// it. What is closed stays so: a look that fails only leaves it unsaid.
func (r *reading) stillClosed(ctx context.Context, first glimpse) settlement.Session {
	second, err := r.glance(ctx)
	if err != nil || second.Open {
		return first.Session
	}
	quick := r.c.cfg.FenceMargin / 4
	second.ConfirmedStable = first.took <= quick && second.took <= quick
	return second.Session
}

// untouched: no money ever moved. A close writes a row even where there is nothing
// to pay, so a session that is in no list of open ones and has no rows may have
// been made while it was looked at.
func (g glimpse) untouched() bool { return len(g.Deposits)+len(g.Payouts) == 0 }

// confirmAbsent looks a second time for a session that seemed not to be there.
// The node answers the definition of an unknown session, and of any session while
// its database is away, with the same words; only a ledger read before it and
// one after it tell the two apart.
func (r *reading) confirmAbsent(ctx context.Context) error {
	if err := pause(ctx, r.c.pace.secondLook); err != nil {
		return err
	}
	var before, after []row
	var found bool
	err := r.conn.questions(ctx,
		r.askTransactions(0, &before, nil),
		question{"get_app_definition", definitionOf{r.id}, func(a answer) error {
			_, err := readDefinition(a)
			found = err == nil
			if isUnknown(err) {
				return nil
			}
			return err
		}},
		r.askTransactions(0, &after, nil),
	)
	if err != nil {
		return fmt.Errorf("second look: %w", err)
	}
	if found || len(before) > 0 || len(after) > 0 {
		return errors.New("the node did not know it at first, and then did: looking again later")
	}
	return settlement.ErrSessionNotFound
}

// isUnknown reports whether the node answered that it has no such definition,
// or that its database is away.
func isUnknown(err error) bool {
	var said *nodeError
	return errors.As(err, &said) && said.text == unknownText
}
