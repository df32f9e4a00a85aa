package ledger

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"settled/settlement"
)

// Config says where the ledger is and how careful it must be.
type Config struct {
	// Prefix is nats.prefix, put before every subject and, upper-cased, before
	// the stream's name: "prod." gives prod.settlement.* and PROD_SETTLEMENTS.
	// Empty: none.
	Prefix string
	// Replicas is how many servers keep the stream that Open creates. 0: 1.
	Replicas int
	// MaxBytes is the size of the stream that Open creates, in bytes. Once it is full
	// appends fail; no entry is dropped. 0: no limit.
	MaxBytes int64
	// Create lets Open create the stream where it is missing. An existing stream
	// is never changed.
	Create bool
	// Fence is how long a request of ours may land at most: message expiry plus
	// fence margin. It is waited out when the stream lost entries. It must be
	// above zero.
	Fence time.Duration

	// ForeignFunc is called for each foreign message that a read finds, the same one
	// perhaps often. Calls may run at the same time. Nil: nobody is told.
	ForeignFunc func(Foreign)
	// Tail remembers the last entry that is known across restarts, outside NATS, so
	// that a stream that was set back while nothing ran is noticed. Nil: nothing does.
	Tail Tail

	// NowFunc tells the time of entries. Nil: time.Now.
	NowFunc func() time.Time
	// SteadyFunc measures Fence and how long an append is tried: differences of its
	// times stay right when the wall clock is set. Nil: NowFunc, as time.Now is steady.
	SteadyFunc func() time.Time
	// WaitFunc waits before an append is tried again; it returns early, with the
	// context's error, when that ends. Nil: a timer.
	WaitFunc func(context.Context, time.Duration) error
	// RandomFunc fills its argument with the random bits of an attempt id. They
	// must not repeat, even across processes. Nil: crypto/rand.
	RandomFunc func([]byte)
}

// Validate says what is wrong with the configuration.
func (c Config) Validate() error {
	if err := checkPrefix(c.Prefix); err != nil {
		return fmt.Errorf("ledger: nats.prefix: %w", err)
	}
	if c.Replicas < 0 || c.Replicas > 5 {
		return fmt.Errorf("ledger: nats.replicas %d: want 1, 3 or 5", c.Replicas)
	}
	if c.Fence <= 0 {
		return fmt.Errorf("ledger: fence %s: want message expiry plus fence margin, above zero", c.Fence)
	}
	return nil
}

// Ledger is the settlements stream as settlement.Ledger. Its methods may run at
// the same time.
type Ledger struct {
	stream  Stream
	cfg     Config
	mark    watermark
	known   recognition
	memory  memory
	scans   scans
	readers chan struct{} // one in it for each reader that a history has beside its first
}

var _ settlement.Ledger = (*Ledger)(nil)

// New is a ledger on a stream that is known to be good. Open is New for
// JetStream, with that knowledge. A stream that implements Origins is verified while
// the ledger is used; any other can't be replaced or set back.
func New(stream Stream, cfg Config) *Ledger {
	cfg = cfg.withDefaults()
	origins, _ := stream.(Origins)
	return &Ledger{
		stream: stream, cfg: cfg, mark: watermark{fence: cfg.Fence, nowFunc: cfg.SteadyFunc},
		known:   recognition{origins: origins, turn: make(chan struct{}, 1)},
		readers: make(chan struct{}, readersOfAll), memory: memory{most: mostRemembered},
	}
}

// Head is the session's last entry, read from the leader together with the entries
// before it. Foreign messages on the session's subjects are skipped. An error means
// that nothing is known; a session without entries is no error.
func (l *Ledger) Head(ctx context.Context, id settlement.SessionID) (settlement.Head, error) {
	if id == "" {
		return settlement.Head{}, errors.New("ledger: entries of an unknown session have no head")
	}
	head, err := l.head(ctx, id)
	if err != nil {
		return settlement.Head{}, fmt.Errorf("ledger: head of %s: %w", id, err)
	}
	return head, nil
}

// Session is every entry of a session with its bytes, oldest first, up to what
// stands in the ledger when called; of the entries without a readable session for
// the empty id. Foreign messages and what can't be read are returned as such.
func (l *Ledger) Session(ctx context.Context, id settlement.SessionID) ([]Stored, error) {
	var all []Stored
	err := EachOf(ctx, leader{l}, l.cfg.Prefix, id, func(s Stored) error {
		all = append(all, s)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("ledger: entries of %s: %w", id.Token(), err)
	}
	return all, nil
}

// get reads from the leader within readWait, and notes how far the stream goes.
func (l *Ledger) get(ctx context.Context, filter string, from uint64) (Message, error) {
	ctx, cancel := context.WithTimeout(ctx, readWait)
	defer cancel()
	before := l.mark.now()
	m, err := l.stream.Get(ctx, filter, from)
	if err != nil {
		return Message{}, err
	}
	l.mark.saw(before, m)
	return m, nil
}

// leader is the ledger as a Source.
type leader struct{ l *Ledger }

func (s leader) Get(ctx context.Context, filter string, from uint64) (Message, error) {
	return s.l.get(ctx, filter, from)
}

func (s leader) Gaps(ctx context.Context) (bool, error) { return s.l.stream.Gaps(ctx) }

// readWait bounds one read: 0.3 ms when all is well, and no answer at all while
// the stream has no leader.
const readWait = 2 * time.Second

func (c Config) withDefaults() Config {
	if c.NowFunc == nil {
		c.NowFunc = time.Now
	}
	if c.SteadyFunc == nil {
		c.SteadyFunc = c.NowFunc
	}
	if c.WaitFunc == nil {
		c.WaitFunc = wait
	}
	if c.RandomFunc == nil {
		c.RandomFunc = func(b []byte) { _, _ = rand.Read(b) } // never fails; it ends the process instead
	}
	if c.Replicas == 0 {
		c.Replicas = 1
	}
	return c
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
