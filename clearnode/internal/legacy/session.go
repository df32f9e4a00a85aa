package legacy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"settled/clearnode/internal/nitrorpc"
	"settled/clearnode/internal/protocol"
	"settled/settlement"
)

// maxEvidence is how long a list of sessions may be to be kept as evidence: the entry that
// holds it must fit into one message of NATS (1 MiB).
const maxEvidence = 256 << 10

// ReadSession reads a session once, or twice where one read could mislead.
func (n *Node) ReadSession(ctx context.Context, c protocol.Conn, id settlement.SessionID, options settlement.ReadOptions) (settlement.Session, error) {
	if !c.SignedIn() {
		return settlement.Session{}, protocol.NotSent("get_app_sessions", protocol.ErrSignedOut)
	}
	r := sessionReader{n: n, conn: c, id: id}
	s, err := r.read(ctx, options)
	if isStale(protocol.NodeErrorText(err)) {
		_ = n.Ping(ctx, c) // the node's clock was set forward: the next read knows it
	}
	return s, err
}

// sessionReader reads one session, on one connection.
type sessionReader struct {
	n    *Node
	conn protocol.Conn
	id   settlement.SessionID
}

func (r *sessionReader) read(ctx context.Context, options settlement.ReadOptions) (settlement.Session, error) {
	first, err := r.readOnce(ctx)
	if errors.Is(err, protocol.ErrAbsent) {
		return first.Session, r.confirmAbsent(ctx)
	}
	if err != nil || !options.InDoubt {
		return first.Session, err
	}
	second, err := r.readOnce(ctx)
	if err != nil && !first.Open {
		return first.Session, nil // what is closed stays closed
	}
	if err != nil {
		return second.Session, fmt.Errorf("second read: %w", err)
	}
	second.ConfirmedStable = second.Open == first.Open && r.n.settings.Quick(first.Took, second.Took)
	return second.Session, nil
}

// confirmAbsent reads a second time a session that seemed to be absent, between two reads
// that show that the node's database answers.
func (r *sessionReader) confirmAbsent(ctx context.Context) error {
	if err := protocol.Pause(ctx, r.n.settings.SecondRead); err != nil {
		return err
	}
	var assets map[settlement.Asset]int32
	absent := false
	ask := askDefinition(r.id, new(nitrorpc.Definition), new(protocol.Answer))
	read := ask.Read
	ask.Read = func(a protocol.Answer) error {
		err := read(a)
		if absent = errors.Is(err, protocol.ErrAbsent); absent {
			return nil
		}
		return err
	}
	if err := r.conn.AskAll(ctx, askAssets(&assets), ask, askAssets(&assets)); err != nil {
		return fmt.Errorf("second read: %w", err)
	}
	if !absent {
		return protocol.ErrAppeared
	}
	return settlement.ErrSessionNotFound
}

// readOnce reads the definition, and looks for the session in the lists of one participant,
// of another one than us where there is one: they are whole, and ours are long. The open
// sessions are read first: a session that isn't among them and is among the closed ones,
// read after them, is closed.
func (r *sessionReader) readOnce(ctx context.Context) (protocol.Snapshot, error) {
	began := time.Now()
	d, known := r.n.definitions.Get(r.id)
	if !known {
		if err := r.conn.AskAll(ctx, askDefinition(r.id, &d, new(protocol.Answer))); err != nil {
			return protocol.Snapshot{}, err
		}
	}
	participant := r.n.shortestList(d.Others(d.SpellingOf(r.n.settings.Account())))
	var decimals map[settlement.Asset]int32
	var evidence protocol.Answer
	var found *nitrorpc.ListedSession
	length := 0
	for _, status := range []string{"open", "closed"} {
		var list nitrorpc.SessionPage
		questions := []protocol.Question{askSessions(participant, status, &list, &evidence)}
		if decimals == nil {
			questions = append(questions, askAssets(&decimals))
		}
		if err := r.conn.AskAll(ctx, questions...); err != nil {
			return protocol.Snapshot{}, err
		}
		length += len(evidence.Response)
		if found = list.Find(r.id); found == nil {
			continue
		}
		if found.Status != status {
			return protocol.Snapshot{}, fmt.Errorf("get_app_sessions: the session's status is %s among those that are %s", protocol.Quote(found.Status), status)
		}
		break
	}
	if found == nil {
		return protocol.Snapshot{}, fmt.Errorf("it is in no list of sessions of %s, open or closed; it will be read again", participant)
	}
	r.n.mu.Lock()
	r.n.rememberLength(participant, length)
	r.n.mu.Unlock()
	d.Version = found.Version // of when the session was made; it never changes
	r.n.definitions.Add(r.id, d)
	if len(evidence.Response) > maxEvidence { // the definition's answer is shorter
		if err := r.conn.AskAll(ctx, askDefinition(r.id, new(nitrorpc.Definition), &evidence)); err != nil {
			return protocol.Snapshot{}, err
		}
	}
	return protocol.Snapshot{Took: time.Since(began), Session: settlement.Session{
		ID: r.id, Open: found.Status == "open", Version: found.Version, Participants: d.Participants, Quorum: d.Quorum, Protocol: d.Protocol,
		Decimals: decimals, Undisclosed: settlement.Undisclosed{Balance: true, Funding: true, Payouts: true},
		Evidence: protocol.Evidence(evidence, Protocol),
	}}, nil
}
