package service

import (
	"cmp"
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
	hold        *sendHold
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
	if err := cmp.Or(g.hold.Err(), held(settlement.LedgerHeld, g.store.problem()), held(settlement.LedgerHeld, g.permissions.Problem())); err != nil {
		return err
	}
	if err := g.settings.Verified(ctx, settingsAge); err != nil {
		return held(settlement.LedgerHeld, err)
	}
	if err := g.ledger.Verified(ctx, settingsAge); isSettingsError(err) {
		return held(settlement.LedgerHeld, err)
	} else if err != nil {
		return &settlement.Waiting{Reason: settlement.LedgerUnavailable, Err: err}
	}
	return held(settlement.NotReady, g.assets.Verified(ctx))
}

// held returns an error as a reason for which outcomes wait; nil for nil.
func held(reason settlement.Reason, err error) error {
	if err == nil {
		return nil
	}
	return &settlement.Waiting{Reason: reason, Delay: settingsRetry, Err: err}
}

// ledgerComplete is settlement.Settler's HoldFunc. During a stop by an operator, what is read at
// the node is still recorded.
func (g sendGate) ledgerComplete(ctx context.Context) error {
	if err := cmp.Or(g.hold.Err(), held(settlement.LedgerHeld, g.store.problem())); err != nil {
		return err
	}
	return g.ledger.Complete(ctx, settingsAge)
}

// Why sending is held, as a label.
const (
	HeldBySettings    = "settings"     // of a stream or of the durable endanger money
	HeldByLoss        = "entries_lost" // by the ledger, and their requests may still be executed
	HeldByRestore     = "set_back"     // the ledger may have been restored from an older copy
	HeldByPermissions = "rights"       // NATS denies what settled must publish
)

func heldCauses() []string {
	return []string{HeldBySettings, HeldByLoss, HeldByRestore, HeldByPermissions}
}

// Held reports whether this replica sends nothing for that cause.
func (s *Service) Held(cause string) bool {
	o := s.opened.Load()
	if o == nil {
		return false // nothing is sent yet
	}
	found := o.watch.lastError()
	var waits *settlement.Waiting
	switch cause {
	case HeldBySettings:
		return o.settings.Problem() != nil || isSettingsError(found)
	case HeldByLoss:
		return errors.As(found, &waits)
	case HeldByPermissions:
		return o.permissions.Problem() != nil
	default:
		return s.hold.Err() != nil
	}
}
