package ledger

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// recognition knows which stream the ledger stands on. A stream that was deleted
// and made again begins empty: what its predecessor recorded of requests that may
// still land is gone, and no sequence shows it once enough was appended anew. The
// servers tell the two apart by when they were made.
type recognition struct {
	origins origins       // nil: a stream that nobody can replace
	turn    chan struct{} // one looks at a time, and its answer is good for all who waited

	// Whoever has the turn:
	created time.Time // of the stream that is known; zero: none was looked at yet
	began   time.Time // the last look that succeeded
}

// Check looks whether the stream is there, and is the one that this process knows.
// Nil: entries can be appended, and requests sent. *settlement.Waiting with
// settlement.LedgerHeld: it was made anew or lost entries, and no request that
// expires is sent until what it forgot has run out. Any other error says what is
// wrong with it and what to do; nothing is sent either.
func (l *Ledger) Check(ctx context.Context) error {
	if err := l.recognise(ctx); err != nil {
		l.mark.wasAway() // what comes back may be an older copy
		return err
	}
	if err := l.look(ctx); err != nil {
		return err
	}
	return l.mark.held()
}

// recognise compares the stream with the one that is known, by an answer of the
// servers that was asked for after this call began.
func (l *Ledger) recognise(ctx context.Context) error {
	r := &l.known
	if r.origins == nil {
		return nil
	}
	asked := l.cfg.NowFunc()
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if r.began.After(asked) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, readWait)
	defer cancel()
	began := l.cfg.NowFunc()
	if err := l.compare(ctx); err != nil {
		return fmt.Errorf("ledger: stream %s: %w", StreamName(l.cfg.Prefix), err)
	}
	r.began = began
	return nil
}

// compare holds the stream to the one that is known. Whoever calls it has the turn.
func (l *Ledger) compare(ctx context.Context) error {
	r := &l.known
	o, err := r.origins.origin(ctx)
	switch {
	case errors.Is(err, errMissing):
		return fmt.Errorf("%w: %s", errMissing, l.bringBack())
	case err != nil:
		return err
	case o.created.Equal(r.created):
		return nil
	case len(o.dangers) > 0:
		return fmt.Errorf("it would endanger money:\n  %s", strings.Join(o.dangers, "\n  "))
	case o.created.Before(r.created):
		l.mark.anew(l.cfg.Fence, errFell) // an older copy in the place of the one that is known
	case !r.created.IsZero():
		l.mark.anew(l.left(o), l.lost(o, "while settled ran"))
	default:
		if err := l.meet(ctx, o); err != nil {
			return err
		}
	}
	r.created = o.created
	return nil
}

// meet judges the first stream that this process sees. One that is younger than a
// fence, where work is older than it, was lost and made anew: whatever its
// predecessor recorded may still land. The first stream ever is not waited for.
func (l *Ledger) meet(ctx context.Context, o origin) error {
	left := l.left(o)
	if left <= 0 {
		return nil
	}
	used, err := l.known.origins.usedBefore(ctx, o.created)
	if err != nil {
		return err
	}
	if used {
		l.mark.young(left, l.lost(o, "and is younger than the outcomes"))
	}
	return nil
}

// left is how long requests may still land that an earlier stream recorded: each
// was recorded before this one was made.
func (l *Ledger) left(o origin) time.Duration { return l.cfg.Fence - max(0, o.age) }

func (l *Ledger) lost(o origin, how string) error {
	return fmt.Errorf("STREAM %s WAS LOST: it was made anew at %s, %s. Nothing is sent until %s (message_expiry plus fence_margin after that), for requests that the lost entries speak of may still land; then outcomes without an entry are settled as if they were new. What was lost comes back only from a copy: stop every settled, delete this stream, nats stream restore",
		StreamName(l.cfg.Prefix), o.created.UTC().Format(time.RFC3339), how, o.created.Add(l.cfg.Fence).UTC().Format(time.RFC3339))
}

// bringBack is what to do where the stream is missing. A running settled doesn't
// make it: an empty one would stand in the way of the copy.
func (l *Ledger) bringBack() string {
	begin := "create it"
	if l.cfg.Create {
		begin = "start settled again to begin an empty one"
	}
	return "bring it back from a copy (nats stream restore), or " + begin + " (what was recorded is then lost); nothing is sent or decided meanwhile"
}
