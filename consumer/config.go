package consumer

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"settled/settlement"
)

// MaxBytes are sizes of streams in bytes; zero is no limit. A stream with one refuses
// messages once it is full, and drops none.
type MaxBytes struct{ Outcomes, DeadLetters, Operations int64 }

// Config is what a Consumer, the streams and the dead letters need.
type Config struct {
	Prefix        string   // before every subject and, upper-cased, every stream name: "prod."; zero: none
	Replicas      int      // of streams that are created; zero: 1
	MaxBytes      MaxBytes // of streams that are created
	ManageStreams bool     // create the streams and the durable that are missing; zero: nothing is created
	Durable       string   // zero: "settled"

	Workers int           // messages in hand at once; zero: 64
	AckWait time.Duration // after which an unanswered message is delivered again; zero: 30s

	// How long a message that can't be settled yet is given back for, growing
	// with its deliveries. Zero: 500ms and 2m.
	BackoffInitial, BackoffMax time.Duration

	// Ready is the node's readiness: nothing is fetched while it is an error. It
	// must not block. Nil: always ready.
	Ready func() error
	// Changed returns a channel that is closed at the next change of readiness.
	// Nil: Ready is asked once a second only.
	Changed func() <-chan struct{}

	// TrustFunc says why an outcome is not trusted, as settlement.Settler's does, which
	// records nothing of such an outcome in its session: it is settled without waiting
	// for the session's turn, so that messages nobody signed can't hold up one that is
	// signed. Nil: every outcome waits for its session's turn.
	TrustFunc func(settlement.Outcome) *settlement.Failure

	// BeginFunc is told of each message that a worker begins: of its Outcome, and how
	// often and when it was published. The context it returns is that of everything
	// done for the message, the log's event included; the function it returns is
	// called once the message was answered. Nil: nobody is told.
	BeginFunc func(ctx context.Context, begun Result) (context.Context, func(Result))

	// ForeignFunc is called for each message in DEADLETTERS or OPERATIONS that was read
	// and is not a dead letter or a record, the same one perhaps often, by many
	// goroutines. Nil: nobody is told.
	ForeignFunc func(Foreign)

	Log        zerolog.Logger
	ResultFunc func(Result) // called once for each message that was answered, by many goroutines; may be nil
}

// most bounds what a configuration may ask for.
const (
	mostWorkers = 4096 // twice as many are taken at once
	mostBackoff = 24 * time.Hour
)

// The dot at the end is part of a prefix: without it "prod" would make
// "prodoutcome.*" in silence.
var (
	prefixForm  = regexp.MustCompile(`^([A-Za-z0-9_-]+\.)+$`)
	durableForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
)

// Validate says what is wrong with the configuration and how to mend it.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	bad := func(wrong bool, format string, args ...any) {
		if wrong {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	bad(c.Prefix != "" && !prefixForm.MatchString(c.Prefix), "nats.prefix %q: want tokens of letters, digits, _ or -, each followed by a dot, such as \"prod.\"", c.Prefix)
	bad(c.Replicas < 1 || c.Replicas > 5, "nats.replicas %d: want 1 to 5, and 1, 3 or 5 in earnest", c.Replicas)
	bad(!durableForm.MatchString(c.Durable), "consumer.durable %q: want 1 to 64 letters, digits, _ or -", c.Durable)
	bad(c.Workers < 1 || c.Workers > mostWorkers, "consumer.workers %d: want 1 to %d", c.Workers, mostWorkers)
	bad(c.AckWait < 100*time.Millisecond || c.AckWait > time.Hour, "consumer.ack_wait %s: want 100ms to 1h; 30s is usual", c.AckWait)
	bad(c.BackoffInitial < time.Millisecond, "consumer.backoff.initial %s: want at least 1ms; 500ms is usual", c.BackoffInitial)
	bad(c.BackoffMax < c.BackoffInitial || c.BackoffMax > mostBackoff, "consumer.backoff.max %s: want backoff.initial (%s) to %s", c.BackoffMax, c.BackoffInitial, mostBackoff)
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	c.Replicas = orDefault(c.Replicas, 1)
	c.Durable = orDefault(c.Durable, "settled")
	c.Workers = orDefault(c.Workers, 64)
	c.AckWait = orDefault(c.AckWait, 30*time.Second)
	c.BackoffInitial = orDefault(c.BackoffInitial, 500*time.Millisecond)
	c.BackoffMax = orDefault(c.BackoffMax, 2*time.Minute)
	return c
}

// Foreign is a message in one of settled's streams that settled did not store there. It
// has no effect.
type Foreign struct {
	Stream, Subject string
	Sequence        uint64
	Err             error // why it is not what the stream holds
}

func (f Foreign) Error() string {
	return fmt.Sprintf("message %d of %s, on %.200q, is not from settled or an operator and is ignored: %s", f.Sequence, f.Stream, f.Subject, f.Err)
}

func (c Config) foreign(stream string, raw *jetstream.RawStreamMsg, why error) {
	if c.ForeignFunc != nil {
		c.ForeignFunc(Foreign{stream, raw.Subject, raw.Sequence, why})
	}
}

func orDefault[T comparable](v, fallback T) T {
	var zero T
	if v == zero {
		return fallback
	}
	return v
}
