package clearnode

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"settled/clearnode/internal/protocol"
	"settled/settlement"
)

// readWeight is the load of a read when the least loaded connection is selected: as many
// requests as it usually sends at once.
const readWeight = 3

// closeWeight is the load of a close. A node handles the requests of one connection one after
// the other, and a close takes as long as several reads: these select another connection.
const closeWeight = 4 * readWeight

// Session reads the session at the node, on one connection. "Not found"
// (settlement.ErrSessionNotFound) and a session with nothing in it are answered only when a
// second read, a second later, shows the same. A *settlement.Failure inside the error means
// that the session's definition, which never changes, can never be read. Any other error
// means that nothing is known. One with a *settlement.Waiting of ReadFailed inside says that
// the node answered, and this session could not be read. Others say that there was no
// connection, no answer (ErrNotSent, ErrNoAnswer) or no time.
func (c *Client) Session(ctx context.Context, id settlement.SessionID, options settlement.ReadOptions) (s settlement.Session, err error) {
	err = c.onConn(ctx, readWeight, func(k *conn) error {
		if _, known := k.clock.lowerBound(time.Now()); !known {
			if err := k.dialect.Ping(ctx, k); err != nil {
				return err
			}
		}
		began := time.Now()
		asOf, _ := c.clocks.lowerBound(began)
		if s, err = k.dialect.ReadSession(ctx, k, id, options); err != nil {
			return readError(ctx, err)
		}
		// An answer of this read may have shown that the node's clock was set back, and that
		// it was earlier when the read began than was assumed.
		if corrected, _ := c.clocks.lowerBound(began); corrected.Before(asOf) {
			asOf = corrected
		}
		s.AsOf, s.QuorumNeedsUs = asOf.Add(-stampStep), c.isNeeded(s)
		c.completeEvidence(&s.Evidence)
		return nil
	})
	if err != nil {
		return settlement.Session{}, fmt.Errorf("session %s: %w", id.Token(), err)
	}
	return s, nil
}

// onConn runs a read on the least loaded connection.
func (c *Client) onConn(ctx context.Context, weight int, read func(*conn) error) error {
	k, err := c.pool.lease(ctx, false, weight)
	if err != nil {
		return err
	}
	defer c.pool.release(k, weight)
	return read(k)
}

// readError marks errors that are about the session, other than those of the connection
// and those that are answers.
func readError(ctx context.Context, err error) error {
	var failure *settlement.Failure
	switch {
	case err == nil, errors.Is(err, ErrNotSent), errors.Is(err, ErrNoAnswer), ctx.Err() != nil,
		errors.Is(err, settlement.ErrSessionNotFound), errors.As(err, &failure):
		return err
	}
	return &settlement.Waiting{Reason: settlement.ReadFailed, Err: err}
}

// Stored is nil where the node finds a session that it has, as Session showed before. It is
// one request, by the session's id, and shows whether the node's database answers. Errors:
// as of Session, without ErrSessionNotFound.
func (c *Client) Stored(ctx context.Context, id settlement.SessionID) error {
	err := c.onConn(ctx, 1, func(k *conn) error { return readError(ctx, k.dialect.ReadDefinition(ctx, k, id)) })
	if err != nil {
		return fmt.Errorf("session %s: %w", id.Token(), err)
	}
	return nil
}

// Assets are the assets that the node lists now, in order; none where it lists none, as a
// legacy node does that knows no chain. An error means that they are not known.
func (c *Client) Assets(ctx context.Context) (assets []settlement.Asset, err error) {
	err = c.onConn(ctx, readWeight, func(k *conn) error {
		assets, err = k.dialect.ReadAssets(ctx, k)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("the node's assets: %w", err)
	}
	return assets, nil
}

// ErrUnlisted says that this generation of node has no list of sessions that can be read in
// pages.
var ErrUnlisted = errors.New("this generation of node lists all sessions of an account at once, which could be any number")

// listOverlap is how many rows of a page the next one shows again: a session that is closed
// between two reads moves all others on, which shows some twice, and one that leaves the list
// moves them back, which could hide some.
const listOverlap = 10

// ClosedSession is a session in a list of those that the node shows closed.
type ClosedSession struct {
	ID settlement.SessionID
	At time.Time // when it was closed, by the node's clock, in whole seconds; zero: the node doesn't say
}

// ClosedList pages through the sessions of an account that the node shows closed.
type ClosedList struct {
	client  *Client
	account settlement.Address
	since   time.Time
	lists   []*closedList // nil before the first page
}

// closedList is one of the node's lists that a ClosedList reads.
type closedList struct {
	participant string
	offset      int
	ended       bool
	page        []protocol.ClosedSession
}

// ClosedSessions lists the sessions in which an account takes part, under its EIP-55
// spelling or in lower case, that the node shows closed: at NitroRPC 0.2 and 0.4 the one
// closed last first, up to those closed before since; at nitronode v1, which doesn't say
// when, the one opened last first, up to the end, whatever since is. Nothing is read yet.
func (c *Client) ClosedSessions(account settlement.Address, since time.Time) *ClosedList {
	return &ClosedList{client: c, account: account, since: since.Truncate(time.Second)}
}

// Next reads a page of each list in one round trip, and reports whether there may be more.
// Some sessions come twice. ErrUnlisted: a legacy node's lists have no pages, so that it
// isn't asked. After any other error, which are those of Client.Session, the same page can
// be read again.
func (l *ClosedList) Next(ctx context.Context) (rows []ClosedSession, more bool, err error) {
	err = l.client.onConn(ctx, len(l.lists)+1, func(k *conn) error {
		if l.lists == nil {
			spelling := l.account.String()
			l.lists = []*closedList{{participant: spelling}}
			if !k.dialect.Traits().Versioned { // NitroRPC compares spellings byte by byte
				l.lists = append(l.lists, &closedList{participant: strings.ToLower(spelling)})
			}
		}
		var questions []protocol.Question
		for _, list := range l.lists {
			if q, paged := k.dialect.ClosedSessions(list.participant, list.offset, &list.page); !paged {
				l.lists = nil
				return ErrUnlisted
			} else if !list.ended {
				questions = append(questions, q)
			}
		}
		return readError(ctx, k.AskAll(ctx, questions...))
	})
	if errors.Is(err, ErrUnlisted) {
		return nil, false, ErrUnlisted
	}
	if err != nil {
		return nil, false, fmt.Errorf("closed sessions of %s: %w", l.account, err)
	}
	for _, list := range l.lists {
		if !list.ended {
			rows = append(rows, list.takePage(l.since)...)
			more = more || !list.ended
		}
	}
	return rows, more, nil
}

// takePage returns the rows of the page that was read, and moves on to the next. It leaves
// out what isn't closed, or has no readable id.
func (l *closedList) takePage(since time.Time) (rows []ClosedSession) {
	l.ended = len(l.page) < protocol.PageSize
	for _, row := range l.page {
		id, err := settlement.ParseSessionID(row.ID)
		switch {
		case err != nil || row.Status != "closed":
		case row.At.IsZero() || !row.At.Before(since):
			rows = append(rows, ClosedSession{id, row.At})
		default:
			l.ended = true // this one and all that follow were closed earlier
		}
	}
	l.offset += protocol.PageSize - listOverlap
	return rows
}
