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

	"settled/cmd/settled/internal/config"
	"settled/consumer"
)

const (
	// rightsPeriod is how often the rights are tried, and rightsRetry how often while one
	// is missing. A server whose configuration is reloaded says nothing to its clients.
	rightsPeriod = 10 * time.Second
	rightsRetry  = 2 * time.Second
	rightsWait   = 2 * time.Second // for one round trip
	rightsGap    = 250 * time.Millisecond

	// rightsToken begins the last token of every subject that is tried.
	rightsToken = "rights-"
)

// NoJSON is what is sent to the API: no request of it can be read from that.
const NoJSON = "{"

// MinPayload is the size in bytes that a message must be allowed to have: a closed entry
// with evidence and the node's answer may be that large.
const MinPayload = 1 << 20

// writeRight is what a running service must be allowed to publish.
type writeRight struct {
	begin string // of the subjects that it is about
	try   string // a subject of these that has no effect, but for its last token
	allow string
	need  string
	asks  bool // try is a subject that answers; it is the same each time
}

// RightsWatch tries while a service runs whether it may publish what it must: entries of the
// ledger, dead letters, operations, acknowledgements, and requests for outcomes. While it may not, nothing is
// sent. It is also told what the server refuses beside a request.
type RightsWatch struct {
	nc     *nats.Conn
	log    zerolog.Logger
	rights []writeRight
	asked  chan struct{}

	mu      sync.Mutex
	refused map[string]bool // by what to allow
	tooFew  int64           // the bytes that a message may have, where an entry could need more; else 0
}

func NewRightsWatch(js jetstream.JetStream, cfg *config.Config, log zerolog.Logger) *RightsWatch {
	next := consumer.NextSubject(js, cfg.NATSPrefix, cfg.ConsumerDurable)
	prefix, durable := cfg.NATSPrefix, consumer.OutcomesStream(cfg.NATSPrefix)+"."+cfg.ConsumerDurable
	return &RightsWatch{nc: js.Conn(), log: log, asked: make(chan struct{}, 1), refused: map[string]bool{}, rights: []writeRight{
		{prefix + "settlement.", prefix + "settlement.closing." + rightsToken, prefix + "settlement.*.*", "the ledger can't be written", false},
		{prefix + "deadletter.", consumer.DeadLetterSubject(prefix, rightsToken), prefix + "deadletter.*", "dead letters can't be stored", false},
		{prefix + "operation.", consumer.OperationSubject(prefix, rightsToken), prefix + "operation.*", "a stop can't be recorded", false},
		{"$JS.ACK." + durable + ".", "$JS.ACK." + durable + "." + rightsToken, "$JS.ACK." + durable + ".>", "outcomes can't be acknowledged", false},
		{next, next, next, "outcomes can't be fetched", true},
	}}
}

// Failed takes note of what the server refused: it is the connection's error callback, and
// must not block.
func (w *RightsWatch) Failed(err error) {
	if w == nil || !errors.Is(err, nats.ErrPermissionViolation) || triedRight(err) {
		return
	}
	for _, r := range w.rights {
		if strings.Contains(err.Error(), `Publish to "`+r.begin) {
			w.note(r, true)
			w.Hurry()
		}
	}
}

// triedRight reports whether the server refused what was only tried.
func triedRight(err error) bool {
	return errors.Is(err, nats.ErrPermissionViolation) && strings.Contains(err.Error(), "."+rightsToken)
}

// Hurry has the rights tried at once.
func (w *RightsWatch) Hurry() {
	if w == nil {
		return
	}
	select {
	case w.asked <- struct{}{}:
	default:
	}
}

// Run tries the rights until ctx ends.
func (w *RightsWatch) Run(ctx context.Context) {
	for {
		w.TryAll(ctx)
		period := rightsPeriod
		if w.Problem() != nil {
			period = rightsRetry
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(period):
		case <-w.asked:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(rightsGap): // refusals come in numbers
		}
	}
}

func (w *RightsWatch) TryAll(ctx context.Context) {
	w.tryPayload()
	for _, r := range w.rights {
		try := w.try
		if r.asks {
			try = w.ask
		}
		allowed, err := try(ctx, r)
		if err != nil {
			return // no connection: that is reported elsewhere
		}
		w.note(r, !allowed)
	}
}

// tryPayload looks whether the server takes messages as large as the result of a close.
func (w *RightsWatch) tryPayload() {
	most := w.nc.MaxPayload()
	if most >= MinPayload {
		most = 0
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if most == w.tooFew {
		return
	}
	w.tooFew = most
	if most > 0 {
		w.log.Error().Err(payloadError(most)).Msg("all sending is held")
	} else {
		w.log.Info().Msg("NATS takes messages that are as large as the result of a close again")
	}
}

func payloadError(most int64) error {
	return fmt.Errorf("NATS takes messages of %d bytes at most, and the result of a close can have %d: set max_payload: 1MB in the configuration of the servers, or in the account's limits", most, MinPayload)
}

// try uses each subject once, since the connection keeps its last error.
func (w *RightsWatch) try(ctx context.Context, r writeRight) (allowed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, rightsWait)
	defer cancel()
	return MayPublish(ctx, w.nc, r.try+rand.Text())
}

// MayPublish reports whether the connection's user may publish to a subject. It publishes
// a message that has no effect: no part of the server can read it, and it expects to be
// stored in a stream whose name is invalid. The server reports that it denies a message
// before it answers the ping after it. The error is that of the connection.
func MayPublish(ctx context.Context, nc *nats.Conn, subject string) (bool, error) {
	m := nats.NewMsg(subject)
	m.Header.Set("Nats-Expected-Stream", "*settled rights*")
	m.Header.Set("Nats-Expected-Last-Sequence", strconv.Itoa(1<<53))
	m.Data, m.Reply = []byte(NoJSON), nc.NewInbox()
	if err := nc.PublishMsg(m); err != nil {
		return false, err
	}
	if err := nc.FlushWithContext(ctx); err != nil {
		return false, err
	}
	return Denial(nc, subject) == nil, nil
}

// Denial is the connection's last error where the server denied that subject; else nil.
func Denial(nc *nats.Conn, subject string) error {
	last := nc.LastError()
	if errors.Is(last, nats.ErrPermissionViolation) && strings.Contains(last.Error(), strconv.Quote(subject)) {
		return last
	}
	return nil
}

// ask sends a request that the server refuses as malformed, where the user may send it.
func (w *RightsWatch) ask(ctx context.Context, r writeRight) (allowed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, rightsWait)
	defer cancel()
	_, err = w.nc.RequestWithContext(ctx, r.try, []byte(NoJSON)) // nothing is delivered for it
	switch {
	case err == nil || errors.Is(err, nats.ErrNoResponders): // no durable: that is reported elsewhere
		return true, nil
	case Denial(w.nc, r.try) != nil:
		return false, nil
	}
	return false, err
}

// note keeps whether a right is missing, and logs a change.
func (w *RightsWatch) note(r writeRight, missing bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case missing == w.refused[r.allow]:
	case missing:
		w.refused[r.allow] = true
		w.log.Error().Str("allow", r.allow).Msg("all sending is held: NATS refuses settled's user the right to publish, so " + r.need)
	default:
		delete(w.refused, r.allow)
		w.log.Info().Str("allow", r.allow).Msg("NATS lets settled's user publish again")
	}
}

// Problem is nil, or which rights are missing and what to do.
func (w *RightsWatch) Problem() error {
	if w == nil {
		return nil // the service doesn't run yet
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var allow, needs []string
	for _, r := range w.rights {
		if w.refused[r.allow] {
			allow, needs = append(allow, strconv.Quote(r.allow)), append(needs, r.need)
		}
	}
	switch {
	case allow == nil && w.tooFew > 0:
		return payloadError(w.tooFew)
	case allow == nil:
		return nil
	}
	return fmt.Errorf("NATS refuses settled's user the right to publish: %s; put publish: [%s] back into its permissions (deploy/nats/settled.conf) and reload the servers", strings.Join(slices.Compact(needs), ", "), strings.Join(allow, ", "))
}
