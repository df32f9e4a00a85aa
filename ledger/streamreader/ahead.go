package streamreader

import (
	"context"
	"sync"
)

// Ahead reads the messages from a sequence to another, in order, with up to width reads
// under way at once. read answers the first message at or after a sequence, whatever
// its subject, and found is false where there is none; sequence tells where a message
// is. fn gets each message once; its error ends the reading and is returned.
func Ahead[M any](ctx context.Context, from, end uint64, width int, read func(context.Context, uint64) (m M, found bool, err error), sequence func(M) uint64, fn func(M) error) error {
	type answer struct {
		m     M
		found bool
		err   error
	}
	ctx, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	var asked []chan answer
	for last := uint64(0); ; {
		for ; len(asked) < width && from <= end; from++ {
			one, at := make(chan answer, 1), from
			asked = append(asked, one)
			running.Go(func() {
				var a answer
				a.m, a.found, a.err = read(ctx, at)
				one <- a
			})
		}
		if len(asked) == 0 {
			return nil
		}
		a := <-asked[0]
		asked = asked[1:]
		switch {
		case a.err != nil:
			return a.err
		case !a.found:
			return nil // then nothing is after it either
		}
		at := sequence(a.m)
		if at > end {
			return nil
		}
		if at <= last {
			continue // where sequences are missing, several reads find the same message
		}
		if err := fn(a.m); err != nil {
			return err
		}
		last, from = at, max(from, at+1)
	}
}
