package telemetry

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"settled/cmd/settled/internal/background"
	"settled/settlement"
)

// failureLifetime is how long a failure counts if nothing was tried since.
const failureLifetime = time.Minute

// The parts whose last results say whether an outcome published now would settle.
const (
	PartReads       = "reads from the ClearNode"
	partSends       = "requests to the ClearNode"
	PartAppends     = "appends to the ledger"
	partDeadLetters = "dead letters"
)

// partReasons are the reasons for which outcomes wait for a part.
var partReasons = map[string][]settlement.Reason{
	PartReads: {settlement.ReadFailed, settlement.NodeUnavailable}, partSends: {settlement.NodeTransient, settlement.UnknownRefusal},
	PartAppends: {settlement.LedgerUnavailable}, partDeadLetters: {settlement.DeadLetterUnavailable},
}

// Health keeps the last failure of each part until the part succeeds again.
type Health struct {
	mu        sync.Mutex
	failed    map[string]failure
	succeeded map[string]time.Time // last success by part
	calls     map[uint64]call      // in progress
	last      uint64               // key in calls
	session   settlement.SessionID // read last with success
}

type failure struct {
	err     error
	at      time.Time
	session settlement.SessionID
	times   int // in a row; one alone may be chance
}

type call struct {
	part  string
	began time.Time
}

// slowAfter is the time without an answer, and without another call's success, after which a
// part counts as failing.
const slowAfter = 8 * time.Second

// StartCall counts a call as in progress until end is called.
func (h *Health) StartCall(part string, now time.Time) (end func(settlement.SessionID, error, time.Time)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.calls == nil {
		h.calls = map[uint64]call{}
	}
	h.last++
	id := h.last
	h.calls[id] = call{part, now}
	return func(session settlement.SessionID, err error, now time.Time) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.record(part, session, err, now, now.Sub(h.calls[id].began) >= slowAfter)
		delete(h.calls, id)
	}
}

// SetKnownSession names a session that the node is expected to have, for use until one is
// read.
func (h *Health) SetKnownSession(session settlement.SessionID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.session == "" {
		h.session = session
	}
}

// record records the result of a call. An error about one session or outcome says nothing
// of others. A slow call, which had retries of its own, counts as two failures. The caller
// holds the lock.
func (h *Health) record(part string, session settlement.SessionID, err error, now time.Time, slow bool) {
	if h.failed == nil {
		h.failed, h.succeeded = map[string]failure{}, map[string]time.Time{}
	}
	var failed *settlement.Failure
	var waiting *settlement.Waiting
	switch {
	case err == nil, errors.As(err, &failed), errors.Is(err, settlement.ErrHeadMoved), errors.Is(err, settlement.ErrSessionNotFound):
		delete(h.failed, part)
		h.succeeded[part] = now
		if part == PartReads && err == nil {
			h.session = session
		} else if session == h.session {
			h.session = "" // the node may not have it any more
		}
		return
	case errors.Is(err, context.Canceled):
		return
	case errors.As(err, &waiting):
		switch waiting.Reason {
		case settlement.NodeUnavailable, settlement.ReadFailed, settlement.NodeTransient, settlement.LedgerUnavailable, settlement.DeadLetterUnavailable, settlement.UnknownRefusal:
		default:
			return
		}
	}
	times := h.failed[part].times + 1
	if slow {
		times++
	}
	h.failed[part] = failure{err, now, session, times}
}

// Problem returns an error if a part fails: it failed within the last minute, or outcomes
// wait for it, or it doesn't answer.
func (h *Health) Problem(waiting map[string]int, now time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, part := range []string{PartReads, partSends, PartAppends, partDeadLetters} {
		f, found := h.failed[part]
		if !found || f.times < 2 {
			continue
		}
		waited := 0
		for _, reason := range partReasons[part] {
			waited += waiting[string(reason)]
		}
		if now.Sub(f.at) < failureLifetime || waited > 0 {
			return fmt.Errorf("%s fail, the last one at %s, and none has succeeded since: %w", part, f.at.UTC().Format(time.RFC3339), f.err)
		}
	}
	for _, c := range h.calls {
		if now.Sub(c.began) >= slowAfter && h.succeeded[c.part].Before(c.began) {
			return fmt.Errorf("%s have had no answer since %s", c.part, c.began.UTC().Format(time.RFC3339))
		}
	}
	return nil
}

// sessionToProbe returns the session to read in order to see whether the node can be read,
// and whether an earlier read of it failed. It is empty if there is none, or if the last
// success is recent.
func (h *Health) sessionToProbe(now time.Time) (session settlement.SessionID, failed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if f := h.failed[PartReads]; f.session != "" {
		return f.session, true
	}
	if now.Sub(h.succeeded[PartReads]) < probeIdle {
		return "", false
	}
	return h.session, false
}

const (
	probeInterval = 2 * time.Second
	probeIdle     = 3 * time.Second // without a read, after which a session is read
	probeTimeout  = 4 * time.Second // of a session that could be read before
	retryTimeout  = 10 * time.Second
)

// probedNode is what Probe needs of the node.
type probedNode interface {
	Ready() error
	Session(context.Context, settlement.SessionID, settlement.ReadOptions) (settlement.Session, error)
	Stored(context.Context, settlement.SessionID) error
}

// Probe reads a session at the node until ctx ends: again one that could not be read, or,
// while nothing else is read, one that could be. This shows that the node's database is
// away, or back, before an outcome is delivered. It logs when a part begins to fail.
func (h *Health) Probe(ctx context.Context, node probedNode, log zerolog.Logger) {
	defer background.Run(ctx, func(ctx context.Context) { h.logProblems(ctx, log) })()
	for background.Sleep(ctx, probeInterval) {
		session, failed := h.sessionToProbe(time.Now())
		if session == "" || node.Ready() != nil {
			continue
		}
		timeout, read := probeTimeout, node.Stored
		if failed {
			timeout, read = retryTimeout, func(ctx context.Context, id settlement.SessionID) error {
				_, err := node.Session(ctx, id, settlement.ReadOptions{})
				return err
			}
		}
		reading, cancel := context.WithTimeout(ctx, timeout)
		err := read(reading, session)
		cancel()
		if ctx.Err() != nil {
			return
		}
		h.mu.Lock()
		h.record(PartReads, session, err, time.Now(), errors.Is(err, context.DeadlineExceeded))
		h.mu.Unlock()
	}
}

// logProblems logs when a part begins to fail, and when none fails any more.
func (h *Health) logProblems(ctx context.Context, log zerolog.Logger) {
	for failing := false; background.Sleep(ctx, time.Second); {
		err := h.Problem(nil, time.Now())
		if err != nil && !failing {
			log.Warn().Err(err).Msg("outcomes wait: see Not ready in deploy/RUNBOOK.md")
		}
		if err == nil && failing {
			log.Info().Msg("no part fails any more, or none was tried for a minute")
		}
		failing = err != nil
	}
}
