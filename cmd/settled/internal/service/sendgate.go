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
	// settingsRetry is the delay of an outcome that is held because of settings.
	settingsRetry = 5 * time.Second
)

// sendGate decides before every request to the node whether it may be sent: an operator may
// have stopped all sending; store, streams and permissions at NATS must be safe; and each
// limit must match an asset.
type sendGate struct {
	*operations.EmergencyStop
	settings    *consumer.SettingsMonitor
	ledger      *ledger.Ledger
	hold        *SendHold
	assets      *host.LimitAssets
	store       *storeWatch // of the embedded server; nil without one
	permissions *natsconn.PermissionWatch
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
	if err := g.store.holdError(); err != nil {
		return err
	}
	if err := g.permissions.Problem(); err != nil {
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

// ledgerComplete is settlement.Settler's HoldFunc. During a stop by an operator, what is read at
// the node is still recorded.
func (g sendGate) ledgerComplete(ctx context.Context) error {
	if err := g.hold.Err(); err != nil {
		return err
	}
	if err := g.store.holdError(); err != nil {
		return err
	}
	return g.ledger.Complete(ctx, settingsAge)
}

// Why sending is held, as a label.
const (
	HeldBySettings    = "settings"     // of a stream or of the durable endanger money
	HeldByLoss        = "entries_lost" // by the ledger, and their requests may still be executed
	HeldByRestore     = "set_back"     // the ledger may have been set back to an earlier state
	HeldByPermissions = "rights"       // NATS denies what settled must publish
)

func heldCauses() []string {
	return []string{HeldBySettings, HeldByLoss, HeldByRestore, HeldByPermissions}
}

// Held reports whether this replica sends nothing for that cause.
func (s *Service) Held(cause string) bool {
	s.Mu.Lock()
	settings, watch := s.settings, s.LedgerWatch
	s.Mu.Unlock()
	if watch == nil {
		return false // nothing is sent yet
	}
	found := watch.lastError()
	var waits *settlement.Waiting
	switch cause {
	case HeldBySettings:
		return settings.Problem() != nil || isSettingsError(found)
	case HeldByLoss:
		return errors.As(found, &waits)
	case HeldByPermissions:
		return s.PermissionWatch().Problem() != nil
	default:
		return s.Hold.Err() != nil
	}
}
