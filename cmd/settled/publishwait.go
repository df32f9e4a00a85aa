package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"settled/cmd/settled/internal/audit"
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
	outcome  settlement.OutcomeRef
	sequence uint64 // of its message

	mu      sync.Mutex
	result  *ledger.Stored // its closed or failed entry
	closing *settlement.Entry
	problem error // why the ledger can't be read at the moment
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
func (p *program) waitForResult(ctx context.Context, cfg *config.Config, o settlement.Outcome, sequence uint64, most time.Duration) error {
	w := &resultWait{outcome: o.Ref, sequence: sequence}
	bounded, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	if err := w.untilResult(bounded, cfg, o.Session); err != nil {
		return fmt.Errorf("the outcome is published, and its result can't be read: %w", err)
	}
	if w.result == nil {
		return fmt.Errorf("%w after %s: %s; `settled watch --session %s` shows the result", errStillWaiting, most, w.reason(), o.Session.Token())
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
