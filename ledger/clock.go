package ledger

import (
	"context"
	"crypto/rand"
	"time"
)

func (c Config) withDefaults() Config {
	if c.NowFunc == nil {
		c.NowFunc = time.Now
	}
	if c.SteadyFunc == nil {
		c.SteadyFunc = c.NowFunc
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
