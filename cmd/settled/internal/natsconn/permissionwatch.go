package natsconn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"settled/cmd/settled/internal/background"
	"settled/cmd/settled/internal/config"
)

const (
	// A server whose configuration is reloaded doesn't notify its clients, so permissions
	// are checked periodically.
	permissionInterval = 10 * time.Second
	permissionRetry    = 2 * time.Second // while one is missing
	permissionTimeout  = 2 * time.Second // of one round trip
	permissionDelay    = 250 * time.Millisecond
)

// MinPayload is the size in bytes that messages must be allowed to have: a closed entry
// with evidence and the node's answer may be that large.
const MinPayload = 1 << 20

// PermissionWatch checks while a service runs whether it may publish what it must: entries
// of the ledger, dead letters, operations, acknowledgements, and requests for outcomes.
// While it may not, nothing is sent.
type PermissionWatch struct {
	nc          *nats.Conn
	log         zerolog.Logger
	permissions []Permission
	checkNow    background.Wake

	mu         sync.Mutex
	refused    map[string]bool // by Permission.Allow
	maxPayload int64           // the server's limit if it is too low; else 0
}

func NewPermissionWatch(js jetstream.JetStream, cfg *config.Config, log zerolog.Logger) *PermissionWatch {
	watched := slices.DeleteFunc(Permissions(js, cfg), func(p Permission) bool { return p.Need != Watched })
	return &PermissionWatch{nc: js.Conn(), log: log, permissions: watched, checkNow: background.NewWake(), refused: map[string]bool{}}
}

// HandleError records a permission that the server denied. The connection's error handler
// calls it; it doesn't block.
func (w *PermissionWatch) HandleError(err error) {
	if w == nil || !errors.Is(err, nats.ErrPermissionViolation) || isProbeError(err) {
		return
	}
	for _, p := range w.permissions {
		if p.isAboutSubject(err) {
			w.record(p, true)
			w.CheckSoon()
		}
	}
}

// isProbeError reports whether the server denied a probe.
func isProbeError(err error) bool {
	return errors.Is(err, nats.ErrPermissionViolation) && strings.Contains(err.Error(), "."+probeToken)
}

// CheckSoon makes Run check the permissions now.
func (w *PermissionWatch) CheckSoon() {
	if w != nil {
		w.checkNow.Now()
	}
}

// Run checks the permissions until ctx ends.
func (w *PermissionWatch) Run(ctx context.Context) {
	for ctx.Err() == nil {
		w.CheckAll(ctx)
		interval := permissionInterval
		if w.Problem() != nil {
			interval = permissionRetry
		}
		w.checkNow.Wait(ctx, interval)
		background.Sleep(ctx, permissionDelay) // denials come in bursts
	}
}

// CheckAll checks every permission once, and the size of messages.
func (w *PermissionWatch) CheckAll(ctx context.Context) {
	w.checkMaxPayload()
	for _, p := range w.permissions {
		allowed, err := w.isAllowed(ctx, p)
		if err != nil {
			return // no connection, which is reported elsewhere
		}
		w.record(p, !allowed)
	}
}

// isAllowed reports whether a permission exists. If it has only one subject, the server
// answers there, and the connection's last error may be an old one: then a request is sent.
func (w *PermissionWatch) isAllowed(ctx context.Context, p Permission) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, permissionTimeout)
	defer cancel()
	if p.subject != "" {
		return CanPublish(ctx, w.nc, p.Subject())
	}
	_, err := w.nc.RequestWithContext(ctx, p.Allow, []byte(InvalidJSON)) // which delivers nothing
	switch {
	case err == nil || errors.Is(err, nats.ErrNoResponders): // no durable: that is reported elsewhere
		return true, nil
	case PermissionError(w.nc, p.Allow) != nil:
		return false, nil
	}
	return false, err
}

func (w *PermissionWatch) checkMaxPayload() {
	limit := w.nc.MaxPayload()
	if limit >= MinPayload {
		limit = 0
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if limit == w.maxPayload {
		return
	}
	w.maxPayload = limit
	if limit > 0 {
		w.log.Error().Err(payloadError(limit)).Msg("all sending is held")
	} else {
		w.log.Info().Msg("NATS takes messages that are as large as the result of a close again")
	}
}

func payloadError(limit int64) error {
	return fmt.Errorf("NATS takes messages of %d bytes at most, and the result of a close can have %d: set max_payload: 1MB in the configuration of the servers, or in the account's limits", limit, MinPayload)
}

// record keeps whether a permission is missing, and logs a change.
func (w *PermissionWatch) record(p Permission, missing bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case missing == w.refused[p.Allow]:
	case missing:
		w.refused[p.Allow] = true
		w.log.Error().Str("allow", p.Allow).Msg("all sending is held: NATS refuses settled's user the right to publish, so " + p.Consequence)
	default:
		delete(w.refused, p.Allow)
		w.log.Info().Str("allow", p.Allow).Msg("NATS permits settled's user to publish again")
	}
}

// Problem returns which permissions are missing and what to do; nil: none is.
func (w *PermissionWatch) Problem() error {
	if w == nil {
		return nil // the service doesn't run yet
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var allow, consequences []string
	for _, p := range w.permissions {
		if w.refused[p.Allow] {
			allow, consequences = append(allow, strconv.Quote(p.Allow)), append(consequences, p.Consequence)
		}
	}
	switch {
	case allow == nil && w.maxPayload > 0:
		return payloadError(w.maxPayload)
	case allow == nil:
		return nil
	}
	return fmt.Errorf("NATS refuses settled's user the right to publish: %s; restore publish: [%s] in its permissions (deploy/nats/settled.conf) and reload the servers", strings.Join(slices.Compact(consequences), ", "), strings.Join(allow, ", "))
}
