package service

import (
	"context"
	"time"

	"settled/cmd/settled/internal/background"
)

// clockJump is the allowed difference of wall clock and monotonic clock within one period.
// Clock synchronization adjusts by far less.
const (
	clockJump   = 2 * time.Second
	clockPeriod = time.Second
)

// clockReading is the wall clock and the monotonic clock at one instant.
type clockReading struct {
	wall time.Time
	mono time.Duration
}

// clockReader reads both clocks.
func clockReader() func() clockReading {
	began := time.Now()
	return func() clockReading {
		now := time.Now()
		return clockReading{now.Round(0), now.Sub(began)}
	}
}

// watchClock calls jumped with how far the wall clock jumped against the monotonic
// one, until ctx ends.
func watchClock(ctx context.Context, read func() clockReading, period time.Duration, jumped func(time.Duration)) {
	for last := read(); background.Sleep(ctx, period); {
		now := read()
		if by := now.wall.Sub(last.wall) - (now.mono - last.mono); by.Abs() > clockJump {
			jumped(by)
		}
		last = now
	}
}
