package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Tail remembers the last entry of a stream that a process knew. Its calls may run at
// the same time.
type Tail interface {
	// Recall returns what was kept of the stream of that name that was made at that
	// instant; ok is false where nothing was. A sequence of 0: the stream was known
	// to be empty.
	Recall(stream string, created time.Time) (e TailEntry, ok bool)
	// Keep remembers an entry in the place of an earlier one. again is true after the
	// stream lost entries: then it also takes the place of a later one.
	Keep(stream string, created time.Time, e TailEntry, again bool)
}

// TailEntry is an entry by its sequence and the SHA-256 of its payload in hex, with how
// many of the stream's messages were gone when it was kept.
type TailEntry struct {
	Sequence uint64 `json:"sequence"`
	Digest   string `json:"digest,omitempty"`
	Removed  uint64 `json:"removed,omitempty"`
}

var errSetBack = errors.New("the ledger's stream lost entries while settled was stopped (a copy was put back?): requests it no longer knows of may still land")

// recall holds a stream that this process sees for the first time to what was
// remembered of it, and holds all sending for a fence where that is gone.
func (l *Ledger) recall(ctx context.Context, o Origin) error {
	if l.cfg.Tail == nil {
		return nil
	}
	e, ok := l.cfg.Tail.Recall(StreamName(l.cfg.Prefix), o.Created)
	if !ok {
		return nil
	}
	if e.Sequence > 0 {
		m, err := l.get(ctx, every(l.cfg.Prefix), e.Sequence)
		if err != nil && !errors.Is(err, ErrNoMessage) {
			return fmt.Errorf("looking for the last entry that was known: %w", err)
		}
		if err != nil || m.Sequence != e.Sequence || digest(m.Payload) != e.Digest {
			l.mark.anew(l.cfg.Fence, errSetBack)
			return nil
		}
	}
	if o.Counted && o.Removed > e.Removed { // before the last one, while nobody looked
		l.mark.young(l.cfg.Fence, fmt.Errorf("%d entries were removed from stream %s while settled was stopped (a limit, a purge or a deletion): requests that they recorded may still land", o.Removed-e.Removed, StreamName(l.cfg.Prefix)))
	}
	l.known.sure.Store(e.Sequence > 0 || o.Removed == 0)
	return nil
}

// TailFound reports whether the stream had the last entry that Config.Tail remembered
// when this process saw it first.
func (l *Ledger) TailFound() bool { return l.known.sure.Load() }

// keepTail has what this process knows remembered, unless requests are held: until
// they have expired, a restart must hold them again. Whoever calls it has the turn.
func (l *Ledger) keepTail() {
	if l.cfg.Tail == nil || l.mark.held() != nil {
		return
	}
	at, digest, _ := l.mark.furthest()
	l.cfg.Tail.Keep(StreamName(l.cfg.Prefix), l.known.created, TailEntry{at, digest, l.known.removed}, l.mark.now().epoch > 0)
}
