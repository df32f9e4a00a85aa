package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// streamMonitor knows the identity of the ledger's stream. A stream that was deleted and
// recreated is empty at first: what the deleted one recorded of requests that may still
// take effect is gone, and once enough was appended no sequence shows it. The two are
// distinguished by the time of their creation.
type streamMonitor struct {
	origins Origins       // nil: a stream that can't be replaced
	lock    chan struct{} // held by the caller that compares; its result serves all who waited

	// Protected by lock:
	created   time.Time // of the known stream; zero: none yet
	weak      []string  // its settings that protected less than configured when it was first seen
	removed   uint64    // number of missing messages at the last comparison
	checkedAt time.Time // when the last successful comparison began

	tailFound atomic.Bool // the stream had what Config.Tail remembered
}

// Check checks whether the stream exists, and is the one that this process knows. Nil:
// entries can be appended, and requests sent. *settlement.Waiting with
// settlement.LedgerHeld: it was recreated or lost entries, and no request that expires is
// sent until the requests that the lost entries recorded have expired. Any other error says
// what is wrong with it and what to do; nothing is sent then.
func (l *Ledger) Check(ctx context.Context) error {
	if err := l.checkStream(ctx); err != nil {
		l.losses.disconnected() // what comes back may be an older copy
		return err
	}
	if err := l.checkAfterReconnect(ctx); err != nil {
		return err
	}
	return l.losses.holdError()
}

// Verified returns nil if the stream's settings are safe, by an answer of the servers that
// is at most that old; if there is none it asks for one. Concurrent calls share the answer.
// The error is that of Check, but for the wait after lost entries, which concerns only
// requests that expire.
func (l *Ledger) Verified(ctx context.Context, within time.Duration) error {
	r := &l.monitor
	if r.origins == nil {
		return nil
	}
	since := l.cfg.MonotonicFunc().Add(-within)
	select {
	case r.lock <- struct{}{}:
		defer func() { <-r.lock }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if r.checkedAt.After(since) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, readWait)
	defer cancel()
	began := l.cfg.MonotonicFunc()
	r.checkedAt = time.Time{} // an error invalidates the earlier answer
	var unsafe *SettingsError
	if err := l.compareStream(ctx); errors.As(err, &unsafe) {
		return fmt.Errorf("ledger: %w", err)
	} else if err != nil {
		return fmt.Errorf("ledger: stream %s: %w", StreamName(l.cfg.Prefix), err)
	}
	r.checkedAt = began
	l.rememberTail()
	return nil
}

// checkStream is Verified by an answer that was requested after this call began.
func (l *Ledger) checkStream(ctx context.Context) error { return l.Verified(ctx, 0) }

// Complete returns nil if the ledger lacks no intent of a request that may still take effect.
// The errors are those of Check; the stream's settings are verified by an answer of the
// servers that is at most that old.
func (l *Ledger) Complete(ctx context.Context, within time.Duration) error {
	if err := l.Verified(ctx, within); err != nil {
		return waitForSettings(err)
	}
	if err := l.checkAfterReconnect(ctx); err != nil {
		return err
	}
	return l.losses.holdError()
}

// SettingsError says that the stream has settings that endanger money. Nothing is sent until
// they are corrected.
type SettingsError struct {
	Stream  string
	Dangers []string // each with the command that corrects it
}

func (e *SettingsError) Error() string {
	return "stream " + e.Stream + " would endanger money:\n  " + strings.Join(e.Dangers, "\n  ")
}

// compareStream compares the stream with the known one. The caller holds the monitor's lock.
func (l *Ledger) compareStream(ctx context.Context) error {
	r, before := &l.monitor, l.losses.snapshot()
	o, err := r.origins.Origin(ctx)
	switch {
	case errors.Is(err, errMissing):
		return fmt.Errorf("%w: %s", errMissing, l.restoreAdvice())
	case err != nil:
		return err
	}
	if r.created.IsZero() {
		r.weak, r.removed = o.Weak, o.Removed
	}
	dangers := o.Dangers
	for _, line := range o.Weak {
		if !slices.Contains(r.weak, line) { // changed while settled runs
			dangers = append(dangers, line+" (to keep the new setting, start settled again)")
		}
	}
	if len(dangers) > 0 {
		return &SettingsError{Stream: StreamName(l.cfg.Prefix), Dangers: dangers}
	}
	switch {
	case r.created.IsZero():
		if err := l.checkFirstSeen(ctx, o); err != nil {
			return err
		}
	case o.Created.Before(r.created): // an older copy in the place of the known stream
		l.losses.recordLoss(Message{}, errLostWhileRunning)
	case o.Created.After(r.created): // its age proves nothing: the servers' clock may have been set
		l.losses.recordLoss(Message{}, l.streamLost(o, "while settled ran", l.cfg.Fence))
	case o.Counted:
		if o.Last < before.furthest.sequence {
			l.losses.recordLossSince(before)
		}
		if o.Removed > r.removed {
			l.losses.hold(l.cfg.Fence, l.entriesRemoved(o.Removed-r.removed, "ran"))
		}
	}
	r.created, r.removed = o.Created, o.Removed
	return nil
}

// checkFirstSeen holds sending where the first stream that this process sees is not
// complete. One that is younger than a fence period, where work is older than it, was lost and
// recreated: requests that the lost one recorded may still take effect. The first stream
// ever is not waited for.
func (l *Ledger) checkFirstSeen(ctx context.Context, o Origin) error {
	if wait := l.cfg.Fence - max(0, o.Age); wait > 0 {
		used, err := l.monitor.origins.UsedBefore(ctx, o.Created)
		if err != nil {
			return err
		}
		if used {
			l.losses.hold(wait, l.streamLost(o, "and is younger than the outcomes", wait))
		}
	}
	if err := l.checkRememberedTail(ctx, o); err != nil {
		return err
	}
	if o.Counted && o.Removed > 0 && !l.TailFound() {
		l.losses.hold(l.cfg.Fence, fmt.Errorf("%d entries are missing from stream %s, and it is not known since when: requests that they recorded may still take effect", o.Removed, StreamName(l.cfg.Prefix)))
	}
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
// Config.Tail remembers of it, and holds sending for one fence period if the remembered
// entry or others are missing.
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

func (l *Ledger) entriesRemoved(n uint64, when string) error {
	return fmt.Errorf("%d entries were removed from stream %s while settled %s (a limit, a purge or a deletion): requests that they recorded may still take effect", n, StreamName(l.cfg.Prefix), when)
}

func (l *Ledger) streamLost(o Origin, how string, wait time.Duration) error {
	return fmt.Errorf("STREAM %s WAS LOST: it was recreated at %s, %s. Nothing is sent until %s (at most message_expiry plus fence_margin after the loss), because requests that the lost entries recorded may still take effect; then outcomes without an entry are settled as new ones. Only a backup brings the lost entries back: stop every settled, delete this stream, nats stream restore",
		StreamName(l.cfg.Prefix), o.Created.UTC().Format(time.RFC3339), how, l.cfg.NowFunc().Add(wait).UTC().Format(time.RFC3339))
}

// restoreAdvice says what to do where the stream is missing. A running settled doesn't
// create it: the backup can't be restored while an empty stream of its name exists.
func (l *Ledger) restoreAdvice() string {
	create := "create it"
	if l.cfg.Create {
		create = "start settled again to begin an empty one"
	}
	return "restore it from a backup (nats stream restore), or " + create + " (what was recorded is then lost); nothing is sent or decided meanwhile"
}
