package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"settled/settlement"
)

// Foreign is a message on the ledger's subjects that is not an entry of this ledger:
// its bytes are not one, or it is not on its session's hash chain. Nothing is decided
// from it; only the next append has to come after it.
type Foreign struct {
	Session  settlement.SessionID // that its subject names; empty where it names none
	Subject  string
	Sequence uint64
	Err      error // why it is not an entry
}

func (f Foreign) Error() string {
	return fmt.Sprintf("message %d on %.200q is not an entry of this ledger and is ignored: %s", f.Sequence, f.Subject, f.Err)
}

// foreign reports a foreign message to Config.ForeignFunc.
func (l *Ledger) foreign(id settlement.SessionID, s Stored, why error) {
	if l.cfg.ForeignFunc != nil {
		l.cfg.ForeignFunc(Foreign{Session: id, Subject: s.Subject, Sequence: s.Sequence, Err: why})
	}
}

// head reads a session's head. A session without foreign messages costs one read for
// each of its messages; only where the messages are not one chain are they classified
// one by one.
func (l *Ledger) head(ctx context.Context, id settlement.SessionID) (settlement.Head, error) {
	_, filter := subjects(l.cfg.Prefix, "", id)
	last, err := l.get(ctx, filter, 0)
	if errors.Is(err, ErrNoMessage) {
		return settlement.Head{Session: id}, nil
	}
	if err != nil {
		return settlement.Head{}, err
	}
	s := read(last)
	if s.Err != nil {
		return l.scan(ctx, id, last)
	}
	head := settlement.Head{Session: id, Last: &s.Entry, Digest: digest(last.Payload)}
	head.Entries, err = l.chained(ctx, head)
	if err == nil {
		var next Message
		if next, err = l.get(ctx, filter, before(head.Entries)+1); err == nil && next.Sequence == last.Sequence {
			return head, nil
		}
	}
	if err == nil || errors.Is(err, errBroken) {
		return l.scan(ctx, id, last)
	}
	return settlement.Head{}, err
}

// before is the sequence of the entry before the last; 0 without one. A copy of an
// earlier entry fits the chain up to its original: it shows by what stands in between.
func before(entries []settlement.Entry) uint64 {
	if len(entries) < 2 {
		return 0
	}
	return entries[len(entries)-2].Sequence
}

// scanned is the history of a head among whose messages are foreign ones.
func (l *Ledger) scanned(ctx context.Context, head settlement.Head, broken error) ([]settlement.Entry, error) {
	whole, err := l.head(ctx, head.Session)
	if err != nil {
		return nil, err
	}
	n := head.N()
	if n > whole.N() || whole.Entries[n-1].Sequence != head.Sequence() {
		return nil, broken
	}
	return whole.Entries[:n:n], nil
}

// scan classifies the messages of a session up to its last, and continues from an
// earlier scan where that is still right.
func (l *Ledger) scan(ctx context.Context, id settlement.SessionID, last Message) (settlement.Head, error) {
	_, filter := subjects(l.cfg.Prefix, "", id)
	c, err := l.continued(ctx, filter, id, last)
	if err != nil {
		return settlement.Head{}, err
	}
	defer func() { l.scans.put(c) }() // also of a part: the next scan continues from there
	for c.tail.Sequence < last.Sequence {
		m, err := l.get(ctx, filter, c.tail.Sequence+1)
		if errors.Is(err, ErrNoMessage) || err == nil && m.Sequence > last.Sequence {
			return settlement.Head{}, errors.New("messages vanished while they were read")
		}
		if err != nil {
			return settlement.Head{}, err
		}
		if c, err = l.classify(ctx, c, m); err != nil {
			return settlement.Head{}, err
		}
	}
	return c.head(), nil
}

// continued is the earlier scan of a session, where the stream still has the message
// at which that ended; otherwise a new one.
func (l *Ledger) continued(ctx context.Context, filter string, id settlement.SessionID, last Message) (scan, error) {
	begin := scan{session: id, epoch: l.mark.now().epoch}
	c, found := l.scans.get(id)
	if !found || c.epoch != begin.epoch || c.tail.Sequence > last.Sequence {
		return begin, nil
	}
	if c.tail.Sequence < last.Sequence {
		var err error
		if last, err = l.get(ctx, filter, c.tail.Sequence); err != nil {
			return scan{}, err
		}
	}
	if last.Sequence != c.tail.Sequence || digest(last.Payload) != c.tail.digest {
		return begin, nil
	}
	c.entries = slices.Clip(c.entries) // the kept scan shares them
	return c, nil
}

// scan is what is known of a session's messages up to one of them.
type scan struct {
	session settlement.SessionID
	entries []settlement.Entry // the chain
	digest  string             // of the last entry's payload
	tail    mark               // the last message, an entry or not
	epoch   uint64             // of the stream, as the watermark counts: after a loss nothing kept is used
}

// mark is a message by its place and its bytes.
type mark struct {
	Sequence uint64
	digest   string
}

func (c scan) head() settlement.Head {
	h := settlement.Head{Session: c.session, Digest: c.digest, Tail: c.tail.Sequence}
	if n := len(c.entries); n > 0 {
		h.Last, h.Entries = &c.entries[n-1], c.entries[:n:n]
	}
	return h
}

// classify takes the next message of a session: on the chain, or foreign. An error
// means that it may be an entry whose place or content can't be known, and then
// nothing may be decided of the session.
func (l *Ledger) classify(ctx context.Context, c scan, m Message) (scan, error) {
	s := read(m)
	why, err := outside(s, uint64(len(c.entries)), c.digest, func() (bool, error) { return l.stream.Gaps(ctx) })
	if err != nil {
		return c, fmt.Errorf("message %d: %w", m.Sequence, err)
	}
	c.tail = mark{m.Sequence, digest(m.Payload)}
	if why != nil {
		l.foreign(c.session, s, why)
		return c, nil
	}
	c.entries, c.digest = append(c.entries, light(s.Entry)), c.tail.digest
	return c, nil
}

// outside says why a message is not the entry that follows on n entries, the last of
// which has this digest; nil where it is.
//
// An entry that says it stands further on is foreign only where the stream has no
// gaps: otherwise those before it may be what is missing. So is one that fits the
// chain, and has something that this program can't read: a newer one may have
// written it. Either is an error, for a session must not be settled by guesswork.
func outside(s Stored, n uint64, last string, gaps func() (bool, error)) (why, err error) {
	if s.Err != nil {
		if claims(s, n, last) {
			return nil, fmt.Errorf("it continues the session's chain and can't be read (%w): if a newer version of settled wrote it, run that version; otherwise run settled ledger verify", s.Err)
		}
		return s.Err, nil
	}
	switch e := s.Entry; {
	case e.N == n+1 && *e.Previous == last:
		return nil, nil
	case e.N <= n:
		return fmt.Errorf("it says it is entry number %d of its session, and %d stand before it: a copy, or a forgery", e.N, n), nil
	}
	why = fmt.Errorf("it says it is entry number %d of its session, and does not carry the hash of entry number %d before it", s.Entry.N, n)
	missing, err := gaps()
	switch {
	case err != nil:
		return nil, fmt.Errorf("whether entries are missing: %w", err)
	case missing:
		return nil, fmt.Errorf("%w; messages are missing from the stream, and entries of this session may be among them: bring the stream back from a copy, and run settled ledger verify", why)
	}
	return why, nil
}

// claims reports whether the bytes of a message that can't be read as an entry say that
// it is the next entry of its session's chain.
func claims(s Stored, n uint64, last string) bool {
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
		v.Type == kind+"."+string(state) && v.Subject == id.Token() && v.Data.Previous != nil && *v.Data.Previous == last
}

// mostScans bounds of how many sessions with foreign messages the scan is kept.
const mostScans = 1024

// scans are the sessions with foreign messages that were scanned, so that many of
// them are not read again for each head.
type scans struct {
	mu sync.Mutex
	of map[settlement.SessionID]scan
}

func (s *scans) get(id settlement.SessionID) (scan, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, found := s.of[id]
	return c, found
}

// put keeps a scan. Where there are too many, any other is dropped.
func (s *scans) put(c scan) {
	if c.tail.Sequence == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of == nil {
		s.of = map[settlement.SessionID]scan{}
	}
	s.of[c.session] = c
	for id := range s.of {
		if len(s.of) <= mostScans {
			return
		}
		delete(s.of, id)
	}
}
