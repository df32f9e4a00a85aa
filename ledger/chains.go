package ledger

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"sync"
	"time"
)

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
