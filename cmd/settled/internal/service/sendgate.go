package service

import (
	"context"
	"errors"
	"time"

	"settled/cmd/settled/internal/host"
	"settled/cmd/settled/internal/natsconn"
	"settled/consumer"
	"settled/consumer/operations"
	"settled/ledger"
	"settled/settlement"
)

const (
	// settingsAge is how old the last verification of the streams' settings may be
	// when a request is sent.
	settingsAge = 5 * time.Second
	// settingsRetry is after what time an outcome that settings held is tried again.
	settingsRetry = 5 * time.Second
)

// sendGate is asked before every request to the node: whether somebody stopped all
// sending, whether the store, the streams and
// the rights at NATS are as they must be, and whether each limit matches an asset.
type sendGate struct {
	*operations.EmergencyStop
	settings *consumer.SettingsMonitor
	ledger   *ledger.Ledger
	hold     *SendHold
	assets   *host.LimitAssets
	store    *storeWatch // of the embedded server; nil without one
	rights   *natsconn.RightsWatch
}

var _ settlement.EmergencyStop = sendGate{}

// Stopped implements settlement.EmergencyStop.
func (g sendGate) Stopped(ctx context.Context) error {
	if err := g.EmergencyStop.Stopped(ctx); err != nil {
		return err
	}
	if err := g.hold.Err(); err != nil {
		return err
	}
	if err := g.store.held(); err != nil {
		return err
	}
	if err := g.rights.Problem(); err != nil {
		return &settlement.Waiting{Reason: settlement.LedgerHeld, Delay: settingsRetry, Err: err}
	}
	if err := g.settings.Verified(ctx, settingsAge); err != nil {
		return &settlement.Waiting{Reason: settlement.LedgerHeld, Delay: settingsRetry, Err: err}
	}
	err := g.ledger.Verified(ctx, settingsAge)
	var unsafe *ledger.SettingsError
	switch {
	case errors.As(err, &unsafe):
		return &settlement.Waiting{Reason: settlement.LedgerHeld, Delay: settingsRetry, Err: err}
	case err != nil:
		return &settlement.Waiting{Reason: settlement.LedgerUnavailable, Err: err}
	}
	if err := g.assets.Verified(ctx); err != nil {
		return &settlement.Waiting{Reason: settlement.NotReady, Delay: settingsRetry, Err: err}
	}
	return nil
}

// complete is settlement.Settler's HoldFunc. A stop that somebody made is no reason: what
// reading finds is recorded during it.
func (g sendGate) complete(ctx context.Context) error {
	if err := g.hold.Err(); err != nil {
		return err
	}
	if err := g.store.held(); err != nil {
		return err
	}
	return g.ledger.Complete(ctx, settingsAge)
}

// Why sending is held, as a label.
const (
	HeldBySettings = "settings"     // of a stream or of the durable endanger money
	HeldByLoss     = "entries_lost" // by the ledger, and their requests may still land
	HeldByRestore  = "set_back"     // the ledger may have been set back to an earlier state
	HeldByRights   = "rights"       // NATS refuses what settled must publish
)

func heldCauses() []string { return []string{HeldBySettings, HeldByLoss, HeldByRestore, HeldByRights} }

// Held reports whether this replica sends nothing for that cause.
func (s *Service) Held(cause string) bool {
	s.Mu.Lock()
	settings, books := s.settings, s.Books
	s.Mu.Unlock()
	if books == nil {
		return false // nothing is sent yet
	}
	found := books.found()
	var waits *settlement.Waiting
	switch cause {
	case HeldBySettings:
		return settings.Problem() != nil || settingsOf(found)
	case HeldByLoss:
		return errors.As(found, &waits)
	case HeldByRights:
		return s.WriteRights().Problem() != nil
	default:
		return s.Hold.Err() != nil
	}
}
