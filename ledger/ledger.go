package ledger

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"settled/settlement"
)

// Config configures a Ledger.
type Config struct {
	// Prefix is nats.prefix, which precedes every subject and, in upper case, the
	// stream's name: "prod." gives prod.settlement.* and PROD_SETTLEMENTS.
	Prefix string
	// Replicas is the number of replicas of a stream that Open creates. 0: 1.
	Replicas int
	// MaxBytes is the size of a stream that Open creates, in bytes. Once it is full
	// appends fail; no entry is dropped. 0: no limit.
	MaxBytes int64
	// Create lets Open create the stream if it is missing. An existing stream is never
	// changed.
	Create bool
	// Fence is the fence period, the longest time after which a request may take effect:
	// message expiry plus fence margin. Sending pauses that long after the stream lost
	// entries. It must be above zero.
	Fence time.Duration

	// ForeignFunc is called for each foreign message that a read finds, possibly several
	// times for the same one, and concurrently. Nil: foreign messages are not reported.
	ForeignFunc func(Foreign)
	// Tail remembers the last known entry across restarts, outside NATS, so that a stream
	// that was restored from an older copy while no process ran is noticed. Nil: that is
	// not noticed.
	Tail Tail

	// Recent keeps what the Ledger stored last. Nil: it is not kept.
	Recent *Recent

	// NowFunc returns the time of entries. Nil: time.Now.
	NowFunc func() time.Time
	// MonotonicFunc returns a time whose differences stay right when the wall clock is set.
	// It measures Fence and how long an append is tried. Nil: NowFunc, as time.Now is
	// monotonic.
	MonotonicFunc func() time.Time
	// WaitFunc waits before an append is retried; it returns early, with the context's
	// error, when that ends. Nil: a timer.
	WaitFunc func(context.Context, time.Duration) error
	// RandomFunc fills its argument with the random bits of an attempt id. They must not
	// repeat, even across processes. Nil: crypto/rand.
	RandomFunc func([]byte)
}

// Validate returns an error that says what is wrong with the configuration.
func (c Config) Validate() error {
	if err := checkPrefix(c.Prefix); err != nil {
		return fmt.Errorf("ledger: nats.prefix: %w", err)
	}
	if c.Replicas < 0 || c.Replicas > 5 {
		return fmt.Errorf("ledger: nats.replicas %d: want 1, 3 or 5", c.Replicas)
	}
	if c.Fence <= 0 {
		return fmt.Errorf("ledger: fence period %s: want message expiry plus fence margin, above zero", c.Fence)
	}
	return nil
}

func (c Config) withDefaults() Config {
	if c.NowFunc == nil {
		c.NowFunc = time.Now
	}
	if c.MonotonicFunc == nil {
		c.MonotonicFunc = c.NowFunc
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

// Ledger implements settlement.Ledger on the stream SETTLEMENTS. It is safe for concurrent
// use.
type Ledger struct {
	stream    Stream
	cfg       Config
	losses    lossDetector
	monitor   streamMonitor
	histories *historyCache
}

var _ settlement.Ledger = (*Ledger)(nil)

// New returns a ledger on a stream whose settings are known to be safe; Open also checks
// them. A stream that implements Origins is checked while the ledger is used; any other
// can't be replaced or restored from an older copy.
func New(stream Stream, cfg Config) *Ledger {
	cfg = cfg.withDefaults()
	origins, _ := stream.(Origins)
	return &Ledger{
		stream: stream, cfg: cfg, histories: newHistoryCache(),
		losses:  lossDetector{fence: cfg.Fence, nowFunc: cfg.MonotonicFunc},
		monitor: streamMonitor{origins: origins, lock: make(chan struct{}, 1)},
	}
}

// readWait bounds one read. It takes 0.3 ms normally, and there is no answer while the
// stream has no leader.
const readWait = 2 * time.Second

// get reads a message from the leader, and records it in the loss detector.
func (l *Ledger) get(ctx context.Context, filter string, from uint64) (Message, error) {
	ctx, cancel := context.WithTimeout(ctx, readWait)
	defer cancel()
	before := l.losses.snapshot()
	m, err := l.stream.Get(ctx, filter, from)
	if err != nil {
		return Message{}, err
	}
	l.losses.observe(before, m)
	return m, nil
}
