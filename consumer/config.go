package consumer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"settled/settlement"
)

// MaxBytes are the maximum sizes of streams in bytes; zero is no limit. A stream with a
// limit refuses messages once it is full, and discards none.
type MaxBytes struct{ Outcomes, DeadLetters, Operations int64 }

// Config configures a Consumer, the streams, the dead letters and the operations.
type Config struct {
	Prefix        string   // before every subject and, in upper case, every stream name: "prod."; zero: none
	Replicas      int      // of streams that are created; zero: 1
	MaxBytes      MaxBytes // of streams that are created
	ManageStreams bool     // create streams and the durable consumer if they are missing
	Durable       string   // zero: "settled"

	Workers int           // messages in progress at once; zero: 64
	AckWait time.Duration // after which an unanswered message is delivered again; zero: 30s

	// The delay of a message that can't be settled yet, which grows with its deliveries.
	// Zero: 500ms and 2m.
	BackoffInitial, BackoffMax time.Duration

	// Ready says whether the node is ready: nothing is fetched while it returns an error.
	// It must not block. Nil: always ready.
	Ready func() error
	// Changed returns a channel that is closed at the next change of readiness. Nil: Ready
	// is called once a second only.
	Changed func() <-chan struct{}

	// LimitFunc returns how many outcomes can be in flight at the node at this moment. At
	// most four times as many are in hand, so that replicas share the messages. It must not
	// block. Nil: twice as many as there are workers are in hand.
	LimitFunc func() int

	// TrustFunc says why an outcome is not trusted, like that of settlement.Settler, which
	// records nothing of such an outcome in its session. It is settled without waiting for
	// other outcomes of the session, so that unsigned messages can't delay a signed one.
	// Nil: every outcome waits for the others of its session.
	TrustFunc func(settlement.Outcome) *settlement.Failure

	// RequeueFunc publishes an outcome again that the server will not deliver again, and
	// returns its new sequence. A Consumer needs it.
	RequeueFunc func(ctx context.Context, sequence uint64, reason string) (again uint64, err error)

	// BeginFunc is called when a worker begins a delivery, with the Outcome, Delivered and
	// Published of its result. It returns the context of everything that is done for the
	// delivery, including its log event, and a function that is called after the answer.
	BeginFunc func(ctx context.Context, started Result) (context.Context, func(Result))

	// ForeignFunc is called, from many goroutines, for each message that was read in
	// DEADLETTERS or OPERATIONS and is not a dead letter or a record; perhaps several
	// times for the same message.
	ForeignFunc func(Foreign)

	Log        zerolog.Logger
	ResultFunc func(Result) // called once for each answered delivery, from many goroutines; may be nil
}

const (
	maxWorkers = 4096 // twice as many messages are requested at once
	maxBackoff = 24 * time.Hour
)

// A prefix ends with a dot: "prod" would silently give "prodoutcome.*".
var (
	prefixForm  = regexp.MustCompile(`^([A-Za-z0-9_-]+\.)+$`)
	durableForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
)

// Validate says what is wrong with the configuration and how to correct it.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(c.Prefix == "" || prefixForm.MatchString(c.Prefix), "nats.prefix %q: want tokens of letters, digits, _ or -, each followed by a dot, such as \"prod.\"", c.Prefix)
	check(c.Replicas >= 1 && c.Replicas <= 5, "nats.replicas %d: want 1 to 5, and 1, 3 or 5 in production", c.Replicas)
	check(durableForm.MatchString(c.Durable), "consumer.durable %q: want 1 to 64 letters, digits, _ or -", c.Durable)
	check(c.Workers >= 1 && c.Workers <= maxWorkers, "consumer.workers %d: want 1 to %d", c.Workers, maxWorkers)
	check(c.AckWait >= 100*time.Millisecond && c.AckWait <= time.Hour, "consumer.ack_wait %s: want 100ms to 1h; 30s is usual", c.AckWait)
	check(c.BackoffInitial >= time.Millisecond, "consumer.backoff.initial %s: want at least 1ms; 500ms is usual", c.BackoffInitial)
	check(c.BackoffMax >= c.BackoffInitial && c.BackoffMax <= maxBackoff, "consumer.backoff.max %s: want backoff.initial (%s) to %s", c.BackoffMax, c.BackoffInitial, maxBackoff)
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	c.Replicas = cmp.Or(c.Replicas, 1)
	c.Durable = cmp.Or(c.Durable, "settled")
	c.Workers = cmp.Or(c.Workers, 64)
	c.AckWait = cmp.Or(c.AckWait, 30*time.Second)
	c.BackoffInitial = cmp.Or(c.BackoffInitial, 500*time.Millisecond)
	c.BackoffMax = cmp.Or(c.BackoffMax, 2*time.Minute)
	return c
}

// Foreign is a message in one of settled's streams that settled did not store there. It
// has no effect.
type Foreign struct {
	Stream, Subject string
	Sequence        uint64
	Err             error // why it is not what the stream is for
}

func (f Foreign) Error() string {
	return fmt.Sprintf("message %d of %s, on %.200q, is not from settled or an operator and is ignored: %s", f.Sequence, f.Stream, f.Subject, f.Err)
}

// ReportForeign calls ForeignFunc.
func (c Config) ReportForeign(stream string, raw *jetstream.RawStreamMsg, why error) {
	if c.ForeignFunc != nil {
		c.ForeignFunc(Foreign{stream, raw.Subject, raw.Sequence, why})
	}
}
