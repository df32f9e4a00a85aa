package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"settled/settlement"
)

// recentFor is how long a failure counts where nothing was tried since.
const recentFor = time.Minute

// The parts whose last results say whether an outcome published now would settle.
const (
	partRead   = "reads from the ClearNode"
	partSend   = "requests to the ClearNode"
	partAppend = "appends to the ledger"
	partLetter = "dead letters"
)

// waitingFor are the reasons by which outcomes wait for a part.
var waitingFor = map[string][]settlement.Reason{
	partRead: {settlement.ReadFailed, settlement.NodeAway}, partSend: {settlement.NodeTransient, settlement.UnknownRefusal},
	partAppend: {settlement.LedgerAway}, partLetter: {settlement.LetterAway},
}

// recent remembers the last failure of each part until it succeeds again.
type recent struct {
	mu     sync.Mutex
	failed map[string]failure
}

type failure struct {
	err     error
	at      time.Time
	session settlement.SessionID
	times   int // in a row: one alone may be chance
}

// note takes what came of a call. What is about one session or outcome alone says
// nothing of others.
func (r *recent) note(part string, session settlement.SessionID, err error, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch bad, known := partFailed(err); {
	case !known:
	case !bad:
		delete(r.failed, part)
	default:
		if r.failed == nil {
			r.failed = map[string]failure{}
		}
		r.failed[part] = failure{err, now, session, r.failed[part].times + 1}
	}
}

// partFailed says what an error tells of the part that answered it: that it fails, that
// it works, or nothing.
func partFailed(err error) (bad, known bool) {
	var never *settlement.Failure
	var waits *settlement.Waiting
	switch {
	case err == nil, errors.As(err, &never), errors.Is(err, settlement.ErrMoved), errors.Is(err, settlement.ErrSessionNotFound):
		return false, true
	case errors.Is(err, context.Canceled):
		return false, false
	case errors.As(err, &waits):
		switch waits.Reason {
		case settlement.NodeAway, settlement.ReadFailed, settlement.NodeTransient, settlement.LedgerAway, settlement.LetterAway, settlement.UnknownRefusal:
			return true, true
		}
		return false, false
	default:
		return true, true
	}
}

// problem is the part that fails: within the last minute, or as long as an outcome
// waits for it. Nil where none does.
func (r *recent) problem(waiting map[string]int, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, part := range []string{partRead, partSend, partAppend, partLetter} {
		f, found := r.failed[part]
		if !found || f.times < 2 {
			continue
		}
		waited := 0
		for _, reason := range waitingFor[part] {
			waited += waiting[string(reason)]
		}
		if now.Sub(f.at) < recentFor || waited > 0 {
			return fmt.Errorf("%s fail, the last one at %s, and none has succeeded since: %w", part, f.at.UTC().Format(time.RFC3339), f.err)
		}
	}
	return nil
}

// unread is a session that the node could not be read for; empty where reads succeed.
func (r *recent) unread() settlement.SessionID {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed[partRead].session
}

// retryReads reads a session again that the node could not be read for, until ctx ends:
// so it shows that the node is back before an outcome is delivered again.
func (r *recent) retryReads(ctx context.Context, node settlement.Node, ready func() error) {
	tick := time.NewTicker(3 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		session := r.unread()
		if session == "" || ready() != nil {
			continue
		}
		reading, cancel := context.WithTimeout(ctx, 10*time.Second)
		_, err := node.Session(reading, session, settlement.Look{})
		cancel()
		if ctx.Err() == nil {
			r.note(partRead, session, err, time.Now())
		}
	}
}
