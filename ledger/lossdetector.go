package ledger

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"settled/settlement"
)

// lossDetector notices that the ledger's stream lost entries: the server came back from a
// backup, or lost its disk. Requests whose entries are lost may still land, so nothing is
// sent for a fence. It knows the furthest message that this process has seen. What an
// earlier process knew Config.Tail remembers; that the stream was replaced streamMonitor
// notices.
type lossDetector struct {
	nowFunc func() time.Time
	fence   time.Duration

	mu          sync.Mutex
	epoch       uint64    // number of losses noticed so far
	furthest    messageID // the furthest message seen
	holdUntil   time.Time // nothing is sent before
	holdReason  error
	disconnects uint64    // how often the connection was lost
	checked     uint64    // the last of these after which the stream was checked
	unchecked   messageID // the furthest message seen since a disconnect that was not checked
}

// snapshot is what was known before a request to the stream began.
type snapshot struct {
	epoch    uint64
	furthest messageID
}

func (d *lossDetector) snapshot() snapshot {
	d.mu.Lock()
	defer d.mu.Unlock()
	return snapshot{d.epoch, d.furthest}
}

// observe records a message that a read returned. A read that was in progress when the
// stream lost entries is ignored. After a disconnect that was not checked, the furthest
// message seen before it is kept: only that one can show a loss.
func (d *lossDetector) observe(before snapshot, m Message) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.epoch != before.epoch || m.Sequence <= d.furthest.sequence:
	case d.disconnects == d.checked:
		d.furthest = messageID{m.Sequence, digest(m.Payload)}
	case m.Sequence > d.unchecked.sequence:
		d.unchecked = messageID{m.Sequence, digest(m.Payload)}
	}
}

// observeAppend records an appended message that was not in the stream before. A sequence
// that was known then already proves that the stream lost entries.
func (d *lossDetector) observeAppend(before snapshot, m Message) {
	if m.Sequence <= before.furthest.sequence {
		d.recordLoss(m, errLostWhileRunning)
		return
	}
	d.observe(before, m)
}

var (
	errLostWhileRunning = errors.New("the ledger's stream lost entries while settled ran (restored from a backup?): requests that the lost entries recorded may still land")
	errLostWhileStopped = errors.New("the ledger's stream lost entries while settled was stopped (restored from a backup?): requests that the lost entries recorded may still land")
)

// recordLoss holds sending for a fence, and forgets what was known but a message that the
// stream has now.
func (d *lossDetector) recordLoss(m Message, reason error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.loseLocked(m, reason)
}

// recordLossSince does so unless a loss was recorded since the snapshot.
func (d *lossDetector) recordLossSince(before snapshot) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.epoch == before.epoch {
		d.loseLocked(Message{}, errLostWhileRunning)
	}
}

func (d *lossDetector) loseLocked(m Message, reason error) {
	d.epoch++
	d.furthest = messageID{}
	if m.Sequence > 0 {
		d.furthest = messageID{m.Sequence, digest(m.Payload)}
	}
	d.holdLocked(d.fence, reason)
}

// hold holds sending for a time. It never shortens a wait.
func (d *lossDetector) hold(wait time.Duration, reason error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.holdLocked(wait, reason)
}

func (d *lossDetector) holdLocked(wait time.Duration, reason error) {
	if until := d.nowFunc().Add(wait); until.After(d.holdUntil) {
		d.holdUntil, d.holdReason = until, reason
	}
}

// holdError returns nil, or a settlement.Waiting until when nothing may be sent.
func (d *lossDetector) holdError() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	left := d.holdUntil.Sub(d.nowFunc())
	if left <= 0 {
		return nil
	}
	return &settlement.Waiting{Reason: settlement.LedgerHeld, Delay: left, Err: d.holdReason}
}

// disconnected requests a check of the stream.
func (d *lossDetector) disconnected() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.disconnects++
}

// pendingCheck returns the number of disconnects, and whether the stream was not checked
// since the last one.
func (d *lossDetector) pendingCheck() (disconnects uint64, pending bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.disconnects, d.disconnects > d.checked
}

// checkDone records that the stream was checked after a number of disconnects.
func (d *lossDetector) checkDone(disconnects uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.checked = max(d.checked, disconnects)
	if d.checked < d.disconnects {
		return
	}
	if d.unchecked.sequence > d.furthest.sequence {
		d.furthest = d.unchecked
	}
	d.unchecked = messageID{}
}

// Reconnected must be called whenever the connection to NATS was lost. It doesn't block: the
// next Check, or the next append of a closing entry, checks whether the furthest entry that
// this process knows is still in the stream, and holds sending for a fence if it is not.
func (l *Ledger) Reconnected() { l.losses.disconnected() }

// checkAfterReconnect checks whether the stream lost entries, if that was not done since the
// connection was lost. Entries that others appended after the loss don't hide it.
func (l *Ledger) checkAfterReconnect(ctx context.Context) error {
	disconnects, pending := l.losses.pendingCheck()
	if !pending {
		return nil
	}
	if err := l.checkStream(ctx); err != nil {
		return err
	}
	if furthest := l.losses.snapshot().furthest; furthest.sequence > 0 {
		m, err := l.get(ctx, allSubjects(l.cfg.Prefix), furthest.sequence)
		switch {
		case errors.Is(err, ErrNoMessage):
			l.losses.recordLoss(Message{}, errLostWhileRunning)
		case err != nil:
			return fmt.Errorf("ledger: checking whether the stream lost entries: %w", err)
		case messageID{m.Sequence, digest(m.Payload)} != furthest:
			l.losses.recordLoss(m, errLostWhileRunning)
		}
	}
	l.losses.checkDone(disconnects)
	return nil
}

// Tail remembers the last entry of a stream that a process knew, across restarts. It must
// be safe for concurrent use.
type Tail interface {
	// Recall returns what was kept of the stream with that name and creation time; ok is
	// false where nothing was kept. A sequence of 0: the stream was empty.
	Recall(stream string, created time.Time) (e TailEntry, ok bool)
	// Keep replaces what is kept by a later entry; by an earlier one only if again is true,
	// after the stream lost entries.
	Keep(stream string, created time.Time, e TailEntry, again bool)
}

// TailEntry is an entry by its sequence and the SHA-256 of its payload in hex, with the
// number of the stream's messages that were missing when it was kept.
type TailEntry struct {
	Sequence uint64 `json:"sequence"`
	Digest   string `json:"digest,omitempty"`
	Removed  uint64 `json:"removed,omitempty"`
}

// checkRememberedTail compares a stream that this process sees for the first time with what
// Config.Tail remembers of it, and holds sending for a fence if the remembered entry or
// others are missing.
func (l *Ledger) checkRememberedTail(ctx context.Context, o Origin) error {
	if l.cfg.Tail == nil {
		return nil
	}
	e, ok := l.cfg.Tail.Recall(StreamName(l.cfg.Prefix), o.Created)
	if !ok {
		return nil
	}
	if e.Sequence > 0 {
		m, err := l.get(ctx, allSubjects(l.cfg.Prefix), e.Sequence)
		if err != nil && !errors.Is(err, ErrNoMessage) {
			return fmt.Errorf("reading the last entry that was known: %w", err)
		}
		if err != nil || m.Sequence != e.Sequence || digest(m.Payload) != e.Digest {
			l.losses.recordLoss(Message{}, errLostWhileStopped)
			return nil
		}
	}
	if o.Counted && o.Removed > e.Removed { // entries before the last one
		l.losses.hold(l.cfg.Fence, l.entriesRemoved(o.Removed-e.Removed, "was stopped"))
	}
	l.monitor.tailFound.Store(e.Sequence > 0 || o.Removed == 0)
	return nil
}

func (l *Ledger) entriesRemoved(n uint64, when string) error {
	return fmt.Errorf("%d entries were removed from stream %s while settled %s (a limit, a purge or a deletion): requests that they recorded may still land", n, StreamName(l.cfg.Prefix), when)
}

// TailFound reports whether the stream had the last entry that Config.Tail remembered when
// this process first saw it.
func (l *Ledger) TailFound() bool { return l.monitor.tailFound.Load() }

// rememberTail passes what this process knows to Config.Tail, unless sending is held: a
// restart before that ends must hold sending again. The caller owns the monitor.
func (l *Ledger) rememberTail() {
	if l.cfg.Tail == nil || l.losses.holdError() != nil {
		return
	}
	known := l.losses.snapshot()
	e := TailEntry{known.furthest.sequence, known.furthest.digest, l.monitor.removed}
	l.cfg.Tail.Keep(StreamName(l.cfg.Prefix), l.monitor.created, e, known.epoch > 0)
}
