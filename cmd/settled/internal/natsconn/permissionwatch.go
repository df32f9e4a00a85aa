package natsconn

import (
	"context"
	"crypto/rand"
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
	"settled/consumer"
	"settled/ledger"
)

const (
	// A server whose configuration is reloaded doesn't notify its clients, so permissions
	// are checked periodically.
	permissionInterval = 10 * time.Second
	permissionRetry    = 2 * time.Second // while one is missing
	permissionTimeout  = 2 * time.Second // of one round trip
	permissionDelay    = 250 * time.Millisecond

	// probeToken begins the last token of every subject that is tried.
	probeToken = "rights-"
)

// InvalidJSON is the payload of probes of the API, which rejects it as malformed.
const InvalidJSON = "{"

// MinPayload is the size in bytes that messages must be allowed to have: a closed entry
// with evidence and the node's answer may be that large.
const MinPayload = 1 << 20

// permission is one that a running service needs.
type permission struct {
	prefix      string // of the subjects that it is about
	subject     string // of these one that has no effect, but for its last token
	allow       string // what the server's configuration should allow
	consequence string // of not having it
	isRequest   bool   // the server answers on subject, which is the same each time
}

// PermissionWatch checks while a service runs whether it may publish what it must: entries
// of the ledger, dead letters, operations, acknowledgements, and requests for outcomes.
// While it may not, nothing is sent.
type PermissionWatch struct {
	nc          *nats.Conn
	log         zerolog.Logger
	permissions []permission
	checkNow    background.Wake

	mu         sync.Mutex
	refused    map[string]bool // by permission.allow
	maxPayload int64           // the server's limit if it is too low; else 0
}

func NewPermissionWatch(js jetstream.JetStream, cfg *config.Config, log zerolog.Logger) *PermissionWatch {
	next := consumer.NextSubject(js, cfg.NATSPrefix, cfg.ConsumerDurable)
	prefix, durable := cfg.NATSPrefix, consumer.OutcomesStream(cfg.NATSPrefix)+"."+cfg.ConsumerDurable
	return &PermissionWatch{nc: js.Conn(), log: log, checkNow: background.NewWake(), refused: map[string]bool{}, permissions: []permission{
		{prefix + "settlement.", ledger.Subject(prefix, "closing", probeToken), ledger.Subject(prefix, "*", "*"), "the ledger can't be written", false},
		{prefix + "deadletter.", consumer.DeadLetterSubject(prefix, probeToken), prefix + "deadletter.*", "dead letters can't be stored", false},
		{prefix + "operation.", consumer.OperationSubject(prefix, probeToken), prefix + "operation.*", "a stop can't be recorded", false},
		{"$JS.ACK." + durable + ".", "$JS.ACK." + durable + "." + probeToken, "$JS.ACK." + durable + ".>", "outcomes can't be acknowledged", false},
		{next, next, next, "outcomes can't be fetched", true},
	}}
}

// HandleError records a permission that the server denied. The connection's error handler
// calls it; it doesn't block.
func (w *PermissionWatch) HandleError(err error) {
	if w == nil || !errors.Is(err, nats.ErrPermissionViolation) || isProbeError(err) {
		return
	}
	for _, p := range w.permissions {
		if strings.Contains(err.Error(), `Publish to "`+p.prefix) {
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

func (w *PermissionWatch) isAllowed(ctx context.Context, p permission) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, permissionTimeout)
	defer cancel()
	if !p.isRequest {
		// A subject is used once, since the connection keeps its last error.
		return CanPublish(ctx, w.nc, p.subject+rand.Text())
	}
	_, err := w.nc.RequestWithContext(ctx, p.subject, []byte(InvalidJSON)) // which delivers nothing
	switch {
	case err == nil || errors.Is(err, nats.ErrNoResponders): // no durable: that is reported elsewhere
		return true, nil
	case PermissionError(w.nc, p.subject) != nil:
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

// CanPublish reports whether the connection's user may publish to a subject. It publishes
// a message that has no effect: no part of the server can parse it, and it expects to be
// stored in a stream whose name is invalid. The server reports that it denies a message
// before it answers the ping after it. The error is that of the connection.
func CanPublish(ctx context.Context, nc *nats.Conn, subject string) (bool, error) {
	m := nats.NewMsg(subject)
	m.Header.Set("Nats-Expected-Stream", "*settled rights*")
	m.Header.Set("Nats-Expected-Last-Sequence", strconv.Itoa(1<<53))
	m.Data, m.Reply = []byte(InvalidJSON), nc.NewInbox()
	if err := nc.PublishMsg(m); err != nil {
		return false, err
	}
	if err := nc.FlushWithContext(ctx); err != nil {
		return false, err
	}
	return PermissionError(nc, subject) == nil, nil
}

// PermissionError returns the connection's last error if the server denied that subject.
func PermissionError(nc *nats.Conn, subject string) error {
	last := nc.LastError()
	if errors.Is(last, nats.ErrPermissionViolation) && strings.Contains(last.Error(), strconv.Quote(subject)) {
		return last
	}
	return nil
}

// record keeps whether a permission is missing, and logs a change.
func (w *PermissionWatch) record(p permission, missing bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case missing == w.refused[p.allow]:
	case missing:
		w.refused[p.allow] = true
		w.log.Error().Str("allow", p.allow).Msg("all sending is held: NATS refuses settled's user the right to publish, so " + p.consequence)
	default:
		delete(w.refused, p.allow)
		w.log.Info().Str("allow", p.allow).Msg("NATS lets settled's user publish again")
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
		if w.refused[p.allow] {
			allow, consequences = append(allow, strconv.Quote(p.allow)), append(consequences, p.consequence)
		}
	}
	switch {
	case allow == nil && w.maxPayload > 0:
		return payloadError(w.maxPayload)
	case allow == nil:
		return nil
	}
	return fmt.Errorf("NATS refuses settled's user the right to publish: %s; put publish: [%s] back into its permissions (deploy/nats/settled.conf) and reload the servers", strings.Join(slices.Compact(consequences), ", "), strings.Join(allow, ", "))
}
