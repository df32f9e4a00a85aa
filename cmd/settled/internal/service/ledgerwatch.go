package service

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"settled/cmd/settled/internal/background"
	"settled/cmd/settled/internal/natsconn"
	"settled/consumer"
	"settled/ledger"
	"settled/settlement"
)

// How often the ledger's stream is checked, how often while something is wrong, and how
// long a check may take.
const (
	ledgerCheckInterval = 2 * time.Second
	ledgerRetryInterval = 500 * time.Millisecond
	ledgerCheckTimeout  = 2 * time.Second
)

// ledgerWatch checks periodically whether the ledger can be written, for the readiness of the
// service, and logs changes. The ledger itself prevents unsafe sending.
type ledgerWatch struct {
	ledger   *ledger.Ledger
	log      zerolog.Logger
	checkNow background.Wake

	mu     sync.Mutex
	err    error
	remind consumer.Reminder // of settings that hold sending
}

func newLedgerWatch(l *ledger.Ledger, log zerolog.Logger) *ledgerWatch {
	return &ledgerWatch{ledger: l, log: log, checkNow: background.NewWake()}
}

// run checks until ctx ends.
func (w *ledgerWatch) run(ctx context.Context) {
	for {
		pause := ledgerCheckInterval
		if w.lastError() != nil {
			pause = ledgerRetryInterval
		}
		if !w.checkNow.Wait(ctx, pause) {
			return
		}
		w.check(ctx)
	}
}

// check checks once.
func (w *ledgerWatch) check(ctx context.Context) {
	looking, cancel := context.WithTimeout(ctx, ledgerCheckTimeout)
	defer cancel()
	err := w.ledger.Check(looking)
	if ctx.Err() != nil {
		return // the service stops
	}
	w.mu.Lock()
	before := w.err
	w.err = err
	w.mu.Unlock()
	w.logChange(before, err)
}

// logChange logs an error when it begins, not at every check.
func (w *ledgerWatch) logChange(before, now error) {
	switch {
	case now == nil && before != nil:
		w.remind = consumer.Reminder{}
		w.log.Info().Msg("the ledger can be used again")
	case now != nil && natsconn.IsUnavailable(now):
		if before == nil || !natsconn.IsUnavailable(before) {
			w.log.Warn().Err(now).Msg("the ledger can't be reached, and nothing is sent: are enough of the NATS servers up? `settled doctor` says which stream has no leader")
		}
	case isSettingsError(now):
		if w.remind.Due(now.Error(), time.Now()) {
			w.log.Error().Err(now).Msg("sending is held until the ledger's settings are put back: see SettledSettingsChanged in deploy/RUNBOOK.md")
		}
	case now != nil && (before == nil || before.Error() != now.Error()):
		w.log.Error().Err(now).Msg("the ledger can't be used: see The ledger was lost in deploy/RUNBOOK.md")
	}
}

// isSettingsError reports whether an error is about the stream's settings.
func isSettingsError(err error) bool {
	var unsafe *ledger.SettingsError
	return errors.As(err, &unsafe)
}

func (w *ledgerWatch) lastError() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// ready returns the last error. With a node that fences by version no request is held, so
// that lost entries don't count.
func (w *ledgerWatch) ready(versioned bool) error {
	err := w.lastError()
	var held *settlement.Waiting
	if versioned && errors.As(err, &held) {
		return nil
	}
	return err
}
