package ledger

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"settled/settlement"
)

// Foreign is a message on the ledger's subjects that is not an entry of this ledger:
// either its bytes are not an entry, or it is not on its session's hash chain. Nothing is
// decided from it; the next append only has to come after it.
type Foreign struct {
	Session  settlement.SessionID // as in its subject; empty where that has none
	Subject  string
	Sequence uint64
	Err      error // why it is not an entry
}

func (f Foreign) Error() string {
	return fmt.Sprintf("message %d on %.200q is not an entry of this ledger and is ignored: %s", f.Sequence, f.Subject, f.Err)
}

// reportForeign calls Config.ForeignFunc.
func (l *Ledger) reportForeign(id settlement.SessionID, s Stored, why error) {
	if l.cfg.ForeignFunc != nil {
		l.cfg.ForeignFunc(Foreign{Session: id, Subject: s.Subject, Sequence: s.Sequence, Err: why})
	}
}

// checkLink decides whether a message is the entry that follows n entries of its session,
// the last of which has the given digest. foreign says why it is not; nil: it is.
//
// err means that this can't be decided. An entry with a higher number than expected is
// foreign only if the stream has no gaps; otherwise the entries before it may be missing.
// A message that continues the chain, but can't be read, may be an entry that a newer
// version wrote. A session must not be settled by guesswork.
func checkLink(s Stored, n uint64, digest string, gaps func() (bool, error)) (foreign, err error) {
	if s.Err != nil {
		if claimsToFollow(s, n, digest) {
			return nil, fmt.Errorf("it continues the session's chain and can't be read (%w): if a newer version of settled wrote it, run that version; otherwise run settled ledger verify", s.Err)
		}
		return s.Err, nil
	}
	switch e := s.Entry; {
	case e.N == n+1 && *e.Previous == digest:
		return nil, nil
	case e.N <= n:
		return fmt.Errorf("by its id it is entry number %d of its session, and %d entries come before it: it is a copy or a forgery", e.N, n), nil
	}
	foreign = fmt.Errorf("by its id it is entry number %d of its session, and it does not carry the hash of entry number %d before it", s.Entry.N, n)
	missing, err := gaps()
	switch {
	case err != nil:
		return nil, fmt.Errorf("it is not known whether entries are missing: %w", err)
	case missing:
		return nil, fmt.Errorf("%w; messages are missing from the stream, and entries of this session may be among them: restore the stream from a backup, and run settled ledger verify", foreign)
	}
	return foreign, nil
}

// claimsToFollow reports whether a message has the envelope and the previous hash of the
// next entry of its session. It is then that entry, or one that can't be read: an entry that
// can be read is decoded from these members, and by stricter rules.
func claimsToFollow(s Stored, n uint64, digest string) bool {
	prefix, state, id, err := splitSubject(s.Subject)
	if err != nil || id == "" {
		return false
	}
	var v struct {
		ID      string `json:"id"`
		Source  string `json:"source"`
		Type    string `json:"type"`
		Subject string `json:"subject"`
		Data    struct {
			Previous *string `json:"previous"`
		} `json:"data"`
	}
	next := entryID(settlement.Entry{Session: id, N: n + 1})
	return json.Unmarshal(s.Payload, &v) == nil && v.Source == source(prefix) && v.ID == next &&
		v.Type == subjectKind+"."+string(state) && v.Subject == id.Token() && v.Data.Previous != nil && *v.Data.Previous == digest
}

// Source is the part of Stream that reads.
type Source interface {
	Get(ctx context.Context, filter string, from uint64) (Message, error)
	Gaps(ctx context.Context) (bool, error)
}

// Coverage says which messages of the ledger a Classifier receives, always in order.
type Coverage int

const (
	// AllMessages is every message from the ledger's first one on.
	AllMessages Coverage = iota
	// LaterMessages is every message from some later one on. The earlier messages of a
	// session are read from the stream when the session is first met.
	LaterMessages
	// SomeMessages leaves out messages of a session. Those are read from the stream.
	SomeMessages
)

const (
	// maxFollowed bounds the sessions that are remembered while the ledger is followed. A
	// session that was dropped is read again when it is met.
	maxFollowed = 1 << 17
	// unknownSearch is the number of sequences before an entry of an unknown session in
	// which copies of it are searched for, if not all messages are received.
	unknownSearch = 100_000
	// gapsAge is how long the answer that no messages are missing is used.
	gapsAge = time.Second
	// sessionReaders is the number of sessions that Prepare reads concurrently.
	sessionReaders = 64
)

// Classifier distinguishes entries from foreign messages while the ledger is read in order.
// It remembers about fifty bytes for each session. It is not safe for concurrent use.
type Classifier struct {
	src      Source
	coverage Coverage
	skim     bool // decode no message that continues the chain of its session
	most     int  // bound on the remembered sessions; 0: none

	sessions map[[16]byte]chainPosition
	unknown  payloadSet
	next     uint64 // entries of unknown sessions below this sequence were read; 0: none was met

	mu        sync.Mutex // protects what follows
	missing   bool       // messages are missing from the stream
	checkedAt time.Time
}

// chainPosition is the position up to which a session's chain was read.
type chainPosition struct {
	n      uint64 // number of entries
	next   uint64 // all messages of the session below this sequence were read
	digest hash   // of the last entry's payload
}

// previous is the hash that the next entry carries.
func (p chainPosition) previous() string {
	if p.n == 0 {
		return ""
	}
	return hex.EncodeToString(p.digest[:])
}

// payloadSet holds the entries of unknown sessions that were read. They are on no chain:
// one is foreign if the same bytes are stored before it.
type payloadSet map[[16]byte]struct{}

// add adds a payload, and reports whether the set had it already.
func (c payloadSet) add(payload []byte) (duplicate bool) {
	key := keyOf(payload)
	_, duplicate = c[key]
	c[key] = struct{}{}
	return duplicate
}

var errCopy = errors.New("the same bytes are stored before it: a copy")

func keyOf(text []byte) [16]byte {
	sum := sha256.Sum256(text)
	return [16]byte(sum[:16])
}

// NewClassifier returns a classifier for one reading of the ledger.
func NewClassifier(src Source, coverage Coverage) *Classifier {
	return &Classifier{src: src, coverage: coverage, sessions: map[[16]byte]chainPosition{}, unknown: payloadSet{}}
}

// decode decodes a message, unless that can wait.
func (c *Classifier) decode(m Message) Stored {
	if c.skim {
		return Stored{Message: m, skimmed: true}
	}
	return parse(m)
}

// Classify decides whether the next message is an entry. Of a foreign one it sets Foreign
// and Err, and clears Entry. An entry before which entries are missing from the stream
// counts as an entry; Verify reports it. An error is one of reading the stream; the message
// may then be passed again.
func (c *Classifier) Classify(ctx context.Context, s Stored) (Stored, error) {
	prefix, _, id, err := splitSubject(s.Subject)
	switch {
	case err != nil:
		return s.asForeign("", err), nil
	case id == "":
		return c.classifyUnknown(ctx, prefix, s)
	}
	key := keyOf([]byte(id))
	at, met := c.sessions[key]
	if c.coverage == SomeMessages || !met && c.coverage == LaterMessages {
		_, filter := subjects(prefix, "", id)
		if at, err = c.readSession(ctx, filter, at, s.Sequence); err != nil {
			return s, err
		}
	}
	if at, s, err = c.advance(ctx, at, s); err != nil {
		return s, err
	}
	c.remember(key, at)
	return s, nil
}

// Prepare reads from the stream what Classify needs for the next messages, many sessions
// concurrently. Without it Classify reads one session after the other.
func (c *Classifier) Prepare(ctx context.Context, next []Stored) error {
	if c.coverage == AllMessages {
		return nil
	}
	read := map[[16]byte]*chainPosition{}
	var readers errgroup.Group
	readers.SetLimit(sessionReaders)
	for _, s := range next {
		prefix, _, id, err := splitSubject(s.Subject)
		key := keyOf([]byte(id))
		at, met := c.sessions[key]
		if err != nil || id == "" || read[key] != nil || met && c.coverage == LaterMessages {
			continue
		}
		_, filter := subjects(prefix, "", id)
		read[key] = &at
		readers.Go(func() (err error) {
			at, err = c.readSession(ctx, filter, at, s.Sequence)
			return err
		})
	}
	if err := readers.Wait(); err != nil {
		return err
	}
	for key, at := range read {
		c.remember(key, *at)
	}
	return nil
}

// readSession continues a session's chain with its messages below a sequence.
func (c *Classifier) readSession(ctx context.Context, filter string, at chainPosition, below uint64) (chainPosition, error) {
	for at.next < below {
		m, err := c.src.Get(ctx, filter, max(at.next, 1))
		switch {
		case errors.Is(err, ErrNoMessage):
			return at, nil
		case err != nil:
			return at, err
		case m.Sequence >= below:
			at.next = m.Sequence
			return at, nil
		}
		if at, _, err = c.advance(ctx, at, c.decode(m)); err != nil {
			return at, err
		}
	}
	return at, nil
}

// advance checks the session's next message against its chain so far.
func (c *Classifier) advance(ctx context.Context, at chainPosition, s Stored) (chainPosition, Stored, error) {
	if s.skimmed {
		if claimsToFollow(s, at.n, at.previous()) {
			return chainPosition{n: at.n + 1, next: s.Sequence + 1, digest: sha256.Sum256(s.Payload)}, s, nil
		}
		s = parse(s.Message)
	}
	var readErr error
	foreign, undecided := checkLink(s, at.n, at.previous(), func() (missing bool, err error) {
		missing, readErr = c.gaps(ctx)
		return missing, readErr
	})
	if readErr != nil {
		return at, s, readErr
	}
	at.next = s.Sequence + 1
	switch {
	case foreign != nil && undecided == nil:
		_, _, id, _ := splitSubject(s.Subject)
		return at, s.asForeign(id, foreign), nil
	case s.Err != nil: // an entry that can't be read continues the chain
		at.n++
	default:
		at.n = s.Entry.N
	}
	at.digest = sha256.Sum256(s.Payload)
	return at, s, nil
}

// remember stores the position of a session. If there are too many, it drops any other.
func (c *Classifier) remember(key [16]byte, at chainPosition) {
	c.sessions[key] = at
	for other := range c.sessions {
		if c.most == 0 || len(c.sessions) <= c.most {
			return
		}
		if other != key {
			delete(c.sessions, other)
			c.coverage = max(c.coverage, LaterMessages)
		}
	}
}

// classifyUnknown is Classify for an entry of an unknown session.
func (c *Classifier) classifyUnknown(ctx context.Context, prefix string, s Stored) (Stored, error) {
	if s.skimmed {
		s = parse(s.Message)
	}
	if s.Err != nil {
		return s.asForeign("", s.Err), nil
	}
	if c.coverage == SomeMessages || c.coverage == LaterMessages && c.next == 0 {
		c.next = max(c.next, s.Sequence-min(s.Sequence, unknownSearch), 1)
		_, filter := subjects(prefix, "", "")
		for c.next < s.Sequence {
			m, err := c.src.Get(ctx, filter, c.next)
			if errors.Is(err, ErrNoMessage) || err == nil && m.Sequence >= s.Sequence {
				break
			}
			if err != nil {
				return s, err
			}
			c.unknown.add(m.Payload)
			c.next = m.Sequence + 1
		}
	}
	c.next = s.Sequence + 1
	if c.unknown.add(s.Payload) {
		return s.asForeign("", errCopy), nil
	}
	for other := range c.unknown {
		if c.most == 0 || len(c.unknown) <= c.most {
			break
		}
		delete(c.unknown, other)
	}
	return s, nil
}

// gaps reports whether messages are missing from the stream.
func (c *Classifier) gaps(ctx context.Context) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.missing || time.Since(c.checkedAt) < gapsAge {
		return c.missing, nil
	}
	missing, err := c.src.Gaps(ctx)
	if err != nil {
		return false, err
	}
	c.missing, c.checkedAt = missing, time.Now()
	return missing, nil
}
