package clearnode

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"settled/settlement"
)

// What Cosigners.Cosign returns inside its error where an account gave no answer.
// Every other error of it, but the end of its context, counts as an answer.
var (
	ErrNobodyListens = errors.New("nobody listens there")
	ErrTimedOut      = errors.New("no answer in time")
)

// fewestTimeouts is how many times the co-signers' timeout an account must have given
// no answer before it is given up where somebody listens: one slow answer is no silence.
const fewestTimeouts = 10

// maxSilences bounds how many silences are remembered.
const maxSilences = 100_000

// silences are since when accounts have given no answer, for each outcome that asked
// them. They are of this process: a restart, and another replica, begins each period
// anew, so that no outcome fails for a time in which nobody asked.
type silences struct {
	patience, timeout time.Duration

	mu       sync.Mutex
	since    map[silent]time.Time
	answered map[settlement.Address]time.Time
}

type silent struct {
	of      settlement.Address
	outcome settlement.OutcomeRef
}

// note takes what came of asking an account, and reports whether it is given up: it
// has answered nobody for the patience, and for as long as this outcome has asked it.
func (s *silences) note(of settlement.Address, o settlement.OutcomeRef, err error, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.since == nil {
		s.since, s.answered = map[silent]time.Time{}, map[settlement.Address]time.Time{}
	}
	at, patience := silent{of, o}, s.patience
	switch {
	case errors.Is(err, ErrNobodyListens):
	case errors.Is(err, ErrTimedOut):
		patience = max(patience, fewestTimeouts*s.timeout)
	case errors.Is(err, context.DeadlineExceeded):
		return nil // says nothing of the account
	default:
		s.answered[of] = now
		delete(s.since, at)
		return nil
	}
	since, known := s.since[at]
	if last, heard := s.answered[of]; !known || heard && last.After(since) {
		if len(s.since) >= maxSilences {
			clear(s.since)
		}
		since = now
		s.since[at] = since
	}
	if now.Sub(since) < patience {
		return nil
	}
	return fmt.Errorf("%s has not answered for %s (cosign.patience %s)", of, now.Sub(since).Round(time.Second), s.patience)
}
