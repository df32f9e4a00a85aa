package ledger

import (
	"context"
	"errors"
	"fmt"
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
	a := ahead{l: l, filter: all, next: max(from, 1), end: end.Sequence}
	if err := a.each(ctx, fn); err != nil {
		return 0, err
	}
	return end.Sequence, nil
}

// readAhead is how many reads of a walk are under way at once: enough that none waits
// for another's way there and back.
const readAhead = 128

// ahead is a walk that asks for the next entries before it has seen those before
// them, and takes the answers in order: from each sequence the first entry at or
// after it. Where sequences are missing several reads find the same.
type ahead struct {
	l         *Ledger
	filter    string
	next, end uint64 // the sequence to ask for next, and the last to ask for
	reads     []<-chan reading
}

// reading is the answer to one read.
type reading struct {
	Stored
	from uint64
	err  error
}

func (a *ahead) each(ctx context.Context, fn func(Stored) error) error {
	ctx, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	for last := uint64(0); ; {
		for ; len(a.reads) < readAhead && a.next <= a.end; a.next++ {
			a.reads = append(a.reads, a.ask(ctx, &running, a.next))
		}
		if len(a.reads) == 0 {
			return nil
		}
		r := <-a.reads[0]
		a.reads = a.reads[1:]
		switch {
		case errors.Is(r.err, ErrNoMessage):
			return fmt.Errorf("ledger: entries from %d: %w: entries vanished while they were read", r.from, r.err)
		case r.err != nil:
			return fmt.Errorf("ledger: entries from %d: %w", r.from, r.err)
		case r.Sequence > a.end || r.Sequence <= last:
			continue // it came after the walk began, or was found before
		}
		if err := fn(r.Stored); err != nil {
			return err
		}
		last, a.next = r.Sequence, max(a.next, r.Sequence+1)
	}
}

// ask begins a read.
func (a *ahead) ask(ctx context.Context, running *sync.WaitGroup, from uint64) <-chan reading {
	answer := make(chan reading, 1)
	running.Go(func() {
		m, err := a.l.get(ctx, a.filter, from)
		r := reading{from: from, err: err}
		if err == nil {
			r.Stored = read(m)
		}
		answer <- r
	})
	return answer
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
