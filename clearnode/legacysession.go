package clearnode

import (
	"context"
	"errors"
	"fmt"
	"time"

	"settled/settlement"
)

// maxLegacyEvidence is how long a list of sessions may be to be kept as evidence:
// the entry that holds it must fit into one message of NATS (1 MiB).
const maxLegacyEvidence = 256 << 10

// errSignedOut: before sign-in this generation answers nothing.
var errSignedOut = errors.New("the connection is not signed in")

// session looks once, or twice where one look could mislead.
func (l *legacy) session(ctx context.Context, c *conn, id settlement.SessionID, options settlement.ReadOptions) (settlement.Session, error) {
	if !l.client.pool.signedIn(c) {
		return settlement.Session{}, notSent("get_app_sessions", errSignedOut)
	}
	r := legacyReading{l: l, conn: c, id: id}
	s, err := r.session(ctx, options)
	var said *nodeError
	if errors.As(err, &said) && isLegacyStale(said.text) {
		_ = l.ping(ctx, c) // the node's clock was set forward: the next read knows it
	}
	return s, err
}

// legacyReading is one read of a session, on one connection.
type legacyReading struct {
	l    *legacy
	conn *conn
	id   settlement.SessionID
}

func (r *legacyReading) session(ctx context.Context, options settlement.ReadOptions) (settlement.Session, error) {
	first, err := r.glance(ctx)
	if errors.Is(err, errAbsent) {
		return first.Session, r.confirmAbsent(ctx)
	}
	if err != nil || !options.InDoubt {
		return first.Session, err
	}
	second, err := r.glance(ctx)
	if err != nil && !first.Open {
		return first.Session, nil // what is closed stays so
	}
	if err != nil {
		return second.Session, fmt.Errorf("second look: %w", err)
	}
	quick := r.l.client.cfg.FenceMargin / 4
	second.ConfirmedStable = second.Open == first.Open && first.took <= quick && second.took <= quick
	return second.Session, nil
}

// legacySight is a look in the making.
type legacySight struct {
	definition definition
	decimals   map[settlement.Asset]int32
	list       page
	listing    answer // that held the list
}

// glance looks once. The open sessions are asked for first: a session that isn't
// among them and is among the closed ones, asked for after them, is closed.
func (r *legacyReading) glance(ctx context.Context) (glimpse, error) {
	began := time.Now()
	var seen legacySight
	if err := r.define(ctx, &seen.definition); err != nil {
		return glimpse{}, err
	}
	at, err := r.find(ctx, &seen)
	if err != nil {
		return glimpse{}, err
	}
	d := seen.definition
	d.version = at.Version // it says when the session was made, and never changes
	r.l.shelf.keep(r.id, d)
	s := settlement.Session{
		ID: r.id, Open: at.Status == "open", Version: at.Version, Participants: d.participants, Quorum: d.quorum, Protocol: d.protocol,
		Decimals: seen.decimals, Undisclosed: settlement.Undisclosed{Balance: true, Funding: true, Payouts: true},
	}
	if err := r.bound(ctx, &seen.listing); err != nil {
		return glimpse{}, err
	}
	s.Evidence = r.l.client.evidence(seen.listing, protocolLegacy)
	return glimpse{s, time.Since(began)}, nil
}

// find looks for the session in the lists of one participant. They have no pages:
// they are whole, and long, which is why it isn't us who is asked about where there
// is anybody else.
func (r *legacyReading) find(ctx context.Context, seen *legacySight) (*listed, error) {
	participant := r.l.lists.shortest(seen.definition.others(r.spelling(seen.definition)))
	length := 0
	for _, status := range []string{"open", "closed"} {
		qs := []question{r.askSessions(participant, status, seen)}
		if seen.decimals == nil {
			qs = append(qs, r.askAssets(&seen.decimals))
		}
		if err := r.conn.questions(ctx, qs...); err != nil {
			return nil, err
		}
		length += len(seen.listing.response)
		at := seen.list.find(r.id)
		if at != nil && at.Status != status {
			return nil, fmt.Errorf("get_app_sessions: the session's status is %s among those that are %s", quote(at.Status), status)
		}
		if at != nil {
			r.l.lists.were(participant, length)
			return at, nil
		}
	}
	return nil, fmt.Errorf("it is in no list of sessions of %s, open or closed: looking again later", participant)
}

func (r *legacyReading) spelling(d definition) string {
	own, _ := d.spelled(r.l.client.own())
	return own
}

// define finds the definition. errAbsent: the node has none.
func (r *legacyReading) define(ctx context.Context, into *definition) error {
	d, known := r.l.shelf.definition(r.id)
	if known {
		*into = d
		return nil
	}
	return r.conn.questions(ctx, r.askDefinition(into, nil))
}

// bound puts a shorter answer, of the session's definition, in place of a list that
// is too long to be kept.
func (r *legacyReading) bound(ctx context.Context, a *answer) error {
	if len(a.response) <= maxLegacyEvidence {
		return nil
	}
	var d definition
	return r.conn.questions(ctx, r.askDefinition(&d, a))
}

// confirmAbsent looks a second time for a session that seemed not to be there,
// between two reads that show that the node's database answers.
func (r *legacyReading) confirmAbsent(ctx context.Context) error {
	if err := pause(ctx, r.l.client.pace.secondLook); err != nil {
		return err
	}
	var assets map[settlement.Asset]int32
	var d definition
	absent := false
	ask := r.askDefinition(&d, nil)
	read := ask.read
	ask.read = func(a answer) error {
		err := read(a)
		if absent = errors.Is(err, errAbsent); absent {
			return nil
		}
		return err
	}
	if err := r.conn.questions(ctx, r.askAssets(&assets), ask, r.askAssets(&assets)); err != nil {
		return fmt.Errorf("second look: %w", err)
	}
	if !absent {
		return errors.New("the node did not know it at first, and then did: looking again later")
	}
	return settlement.ErrSessionNotFound
}
