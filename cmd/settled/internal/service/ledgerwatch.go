package service

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"settled/cmd/settled/internal/natsconn"
	"settled/consumer"
	"settled/ledger"
	"settled/settlement"
)

// How often the ledger's stream is looked at, how soon again while something is
// wrong, and how long one look may take.
const (
	ledgerLook      = 2 * time.Second
	ledgerLookAgain = 500 * time.Millisecond
	ledgerLookTime  = 2 * time.Second
)

// ledgerWatch looks whether the ledger can be written, says so to whoever asks
// whether the service is ready, and logs when that changes. What must not be sent
// the ledger itself holds back, watched or not.
type ledgerWatch struct {
	ledger  *ledger.Ledger
	log     zerolog.Logger
	hurried chan struct{}

	mu     sync.Mutex
	wrong  error
	remind consumer.Reminder // of settings that hold sending
}

func NewLedgerWatch(l *ledger.Ledger, log zerolog.Logger) *ledgerWatch {
	return &ledgerWatch{ledger: l, log: log, hurried: make(chan struct{}, 1)}
}

// hurry asks for a look now.
func (w *ledgerWatch) hurry() {
	select {
	case w.hurried <- struct{}{}:
	default: // asked already
	}
}

// run looks again and again, until ctx ends.
func (w *ledgerWatch) run(ctx context.Context) {
	for w.wait(ctx) {
		w.look(ctx)
	}
}

func (w *ledgerWatch) wait(ctx context.Context) bool {
	pause := ledgerLook
	if w.found() != nil {
		pause = ledgerLookAgain
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-w.hurried:
	case <-timer.C:
	}
	return true
}

// look looks once.
func (w *ledgerWatch) look(ctx context.Context) {
	looking, cancel := context.WithTimeout(ctx, ledgerLookTime)
	defer cancel()
	err := w.ledger.Check(looking)
	if ctx.Err() != nil {
		return // we are stopped
	}
	w.mu.Lock()
	before := w.wrong
	w.wrong = err
	w.mu.Unlock()
	w.Tell(before, err)
}

// Tell logs what is wrong when it begins, not at every look.
func (w *ledgerWatch) Tell(before, now error) {
	switch {
	case now == nil && before != nil:
		w.remind = consumer.Reminder{}
		w.log.Info().Msg("the ledger can be used again")
	case now != nil && natsconn.Away(now):
		if before == nil || !natsconn.Away(before) {
			w.log.Warn().Err(now).Msg("the ledger can't be reached, and nothing is sent: are enough of the NATS servers up? `settled doctor` says which stream has no leader")
		}
	case settingsOf(now):
		if w.remind.Due(now.Error(), time.Now()) {
			w.log.Error().Err(now).Msg("sending is held until the ledger's settings are put back: see SettledSettingsChanged in deploy/RUNBOOK.md")
		}
	case now != nil && (before == nil || before.Error() != now.Error()):
		w.log.Error().Err(now).Msg("the ledger can't be used: see The ledger was lost in deploy/RUNBOOK.md")
	}
}

// settingsOf reports whether an error is about the stream's settings.
func settingsOf(err error) bool {
	var unsafe *ledger.SettingsError
	return errors.As(err, &unsafe)
}

func (w *ledgerWatch) found() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.wrong
}

// ready is what was found last. A node that fences by version is not waited for:
// there no request is held.
func (w *ledgerWatch) ready(versioned bool) error {
	err := w.found()
	var held *settlement.Waiting
	if versioned && errors.As(err, &held) {
		return nil
	}
	return err
}
