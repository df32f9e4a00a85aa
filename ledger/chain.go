package ledger

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

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

// Source is the part of Stream that reads.
type Source interface {
	Get(ctx context.Context, filter string, from uint64) (Message, error)
	Gaps(ctx context.Context) (bool, error)
}

// Passed says which messages of the ledger a Chains gets, always in their order.
type Passed int

const (
	// Whole is every message, from the ledger's first one on.
	Whole Passed = iota
	// Later is every message from some later one on. What is before it of a session is
	// read from the stream once the session is met.
	Later
	// Chosen is some of the messages. What is between those of a session is read from
	// the stream.
	Chosen
)

const (
	// mostFollowed bounds the sessions that are remembered while the ledger is followed
	// without end. One that was dropped is read again when it is met.
	mostFollowed = 1 << 17
	// mostUnknown is how many sequences before an entry of an unknown session copies of
	// it are searched for, where the ledger is not read from its first message.
	mostUnknown = 100_000
	// gapsAge is how long the answer that no messages are missing is used.
	gapsAge = time.Second
)

// Chains tells entries from foreign messages while the ledger is read in order. It
// remembers some fifty bytes of each session. It is not for concurrent use.
type Chains struct {
	src    Source
	passed Passed
	most   int // sessions remembered; 0: all

	sessions map[[16]byte]place
	unknown  copies
	next     uint64 // entries of unknown sessions below this sequence were read; 0: none was met

	mu      sync.Mutex // of what follows
	missing bool       // messages are missing from the stream
	asked   time.Time
}

// place is how far a session's chain was read.
type place struct {
	n      uint64 // entries
	next   uint64 // all messages of the session below this sequence were read
	digest hash   // of the last entry's payload
}

// copies are the entries of unknown sessions that were read. They are on no chain: one is
// foreign if the same bytes are stored before it.
type copies map[[16]byte]struct{}

// again reports whether these bytes were read before, and remembers them.
func (c copies) again(payload []byte) bool {
	key := keyOf(payload)
	_, again := c[key]
	c[key] = struct{}{}
	return again
}

var errCopy = errors.New("the same bytes are stored before it: a copy")

// NewChains begins a reading of the ledger.
func NewChains(src Source, passed Passed) *Chains {
	return &Chains{src: src, passed: passed, sessions: map[[16]byte]place{}, unknown: copies{}}
}

// Classify says of the next message whether it is an entry. Of a foreign one it sets
// Foreign and Err, and clears Entry. An entry before which entries are missing from the
// stream counts as one: Verify reports it. An error is one of reading the stream; the
// message may then be passed again.
func (c *Chains) Classify(ctx context.Context, s Stored) (Stored, error) {
	prefix, _, id, err := splitSubject(s.Subject)
	switch {
	case err != nil:
		return s.foreign("", err), nil
	case id == "":
		return c.ofUnknown(ctx, prefix, s)
	}
	key := keyOf([]byte(id))
	at, met := c.sessions[key]
	if c.passed == Chosen || !met && c.passed == Later {
		_, filter := subjects(prefix, "", id)
		if at, err = c.read(ctx, filter, at, s.Sequence); err != nil {
			return s, err
		}
	}
	if at, s, err = c.step(ctx, at, s); err != nil {
		return s, err
	}
	c.put(key, at)
	return s, nil
}

// Prepare reads from the stream what Classify needs for the next messages, many sessions
// at once. Without it Classify does so, one session after another.
func (c *Chains) Prepare(ctx context.Context, next []Stored) error {
	type reading struct {
		filter string
		below  uint64
		at     place
		err    error
	}
	wanted := map[[16]byte]*reading{}
	for _, s := range next {
		prefix, _, id, err := splitSubject(s.Subject)
		if err != nil || id == "" || c.passed == Whole {
			continue
		}
		key := keyOf([]byte(id))
		at, met := c.sessions[key]
		if wanted[key] == nil && !(met && c.passed == Later) {
			_, filter := subjects(prefix, "", id)
			wanted[key] = &reading{filter: filter, below: s.Sequence, at: at}
		}
	}
	var readers sync.WaitGroup
	free := make(chan struct{}, readersOfAll)
	for _, r := range wanted {
		free <- struct{}{}
		readers.Go(func() {
			defer func() { <-free }()
			r.at, r.err = c.read(ctx, r.filter, r.at, r.below)
		})
	}
	readers.Wait()
	for key, r := range wanted {
		if r.err != nil {
			return r.err
		}
		c.put(key, r.at)
	}
	return nil
}

// read continues a session's chain by reading its messages below a sequence.
func (c *Chains) read(ctx context.Context, filter string, at place, below uint64) (place, error) {
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
		if at, _, err = c.step(ctx, at, read(m)); err != nil {
			return at, err
		}
	}
	return at, nil
}

// step holds the session's next message to its chain so far.
func (c *Chains) step(ctx context.Context, at place, s Stored) (place, Stored, error) {
	var failed error
	why, doubt := outside(s, at.n, at.previous(), func() (missing bool, err error) {
		missing, failed = c.gaps(ctx)
		return missing, failed
	})
	if failed != nil {
		return at, s, failed
	}
	at.next = s.Sequence + 1
	switch {
	case why != nil && doubt == nil:
		_, _, id, _ := splitSubject(s.Subject)
		return at, s.foreign(id, why), nil
	case s.Err != nil: // an entry all the same: it continues the chain
		at.n++
	default:
		at.n = s.Entry.N
	}
	at.digest = sha256.Sum256(s.Payload)
	return at, s, nil
}

// put remembers how far a session was read. Where there are too many, any other is
// forgotten.
func (c *Chains) put(key [16]byte, at place) {
	c.sessions[key] = at
	for other := range c.sessions {
		if c.most == 0 || len(c.sessions) <= c.most {
			return
		}
		if other != key {
			delete(c.sessions, other)
			c.passed = max(c.passed, Later)
		}
	}
}

// ofUnknown is Classify for an entry of an unknown session.
func (c *Chains) ofUnknown(ctx context.Context, prefix string, s Stored) (Stored, error) {
	if s.Err != nil {
		return s.foreign("", s.Err), nil
	}
	if c.passed == Chosen || c.passed == Later && c.next == 0 {
		c.next = max(c.next, s.Sequence-min(s.Sequence, mostUnknown), 1)
		_, filter := subjects(prefix, "", "")
		for c.next < s.Sequence {
			m, err := c.src.Get(ctx, filter, c.next)
			if errors.Is(err, ErrNoMessage) || err == nil && m.Sequence >= s.Sequence {
				break
			}
			if err != nil {
				return s, err
			}
			c.unknown.again(m.Payload)
			c.next = m.Sequence + 1
		}
	}
	c.next = s.Sequence + 1
	if c.unknown.again(s.Payload) {
		return s.foreign("", errCopy), nil
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
func (c *Chains) gaps(ctx context.Context) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.missing || time.Since(c.asked) < gapsAge {
		return c.missing, nil
	}
	missing, err := c.src.Gaps(ctx)
	if err != nil {
		return false, err
	}
	c.missing, c.asked = missing, time.Now()
	return missing, nil
}

func keyOf(text []byte) [16]byte {
	sum := sha256.Sum256(text)
	return [16]byte(sum[:16])
}

// previous is what the next entry carries.
func (p place) previous() string {
	if p.n == 0 {
		return ""
	}
	return hex.EncodeToString(p.digest[:])
}
