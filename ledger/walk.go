package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
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
	for from = max(from, 1); from <= end.Sequence; {
		batch, err := l.ahead(ctx, all, from)
		if err != nil {
			return 0, fmt.Errorf("ledger: entries from %d: %w", from, err)
		}
		for _, s := range batch {
			if s.Sequence > end.Sequence {
				return end.Sequence, nil
			}
			if err := fn(s); err != nil {
				return 0, err
			}
			from = s.Sequence + 1
		}
	}
	return end.Sequence, nil
}

// readAhead is how many reads of a walk are under way at once.
const readAhead = 32

// ahead reads the next entries all at once: from each of so many sequences the first
// at or after it. Where sequences are missing several reads find the same.
func (l *Ledger) ahead(ctx context.Context, filter string, from uint64) ([]Stored, error) {
	var found [readAhead]Stored
	var errs [readAhead]error
	var reads sync.WaitGroup
	for i := range found {
		reads.Go(func() {
			var m Message
			if m, errs[i] = l.get(ctx, filter, from+uint64(i)); errs[i] == nil {
				found[i] = read(m)
			}
		})
	}
	reads.Wait()
	var batch []Stored
	for i, s := range found {
		switch {
		case errs[i] == nil:
			batch = append(batch, s)
		case !errors.Is(errs[i], ErrNoMessage):
			return nil, errs[i]
		}
	}
	if len(batch) == 0 {
		return nil, fmt.Errorf("%w: entries vanished while they were read", ErrNoMessage)
	}
	slices.SortFunc(batch, func(a, b Stored) int { return cmp.Compare(a.Sequence, b.Sequence) })
	return slices.CompactFunc(batch, func(a, b Stored) bool { return a.Sequence == b.Sequence }), nil
}

// follow hands over what one filter matches, in order, up to what is the last when
// it begins.
func (l *Ledger) follow(ctx context.Context, filter string, fn func(Stored) error) error {
	end, err := l.get(ctx, filter, 0)
	if errors.Is(err, ErrNoMessage) {
		return nil
	}
	for from := uint64(1); err == nil && from <= end.Sequence; {
		var m Message
		if m, err = l.get(ctx, filter, from); err == nil {
			from = m.Sequence + 1
			err = fn(read(m))
		}
	}
	return err
}
