package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"settled/cmd/settled/internal/audit"
	"settled/cmd/settled/internal/background"
	"settled/cmd/settled/internal/config"
	"settled/cmd/settled/internal/terminal"
	"settled/ledger"
	"settled/ledger/streamreader"
	"settled/settlement"
)

// errStillWaiting says that an outcome has no result yet. Its exit status is 3.
var errStillWaiting = errors.New("still waiting")

// resultWait is the search for the result of one published outcome in the ledger.
type resultWait struct {
	outcome settlement.OutcomeRef

	mu       sync.Mutex
	sequence uint64         // of its message; 0: not published yet
	result   *ledger.Stored // its closed or failed entry
	closing  *settlement.Entry
	problem  error          // why the ledger can't be read at the moment
	notice   *ledger.Stored // the last result of it that was received and not read from the ledger
	at       time.Time      // when
	noticed  chan struct{}  // receives a value when notices or problem change
}

func newResultWait(o settlement.OutcomeRef) *resultWait {
	return &resultWait{outcome: o, noticed: make(chan struct{}, 1)}
}

// listen receives the results that are published from now on. A publisher may subscribe to
// them (user upstream of deploy/nats), and need not have the right to read the ledger.
func (w *resultWait) listen(nc *nats.Conn, prefix string, session settlement.SessionID) error {
	for _, state := range []settlement.EntryState{settlement.EntryClosed, settlement.EntryFailed} {
		for _, token := range []string{session.Token(), settlement.UnknownSession} {
			_, err := nc.Subscribe(ledger.Subject(prefix, state, token), w.receive)
			if err != nil {
				return err
			}
			if session == "" {
				break
			}
		}
	}
	return nc.FlushTimeout(firstPublish)
}

// receive takes a result that was published on its subject.
func (w *resultWait) receive(m *nats.Msg) {
	e, err := ledger.ParseEntry(m.Subject, m.Data, 0)
	if err != nil || !e.Outcome.Same(w.outcome) {
		return
	}
	w.mu.Lock()
	w.notice, w.at = &ledger.Stored{Message: ledger.Message{Subject: m.Subject, Payload: m.Data}, Entry: e}, time.Now()
	w.mu.Unlock()
	w.wake()
}

func (w *resultWait) wake() {
	select {
	case w.noticed <- struct{}{}:
	default:
	}
}

func (w *resultWait) setSequence(sequence uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sequence = sequence
}

// quietPeriod is how long no other result of an outcome must follow a received one: subscribers
// also receive messages that the stream rejects, and then the result follows.
const quietPeriod = 2 * time.Second

// received returns a result that was received, if the ledger can't be read, or in what time
// one may be.
func (w *resultWait) received() (result *ledger.Stored, in time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.notice
	if w.problem == nil || n == nil || n.Entry.State == settlement.EntryFailed && n.Entry.Outcome.Sequence < w.sequence {
		return nil, time.Hour
	}
	if in = quietPeriod - time.Since(w.at); in > 0 {
		return nil, in
	}
	return n, 0
}

// take keeps an entry if it is the outcome's. A failure of an earlier message of the same
// outcome is not its result.
func (w *resultWait) take(s ledger.Stored) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch e := s.Entry; {
	case s.Foreign != nil || s.Err != nil || !e.Outcome.Same(w.outcome):
		return nil
	case e.State == settlement.EntryClosed, e.State == settlement.EntryFailed && e.Outcome.Sequence >= w.sequence:
		w.result = &s
		return streamreader.ErrEnough
	case e.State == settlement.EntryClosing:
		w.closing = &e
	}
	return nil
}

func (w *resultWait) report(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.problem = err
	w.wake()
	return nil
}

// untilResult reads the session's entries and those of no session, in which an outcome
// without a valid signature fails, until one of them is the result or ctx ends.
func (w *resultWait) untilResult(ctx context.Context, cfg *config.Config, session settlement.SessionID) error {
	source, err := audit.NewLedgerSource(cfg, "settled publish")
	if err != nil {
		return err
	}
	defer source.Close()
	tokens := []string{settlement.UnknownSession}
	if session != "" {
		tokens = append(tokens, session.Token())
	}
	entries := streamreader.Selection{}
	for _, token := range tokens {
		entries.Subjects = append(entries.Subjects, ledger.Subject(cfg.NATSPrefix, "*", token))
	}
	return ledger.Follow(ctx, source.Reader, entries, w.report, w.take)
}

// waitForResult prints the result of a published outcome. It returns an error if the outcome
// failed, and errStillWaiting if there is no result in time.
func (p *program) waitForResult(ctx context.Context, cfg *config.Config, w *resultWait, session settlement.SessionID, most time.Duration) error {
	bounded, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	var notice *ledger.Stored // read after listening has ended
	listening := background.Run(bounded, func(ctx context.Context) {
		for {
			received, in := w.received()
			if received != nil {
				notice = received
				cancel()
				return
			}
			select {
			case <-w.noticed:
			case <-time.After(in):
			case <-ctx.Done():
				return
			}
		}
	})
	err := w.untilResult(bounded, cfg, session)
	listening()
	if w.result == nil && notice != nil {
		w.result = notice
		_, _ = fmt.Fprintf(p.Err, "settled: the result was received, and not read from the ledger (%s): whoever may publish to its subject can have sent it\n", terminal.Printable(w.reason()))
	} else if err != nil {
		return fmt.Errorf("%w: the outcome is published, and its result can't be read: %w", errStillWaiting, err)
	}
	if w.result == nil {
		return fmt.Errorf("%w after %s: %s; `settled watch --session %s` shows the result", errStillWaiting, most, w.reason(), session.Token())
	}
	if err := p.printStored(*w.result, entryLine(w.result.Entry)); err != nil {
		return err
	}
	if f := w.result.Entry.Error; f != nil {
		return errors.New(terminal.Printable(fmt.Sprintf("the outcome failed with %s: %s", f.Code, f.Message)))
	}
	return nil
}

// reason says what is known of an outcome that has no result.
func (w *resultWait) reason() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch e := w.closing; {
	case w.problem != nil:
		return fmt.Sprintf("the ledger can't be read: %v", w.problem)
	case e != nil && e.ValidUntil != nil:
		return fmt.Sprintf("a request to close the session may still take effect until %s (attempt %d, entry %d)", terminal.FormatTime(*e.ValidUntil), e.Attempt, e.Sequence)
	case e != nil:
		return fmt.Sprintf("a request to close the session may still take effect (attempt %d, entry %d)", e.Attempt, e.Sequence)
	default:
		return "the ledger has no entry of the outcome: settled is not running, has outcomes before it, or can't reach the node (see its /readyz and its log)"
	}
}
