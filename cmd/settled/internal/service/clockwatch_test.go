package service

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"settled/cmd/settled/internal/background"
)

// TestClockJump: a wall clock that leaves the monotonic one holds sending, and one that
// is kept right little by little does not.
func TestClockJump(t *testing.T) {
	for name, c := range map[string]struct {
		by   time.Duration
		want bool
	}{"forward": {time.Minute, true}, "back": {-time.Minute, true}, "slewed": {time.Second, false}, "even": {0, false}} {
		t.Run(name, func(t *testing.T) {
			began, reads := time.Now(), 0
			done, jumps := make(chan struct{}), make(chan time.Duration, 10)
			read := func() clockReading {
				reads++
				r := clockReading{began.Add(time.Duration(reads) * time.Second), time.Duration(reads) * time.Second}
				if reads > 3 {
					r.wall = r.wall.Add(c.by)
				}
				if reads == 6 {
					close(done)
				}
				return r
			}
			stop := background.Run(t.Context(), func(ctx context.Context) {
				watchClock(ctx, read, time.Millisecond, func(by time.Duration) { jumps <- by })
			})
			<-done
			stop()
			close(jumps)
			var got []time.Duration
			for by := range jumps {
				got = append(got, by)
			}
			if c.want != (len(got) == 1 && got[0] == c.by) || !c.want && len(got) > 0 {
				t.Errorf("jumps %v", got)
			}
		})
	}
	h := &sendHold{fence: time.Hour, log: zerolog.Nop()}
	s := &Service{hold: h}
	s.handleClockJump(time.Minute)
	if err := h.Err(); err == nil || !strings.Contains(err.Error(), "jumped by 1m0s") {
		t.Errorf("%v", err)
	}
}
