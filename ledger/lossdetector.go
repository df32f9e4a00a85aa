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
// backup, or lost its disk. Requests whose entries are lost may still take effect, so
// nothing is sent for one fence period. It knows the furthest message that this process has
// seen. What an earlier process knew Config.Tail remembers; that the stream was replaced
// streamMonitor notices.
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
	errLostWhileRunning = errors.New("the ledger's stream lost entries while settled ran (restored from a backup?): requests that the lost entries recorded may still take effect")
	errLostWhileStopped = errors.New("the ledger's stream lost entries while settled was stopped (restored from a backup?): requests that the lost entries recorded may still take effect")
)

// recordLoss holds sending for one fence period, and forgets what was known except a message
// that the stream has now.
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

// Reconnected must be called whenever the connection to NATS was lost. It doesn't block:
// the next Check, or the next append of a closing entry, checks whether the furthest entry
// that this process knows is still in the stream, and holds sending for one fence period if
// it is not.
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
