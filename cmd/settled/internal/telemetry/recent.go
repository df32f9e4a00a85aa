package telemetry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"settled/cmd/settled/internal/background"
	"settled/ledger"
	"settled/ledger/streamreader"
	"settled/settlement"
)

// recentFor is how long a failure counts where nothing was tried since.
const recentFor = time.Minute

// The parts whose last results say whether an outcome published now would settle.
const (
	PartRead   = "reads from the ClearNode"
	partSend   = "requests to the ClearNode"
	PartAppend = "appends to the ledger"
	partLetter = "dead letters"
)

// waitingFor are the reasons by which outcomes wait for a part.
var waitingFor = map[string][]settlement.Reason{
	PartRead: {settlement.ReadFailed, settlement.NodeUnavailable}, partSend: {settlement.NodeTransient, settlement.UnknownRefusal},
	PartAppend: {settlement.LedgerUnavailable}, partLetter: {settlement.DeadLetterUnavailable},
}

// Recent remembers the last failure of each part until it succeeds again.
type Recent struct {
	mu      sync.Mutex
	failed  map[string]failure
	worked  map[string]time.Time // when a part succeeded last
	calls   map[uint64]call      // under way
	last    uint64               // of calls
	session settlement.SessionID // read last, with success
}

type failure struct {
	err     error
	at      time.Time
	session settlement.SessionID
	times   int // in a row: one alone may be chance
}

type call struct {
	part  string
	began time.Time
}

// SlowFor is after what time without an answer, and without another call's success, a
// part counts as failing.
const SlowFor = 8 * time.Second

// Begin counts a call as under way until ended is called.
func (r *Recent) Begin(part string, now time.Time) (ended func(settlement.SessionID, error, time.Time)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.calls == nil {
		r.calls = map[uint64]call{}
	}
	r.last++
	id := r.last
	r.calls[id] = call{part, now}
	return func(session settlement.SessionID, err error, now time.Time) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.Note(part, session, err, now, now.Sub(r.calls[id].began) >= SlowFor)
		delete(r.calls, id)
	}
}

// Know names a session that the node is expected to have, where none was read yet.
func (r *Recent) Know(session settlement.SessionID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.session == "" {
		r.session = session
	}
}

// LastClosed is the session that was closed last as the ledger says, genuine or not;
// empty where there is none, or it can't be read.
func LastClosed(ctx context.Context, js jetstream.JetStream, prefix string) settlement.SessionID {
	m, err := streamreader.New(js, ledger.StreamName(prefix)).Last(ctx, prefix+"settlement.closed.*")
	if err != nil {
		return ""
	}
	session, err := settlement.ParseSessionID(m.Subject[strings.LastIndexByte(m.Subject, '.')+1:])
	if err != nil {
		return ""
	}
	return session
}

// Note takes what came of a call. What is about one session or outcome alone says
// nothing of others. A call that failed slowly, with retries of its own, counts as two.
// The lock is held.
func (r *Recent) Note(part string, session settlement.SessionID, err error, now time.Time, slowly bool) {
	switch bad, known := partFailed(err); {
	case !known:
	case !bad:
		delete(r.failed, part)
		if r.worked == nil {
			r.worked = map[string]time.Time{}
		}
		r.worked[part] = now
		if part == PartRead && err == nil {
			r.session = session
		} else if session == r.session {
			r.session = "" // the node doesn't have it any more, perhaps
		}
	default:
		if r.failed == nil {
			r.failed = map[string]failure{}
		}
		times := r.failed[part].times + 1
		if slowly {
			times++
		}
		r.failed[part] = failure{err, now, session, times}
	}
}

// partFailed says what an error tells of the part that answered it: that it fails, that
// it works, or nothing.
func partFailed(err error) (bad, known bool) {
	var never *settlement.Failure
	var waits *settlement.Waiting
	switch {
	case err == nil, errors.As(err, &never), errors.Is(err, settlement.ErrHeadMoved), errors.Is(err, settlement.ErrSessionNotFound):
		return false, true
	case errors.Is(err, context.Canceled):
		return false, false
	case errors.As(err, &waits):
		switch waits.Reason {
		case settlement.NodeUnavailable, settlement.ReadFailed, settlement.NodeTransient, settlement.LedgerUnavailable, settlement.DeadLetterUnavailable, settlement.UnknownRefusal:
			return true, true
		}
		return false, false
	default:
		return true, true
	}
}

// Problem is the part that fails: within the last minute, or as long as an outcome
// waits for it; or that does not answer. Nil where none does.
func (r *Recent) Problem(waiting map[string]int, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, part := range []string{PartRead, partSend, PartAppend, partLetter} {
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
	for _, c := range r.calls {
		if now.Sub(c.began) >= SlowFor && r.worked[c.part].Before(c.began) {
			return fmt.Errorf("%s have had no answer since %s", c.part, c.began.UTC().Format(time.RFC3339))
		}
	}
	return nil
}

// toRead is the session to read so that it shows whether the node can be read, and
// whether an earlier read of it failed; empty where there is none, or the last success is
// recent.
func (r *Recent) toRead(now time.Time) (session settlement.SessionID, failed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f := r.failed[PartRead]; f.session != "" {
		return f.session, true
	}
	if now.Sub(r.worked[PartRead]) < readIdle {
		return "", false
	}
	return r.session, false
}

const (
	// watchEvery is how often reads are considered, and readIdle after what time without
	// one a session is read again.
	watchEvery, readIdle = 2 * time.Second, 3 * time.Second
	// storedTime bounds the read of a session that could be read before.
	storedTime = 4 * time.Second
)

// readNode is the node as far as it is read to see whether it answers.
type readNode interface {
	Ready() error
	Session(context.Context, settlement.SessionID, settlement.ReadOptions) (settlement.Session, error)
	Stored(context.Context, settlement.SessionID) error
}

// Watch reads a session again that the node could not be read for, and one that it could
// be read for where nothing else is read, until ctx ends. So it shows that the node's
// database is away, or back, before an outcome is delivered. It logs what begins to fail.
func (r *Recent) Watch(ctx context.Context, node readNode, log zerolog.Logger) {
	stop := background.Run(ctx, func(ctx context.Context) { r.logProblems(ctx, log) })
	defer stop()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		session, failed := r.toRead(time.Now())
		if session == "" || node.Ready() != nil {
			continue
		}
		var err error
		if failed {
			reading, cancel := context.WithTimeout(ctx, 10*time.Second)
			_, err = node.Session(reading, session, settlement.ReadOptions{})
			cancel()
		} else {
			reading, cancel := context.WithTimeout(ctx, storedTime)
			err = node.Stored(reading, session)
			cancel()
		}
		if ctx.Err() != nil {
			return
		}
		r.mu.Lock()
		r.Note(PartRead, session, err, time.Now(), errors.Is(err, context.DeadlineExceeded))
		r.mu.Unlock()
	}
}

// logProblems logs when a part begins to fail, and when none does any more.
func (r *Recent) logProblems(ctx context.Context, log zerolog.Logger) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for failing := false; ; {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			err := r.Problem(nil, now)
			if err != nil && !failing {
				log.Warn().Err(err).Msg("outcomes wait: see Not ready in deploy/RUNBOOK.md")
			}
			if err == nil && failing {
				log.Info().Msg("what failed has succeeded again, or was not tried for a minute")
			}
			failing = err != nil
		}
	}
}
