package ledger

import (
	"context"
	"errors"
	"fmt"

	"settled/ledger/streamreader"
)

// Walk hands over every message of the ledger from a sequence on (0: from the
// first), in order, up to what is the last when it begins, and returns that
// sequence; 0 for an empty ledger. What can't be read as an entry is handed over
// with its Err. fn's error ends the walk and is returned.
func (l *Ledger) Walk(ctx context.Context, from uint64, fn func(Stored) error) (last uint64, err error) {
	all := every(l.cfg.Prefix)
	end, err := l.get(ctx, all, 0)
	if errors.Is(err, ErrNoMessage) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("ledger: last entry: %w", err)
	}
	read := func(ctx context.Context, at uint64) (Stored, bool, error) {
		m, err := l.get(ctx, all, at)
		switch {
		case errors.Is(err, ErrNoMessage):
			return Stored{}, false, fmt.Errorf("ledger: entries from %d: %w: entries vanished while they were read", at, err)
		case err != nil:
			return Stored{}, false, fmt.Errorf("ledger: entries from %d: %w", at, err)
		}
		return read(m), true, nil
	}
	if err := streamreader.Ahead(ctx, max(from, 1), end.Sequence, readAhead, read, func(s Stored) uint64 { return s.Sequence }, fn); err != nil {
		return 0, err
	}
	return end.Sequence, nil
}

// readAhead is how many reads of a walk are under way at once: enough that none waits
// for another's way there and back.
const readAhead = 128

// follow hands over what one filter matches, in order, up to what is the last when
// it begins.
func follow(ctx context.Context, src Source, filter string, fn func(Stored) error) error {
	end, err := src.Get(ctx, filter, 0)
	if errors.Is(err, ErrNoMessage) {
		return nil
	}
	for from := uint64(1); err == nil && from <= end.Sequence; {
		var m Message
		if m, err = src.Get(ctx, filter, from); err == nil {
			from = m.Sequence + 1
			err = fn(read(m))
		}
	}
	return err
}
