package ledger

import (
	"cmp"
	"container/list"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"settled/settlement"
)

const (
	// readersOfOne is how many reads of one history are under way at once at most.
	readersOfOne = 16
	// entriesEach is how many entries a reader is worth starting for: ordinary
	// sessions have two to four, and are read one by one.
	entriesEach = 4
	// readersOfAll bounds the readers that all histories together have beside their
	// first: nats-server keeps 10,000 requests to JetStream waiting, and drops all
	// of them where there are more.
	readersOfAll = 64
)

// History is every entry of the session up to the head, oldest first; none for an
// empty head. It holds each entry to the hash that the next one carries, and
// answers an error where one is missing or was altered: nothing may be decided
// from an incomplete history. Long histories are read by several reads at once.
//
// The entries are without Reason and Evidence, from which nothing is decided, and
// which may be most of what a session holds: whoever publishes may add entries to
// a session without end. Session and Walk have them.
//
// Long histories are remembered: of a session read before only what was appended
// since is read, and held to what the head's hash chain says. The entries are shared
// and must not be altered.
func (l *Ledger) History(ctx context.Context, head settlement.Head) ([]settlement.Entry, error) {
	if head.Last == nil || head.Entries != nil {
		return head.Entries, nil
	}
	entries, err := l.chained(ctx, head)
	if errors.Is(err, errBroken) { // foreign messages among the entries
		entries, err = l.scanned(ctx, head, err)
	}
	if err != nil {
		return nil, fmt.Errorf("ledger: history of %s: %w", head.Session, err)
	}
	return entries, nil
}

// errBroken says that the messages before a head are not its chain.
var errBroken = errors.New("the chain is broken")

// chained reads the entries up to the head where no foreign message is among them.
// errBroken: one is, or an entry is missing or was altered.
func (l *Ledger) chained(ctx context.Context, head settlement.Head) ([]settlement.Entry, error) {
	entries, err := l.behind(ctx, head, l.memory.upTo(head))
	if errors.Is(err, errUnlike) { // the stream is another one, or was altered: what stands in it counts
		l.memory.forget(head.Session)
		entries, err = l.behind(ctx, head, remembered{session: head.Session})
	}
	return entries, err
}

// behind reads what stands behind a part of the history that is known, and returns
// all. errUnlike: it doesn't follow on what is known.
func (l *Ledger) behind(ctx context.Context, head settlement.Head, known remembered) ([]settlement.Entry, error) {
	if known.n() > 0 && known.n() == head.N() {
		if known.digest != head.Digest || known.last() != head.Sequence() {
			return nil, errUnlike
		}
		return known.entries[:known.n():known.n()], nil
	}
	links, err := l.before(ctx, head, known)
	if err != nil {
		return nil, err
	}
	links = append(links, link{Stored: Stored{Sequence: head.Sequence(), Entry: light(*head.Last)}, digest: head.Digest})
	previous := known.digest
	for i, k := range links {
		if err := follows(k.Stored, known.n()+uint64(i), previous); err != nil {
			if known.n() > 0 {
				err = errors.Join(errUnlike, err)
			}
			return nil, fmt.Errorf("%w: entry %d: %w", errBroken, k.Sequence, err)
		}
		previous = k.digest
	}
	return l.memory.add(known, links), nil
}

// link is an entry with the hash of its bytes, and without the bytes.
type link struct {
	Stored
	digest string
}

func linkOf(m Message) link {
	k := link{read(m), digest(m.Payload)}
	k.Payload, k.Entry = nil, light(k.Entry)
	return k
}

// light is an entry without what nothing is decided from.
func light(e settlement.Entry) settlement.Entry {
	e.Reason, e.Evidence = "", nil
	return e
}

// follows holds an entry to the number and the hash of the one before it.
func follows(s Stored, n uint64, previous string) error {
	switch {
	case s.Err != nil:
		return s.Err
	case s.Entry.N != n+1:
		return fmt.Errorf("it says it is the session's entry number %d, but %d stand before it; run settled ledger verify", s.Entry.N, n)
	case s.Entry.Previous == nil || *s.Entry.Previous != previous:
		return errors.New("it does not carry the hash of the entry before it; run settled ledger verify")
	}
	return nil
}

// before reads the session's entries that stand before its head and behind what is
// known, oldest first: as many as the head's number says, or fewer where there are
// no more.
func (l *Ledger) before(ctx context.Context, head settlement.Head, known remembered) ([]link, error) {
	_, filter := subjects(l.cfg.Prefix, "", head.Session)
	from, want := known.last()+1, max(head.N(), known.n()+1)-1-known.n()
	more := l.borrow(int(min(want/entriesEach, readersOfOne)) - 1) // #nosec G115 -- at most readersOfOne
	if more == 0 {
		return l.oneByOne(ctx, filter, stretch{from, head.Sequence()}, want)
	}
	links, err := l.together(ctx, filter, stretch{from, max(head.Sequence(), from)}, more)
	return links[:min(uint64(len(links)), want)], err
}

// borrow takes up to so many of the readers that histories share, if they are free.
// Each is given back when it ends.
func (l *Ledger) borrow(readers int) (got int) {
	for got < readers {
		select {
		case l.readers <- struct{}{}:
			got++
		default:
			return got
		}
	}
	return got
}

// oneByOne reads so many entries of a stretch, and not one message more.
func (l *Ledger) oneByOne(ctx context.Context, filter string, s stretch, want uint64) ([]link, error) {
	var links []link
	for from := s.from; from < s.below && uint64(len(links)) < want; {
		m, err := l.get(ctx, filter, from)
		if errors.Is(err, ErrNoMessage) || err == nil && m.Sequence >= s.below {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("entry %d of %d: %w", len(links)+1, want+1, err)
		}
		links, from = append(links, linkOf(m)), m.Sequence+1
	}
	return links, nil
}

// together reads all entries of a stretch by the caller and so many borrowed
// readers. The first error ends all.
func (l *Ledger) together(ctx context.Context, filter string, s stretch, borrowed int) ([]link, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	d := division{left: make([]stretch, borrowed+1)}
	d.left[0] = s
	found := make([][]link, borrowed+1)
	read := func(reader int) {
		var err error
		if found[reader], err = l.share(ctx, filter, &d, reader); err != nil {
			cancel(err)
		}
	}
	var readers sync.WaitGroup
	for i := range borrowed {
		readers.Go(func() {
			defer func() { <-l.readers }()
			read(i + 1)
		})
	}
	read(0)
	readers.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	links := slices.Concat(found...)
	slices.SortFunc(links, func(a, b link) int { return cmp.Compare(a.Sequence, b.Sequence) })
	return links, nil
}

// share is what one reader reads, until nothing is left that is worth dividing.
func (l *Ledger) share(ctx context.Context, filter string, d *division, reader int) ([]link, error) {
	var links []link
	for {
		from, ok := d.next(reader)
		if !ok {
			return links, nil
		}
		m, err := l.get(ctx, filter, from)
		switch {
		case errors.Is(err, ErrNoMessage):
			d.end(reader)
		case err != nil:
			return nil, fmt.Errorf("entries from %d: %w", from, err)
		case d.reached(reader, m.Sequence):
			links = append(links, linkOf(m))
		}
	}
}

// stretch is a part of the stream: from a sequence on, below another.
type stretch struct{ from, below uint64 }

func (s stretch) width() uint64 { return s.below - s.from }

// division is a stretch divided among readers while they read it. Nobody knows where
// in it the entries stand: with shares fixed beforehand, all could be in one. So who
// is done takes the further half of the widest that is left.
type division struct {
	mu   sync.Mutex
	left []stretch // to each reader; it gets shorter as it is read, and at its end as others take from it
}

// narrowest is the width from which on a stretch is left to its reader.
const narrowest = 8

// next says from where on a reader reads; ok is false where it is done.
func (d *division) next(reader int) (from uint64, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	own := &d.left[reader]
	if own.width() > 0 {
		return own.from, true
	}
	widest := own
	for i := range d.left {
		if d.left[i].width() > widest.width() {
			widest = &d.left[i]
		}
	}
	if widest.width() < narrowest {
		return 0, false
	}
	half := widest.from + widest.width()/2
	*own = stretch{half, widest.below}
	widest.below = half
	return half, true
}

// reached takes note that a reader found the next message, and says whether it is
// still its own: beyond its stretch it is for the reader there, and its own is read.
func (d *division) reached(reader int, sequence uint64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	own := &d.left[reader]
	if sequence >= own.below {
		own.from = own.below
		return false
	}
	own.from = sequence + 1
	return true
}

// end takes note that nothing stands from a reader's place on.
func (d *division) end(reader int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left[reader].from = d.left[reader].below
}

const (
	// worthIt is how many entries a history must have to be remembered: ordinary
	// sessions have two to four, which are read again in no time.
	worthIt = 9
	// mostRemembered bounds what all remembered histories weigh together, in bytes.
	mostRemembered = 64 << 20
	// entryWeight and allocationWeight are what they weigh beside their longer texts.
	entryWeight, allocationWeight = 1 << 10, 1 << 8
)

// errUnlike says that a session's entries don't follow on what was remembered of it.
var errUnlike = errors.New("the entries don't follow on those that were read before")

// memory keeps long histories that were read and held to their hashes. A session
// that many outcomes name would otherwise be read from its first entry on for each
// of them. It is no second truth: the head is always read from the leader, its
// hash chain names every byte before it, and only what that chain names is used.
type memory struct {
	mu     sync.Mutex
	of     map[settlement.SessionID]*list.Element
	order  list.List // of *remembered, the last used at the front
	weight int
	most   int // weight of all
}

// remembered is a session's history up to one of its entries. Its entries are
// shared by all who read them; more are only added behind them.
type remembered struct {
	session settlement.SessionID
	entries []settlement.Entry
	digest  string // of the last one's payload
	weight  int
}

// Remembered is about how many bytes of memory the remembered histories take, and at
// most how many.
func (l *Ledger) Remembered() (bytes, most int) {
	l.memory.mu.Lock()
	defer l.memory.mu.Unlock()
	return l.memory.weight, l.memory.most
}

// n is how many entries there are.
func (r remembered) n() uint64 { return uint64(len(r.entries)) }

// last is the sequence of the last entry; 0 without one.
func (r remembered) last() uint64 {
	if len(r.entries) == 0 {
		return 0
	}
	return r.entries[len(r.entries)-1].Sequence
}

// upTo is what is remembered before or at a head; nothing where that is more than
// the head knows of.
func (m *memory) upTo(head settlement.Head) remembered {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := m.of[head.Session]
	if at == nil {
		return remembered{session: head.Session}
	}
	r := *at.Value.(*remembered)
	if r.n() > head.N() || r.last() > head.Sequence() {
		return remembered{session: head.Session}
	}
	m.order.MoveToFront(at)
	return r
}

// add puts entries behind what upTo answered, and returns all of them. Where
// somebody else did so meanwhile, that is kept.
func (m *memory) add(known remembered, links []link) []settlement.Entry {
	r := known
	r.weight += weigh(links)
	m.mu.Lock()
	defer m.mu.Unlock()
	mayGrow := m.isLast(known)
	if !mayGrow {
		r.entries = r.entries[:known.n():known.n()]
	}
	for _, k := range links {
		r.entries, r.digest = append(r.entries, k.Entry), k.digest
	}
	if mayGrow && r.n() >= worthIt && r.weight <= m.most {
		m.keep(&r)
	}
	return r.entries[:r.n():r.n()]
}

// isLast reports whether this is what is remembered now, so that nobody else has
// put anything behind it, nor will.
func (m *memory) isLast(known remembered) bool {
	at := m.of[known.session]
	if at == nil || known.n() == 0 {
		return at == nil && known.n() == 0
	}
	now := at.Value.(*remembered)
	return now.n() == known.n() && &now.entries[0] == &known.entries[0]
}

// weigh guesses how much memory entries take.
func weigh(links []link) (weight int) {
	for _, k := range links {
		e := k.Entry
		weight += entryWeight + len(e.Outcome.Source) + len(e.Outcome.ID) + len(e.Reference) + allocationWeight*len(e.Allocation)
		if e.Error != nil {
			weight += len(e.Error.Message)
		}
		if e.Node != nil {
			weight += len(e.Node.Response)
		}
	}
	return weight
}

// keep remembers a history in place of an earlier part of it, and forgets those that
// were used the longest time ago where all are too much.
func (m *memory) keep(r *remembered) {
	m.drop(r.session)
	if m.of == nil {
		m.of = map[settlement.SessionID]*list.Element{}
	}
	m.of[r.session] = m.order.PushFront(r)
	m.weight += r.weight
	for m.weight > m.most {
		m.drop(m.order.Back().Value.(*remembered).session)
	}
}

// forget drops what is remembered of a session.
func (m *memory) forget(id settlement.SessionID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drop(id)
}

func (m *memory) drop(id settlement.SessionID) {
	at := m.of[id]
	if at == nil {
		return
	}
	m.weight -= at.Value.(*remembered).weight
	m.order.Remove(at)
	delete(m.of, id)
}
