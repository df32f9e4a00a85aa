package clearnode

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"settled/settlement"
)

// ErrUnlisted says that this generation of node has no list of sessions that is
// worth its price.
var ErrUnlisted = errors.New("this generation of node lists all sessions of an account at once, which could be any number")

// listOverlap is how many rows of a page the next one shows again: a session that is
// closed meanwhile moves all others on, which shows some twice, and one that leaves
// the list moves them back, which must leave none out.
const listOverlap = 10

// ClosedSession is a session in a list of those that the node shows closed.
type ClosedSession struct {
	ID settlement.SessionID
	At time.Time // when it was closed, by the node's clock, in whole seconds; zero: the node doesn't say
}

// ClosedList pages through the sessions of an account that the node shows closed.
type ClosedList struct {
	client *Client
	of     settlement.Address
	since  time.Time
	lists  []*closedList // nil: nothing was asked yet
}

// closedList is one of the node's lists that a ClosedList is made from.
type closedList struct {
	participant string
	offset      int
	ended       bool
	page        []ClosedSession // what was read last
	full        bool            // and there may be more
}

// ClosedSessions lists the sessions in which an account takes part, under its EIP-55
// spelling or in lower case, that the node shows closed: at NitroRPC 0.2 and 0.4 the
// one closed last first, up to those closed before since; at nitronode v1, which
// doesn't say when, the one opened last first, up to the end, whatever since is.
// Nothing is asked yet.
func (c *Client) ClosedSessions(of settlement.Address, since time.Time) *ClosedList {
	return &ClosedList{client: c, of: of, since: since.Truncate(time.Second)}
}

// Next reads on, a page of each list in one round trip, and reports whether there
// may be more. Some sessions come twice. ErrUnlisted: a legacy node's lists have no
// end, so that it isn't asked. After any other error, which are those of
// Client.Session, the same page can be asked for again.
func (l *ClosedList) Next(ctx context.Context) (rows []ClosedSession, more bool, err error) {
	k, err := l.client.pool.lease(ctx, false, len(l.lists)+1)
	if err != nil {
		return nil, false, fmt.Errorf("closed sessions of %s: %w", l.of, err)
	}
	defer l.client.pool.giveBack(k, len(l.lists)+1)
	asked, err := l.questions(k)
	if err != nil {
		return nil, false, err
	}
	if err := k.questions(ctx, asked...); err != nil {
		return nil, false, fmt.Errorf("closed sessions of %s: %w", l.of, unread(ctx, err))
	}
	for _, part := range l.lists {
		if !part.ended {
			rows = append(rows, part.turn(l.since)...)
			more = more || !part.ended
		}
	}
	return rows, more, nil
}

// questions ask for the next page of each list that goes on.
func (l *ClosedList) questions(k *conn) (all []question, err error) {
	var ask func(*closedList) question
	spellings := []string{l.of.String()}
	switch k.dialect.(type) {
	case *nitro:
		ask = (*closedList).askNitro
		spellings = append(spellings, strings.ToLower(spellings[0])) // its lists are of one spelling, byte for byte
	case *v1:
		ask = (*closedList).askV1
	default:
		return nil, ErrUnlisted
	}
	if l.lists == nil {
		for _, s := range spellings {
			l.lists = append(l.lists, &closedList{participant: s})
		}
	}
	for _, part := range l.lists {
		if !part.ended {
			all = append(all, ask(part))
		}
	}
	return all, nil
}

// turn takes the page that was read, and moves on to the next.
func (l *closedList) turn(since time.Time) (rows []ClosedSession) {
	l.ended = !l.full
	for _, row := range l.page {
		if row.At.IsZero() || !row.At.Before(since) {
			rows = append(rows, row)
		} else {
			l.ended = true // this one and all that follow were closed earlier
		}
	}
	l.offset += pageSize - listOverlap
	return rows
}

func (l *closedList) askNitro() question {
	var found page
	q := askList(sessionsOf{Participant: l.participant, Status: "closed", Limit: pageSize, Offset: l.offset}, &found)
	read := q.read
	q.read = func(a answer) error {
		if err := read(a); err != nil {
			return err
		}
		l.begin(len(found))
		for _, row := range found {
			at, err := time.Parse(time.RFC3339Nano, row.Updated)
			if err != nil {
				return fmt.Errorf("session %s was changed at %s", quote(row.ID), quote(row.Updated))
			}
			l.keep(row.ID, row.Status, at)
		}
		return nil
	}
	return q
}

func (l *closedList) askV1() question {
	wanted := struct {
		Participant string       `json:"participant"`
		Status      string       `json:"status"`
		Pagination  v1Pagination `json:"pagination"`
	}{l.participant, "closed", v1Pagination{l.offset, pageSize}}
	return question{v1Sessions, wanted, func(a answer) error {
		var p struct {
			Rows []v1Listed `json:"app_sessions"`
		}
		if err := a.into(v1Sessions, &p); err != nil {
			return err
		}
		if p.Rows == nil {
			return errors.New("no app_sessions in the answer")
		}
		l.begin(len(p.Rows))
		for _, row := range p.Rows {
			l.keep(row.ID, row.Status, time.Time{})
		}
		return nil
	}}
}

func (l *closedList) begin(rows int) { l.page, l.full = nil, rows >= pageSize }

// keep takes a row. What isn't closed, or has no id that we could read, is nothing
// that was asked for.
func (l *closedList) keep(id, status string, at time.Time) {
	if session, err := settlement.ParseSessionID(id); err == nil && status == "closed" {
		l.page = append(l.page, ClosedSession{session, at})
	}
}
