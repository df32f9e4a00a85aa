package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/nats-io/nats.go/jetstream"

	"settled/ledger/streamreader"
	"settled/settlement"
)

// Head returns the session's entries, read from the leader. Foreign messages on the
// session's subjects are skipped. Each entry carries the hash of the one before it. A
// session without entries is not an error. After an error nothing is known.
//
// The entries are without Reason and Evidence, from which nothing is decided and which may
// be most of the size of a session: anyone who may publish outcomes can add entries to a
// session without limit. Session and Walk return them.
func (l *Ledger) Head(ctx context.Context, id settlement.SessionID) (settlement.Head, error) {
	if id == "" {
		return settlement.Head{}, errors.New("ledger: entries of an unknown session have no head")
	}
	head, err := l.readHead(ctx, id)
	if err != nil {
		return settlement.Head{}, fmt.Errorf("ledger: head of %s: %w", id, err)
	}
	return head, nil
}

func (l *Ledger) readHead(ctx context.Context, id settlement.SessionID) (settlement.Head, error) {
	_, filter := subjects(l.cfg.Prefix, "", id)
	last, err := l.get(ctx, filter, 0)
	if errors.Is(err, ErrNoMessage) {
		return settlement.Head{Session: id}, nil
	}
	if err != nil {
		return settlement.Head{}, err
	}
	h, err := l.readHistory(ctx, id, messageID{last.Sequence, digest(last.Payload)})
	if err != nil {
		return settlement.Head{}, err
	}
	head := settlement.Head{Session: id, Digest: h.digest}
	if n := len(h.entries); n > 0 {
		head.Last, head.Entries = &h.entries[n-1], h.entries[:n:n]
	}
	if h.tail.sequence != head.Sequence() {
		head.Tail = h.tail.sequence
	}
	return head, nil
}

// sessionHistory is what is known of a session's messages up to one of them.
type sessionHistory struct {
	entries  []settlement.Entry // on the session's chain, without Reason and Evidence
	digest   string             // of the last entry's payload
	tail     messageID          // the last message, an entry or not
	messages int                // including foreign ones
	epoch    uint64             // of the loss detector: after a loss nothing cached is used
	weight   int                // approximate size in memory, in bytes
}

// messageID identifies a message by its place and its payload.
type messageID struct {
	sequence uint64
	digest   string
}

// readHistory reads the messages of a session up to one of them, and classifies each one.
// It continues from a cached history if the stream still has the message at its end. A
// message that may be an entry whose place or content can't be determined is an error:
// nothing may be decided of the session then.
func (l *Ledger) readHistory(ctx context.Context, id settlement.SessionID, last messageID) (sessionHistory, error) {
	_, filter := subjects(l.cfg.Prefix, "", id)
	h, err := l.cachedHistory(ctx, id, filter, last)
	if err != nil || h.tail == last {
		return h, err
	}
	h.entries = slices.Clip(h.entries) // the cached history shares them
	err = streamreader.Range(ctx, nextOf(l.get), []string{filter}, h.tail.sequence+1, last.sequence, func(m *jetstream.RawStreamMsg) error {
		s := parse(messageOf(m))
		foreign, err := checkLink(s, uint64(len(h.entries)), h.digest, func() (bool, error) { return l.stream.Gaps(ctx) })
		if err != nil {
			return fmt.Errorf("message %d: %w", s.Sequence, err)
		}
		h.tail = messageID{s.Sequence, digest(s.Payload)}
		h.messages++
		if foreign != nil {
			h.weight += entryWeight
			l.reportForeign(id, s, foreign)
			return nil
		}
		s.Entry.Reason, s.Entry.Evidence = "", nil
		h.entries, h.digest = append(h.entries, s.Entry), h.tail.digest
		h.weight += weightOf(s.Entry)
		return nil
	})
	l.histories.put(id, h) // also after an error: the next read continues from there
	if err == nil && h.tail.sequence != last.sequence {
		err = errors.New("messages vanished while they were read")
	}
	return h, err
}

// cachedHistory returns the cached history of a session up to a message, if the stream has
// not changed since; otherwise an empty one.
func (l *Ledger) cachedHistory(ctx context.Context, id settlement.SessionID, filter string, last messageID) (sessionHistory, error) {
	empty := sessionHistory{epoch: l.losses.snapshot().epoch}
	h, found := l.histories.get(id)
	if !found || h.epoch != empty.epoch {
		return empty, nil
	}
	tail := last
	if h.tail.sequence < last.sequence {
		m, err := l.get(ctx, filter, h.tail.sequence)
		if err != nil {
			return sessionHistory{}, err
		}
		tail = messageID{m.Sequence, digest(m.Payload)}
	}
	if h.tail != tail {
		l.histories.remove(id)
		return empty, nil
	}
	return h, nil
}

const (
	// minCached is the number of messages from which on a history is cached: ordinary
	// sessions have two to four.
	minCached = 9
	// maxCachedBytes bounds the size of all cached histories.
	maxCachedBytes = 64 << 20
	// entryWeight and allocationWeight are the approximate sizes without long texts.
	entryWeight, allocationWeight = 1 << 10, 1 << 8
)

// historyCache keeps the histories of sessions with many messages. A session that many
// outcomes name would otherwise be read from its first message for each of them. The cache
// is no second source of truth: the last message is always read from the leader, and the
// cached part counts only if the stream has the message at its end.
type historyCache struct {
	mu     sync.Mutex
	lru    *simplelru.LRU[settlement.SessionID, sessionHistory]
	weight int
	most   int // bound on weight
}

func newHistoryCache() *historyCache {
	c := &historyCache{most: maxCachedBytes}
	c.lru, _ = simplelru.NewLRU(maxCachedBytes/entryWeight, func(_ settlement.SessionID, h sessionHistory) { c.weight -= h.weight }) // fails only for a size below 1
	return c
}

func (c *historyCache) get(id settlement.SessionID) (sessionHistory, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lru.Get(id)
}

func (c *historyCache) remove(id settlement.SessionID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lru.Remove(id)
}

// put caches a history unless it is short. It drops the least recently used ones where all
// are too large.
func (c *historyCache) put(id settlement.SessionID, h sessionHistory) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lru.Remove(id)
	if h.messages < minCached && h.messages == len(h.entries) {
		return
	}
	c.lru.Add(id, h)
	c.weight += h.weight
	for c.weight > c.most {
		c.lru.RemoveOldest()
	}
}

// weightOf estimates how much memory an entry takes.
func weightOf(e settlement.Entry) int {
	weight := entryWeight + len(e.Outcome.Source) + len(e.Outcome.ID) + len(e.Reference) + allocationWeight*len(e.Allocation)
	if e.Error != nil {
		weight += len(e.Error.Message)
	}
	if e.Node != nil {
		weight += len(e.Node.Response)
	}
	return weight
}

// CachedBytes returns about how much memory the cached histories take, and the bound on it.
func (l *Ledger) CachedBytes() (bytes, most int) {
	l.histories.mu.Lock()
	defer l.histories.mu.Unlock()
	return l.histories.weight, l.histories.most
}
