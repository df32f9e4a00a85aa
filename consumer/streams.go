package consumer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// earlierMaxAckPending is the max_ack_pending that earlier versions created the
// durable with.
const earlierMaxAckPending = 10000

const (
	outcomeSize     = 256 << 10 // bytes of an outcome message, headers included
	letterSize      = 512 << 10 // bytes that a stream of dead letters must take at least
	maxAckPending   = -1        // no limit: a message given back with a delay counts until it is answered, and a limit would let those of one session keep all others from being delivered
	duplicateWindow = 2 * time.Minute
	letterWindow    = time.Hour // a failure whose entry could not be stored for so long has one dead letter still
)

// StreamConfigs are the streams that this package works on, as they are created:
// outcomes, dead letters, operations.
func StreamConfigs(cfg Config) []jetstream.StreamConfig {
	cfg = cfg.withDefaults()
	outcomes := stream(cfg, OutcomesStream(cfg.Prefix), OutcomesFilter(cfg.Prefix), cfg.MaxBytes.Outcomes)
	outcomes.Description = "Outcomes of ClearNode app sessions, to be settled"
	outcomes.MaxMsgSize = outcomeSize
	outcomes.Duplicates = duplicateWindow

	letters := stream(cfg, DeadLettersStream(cfg.Prefix), DeadLetterSubject(cfg.Prefix, "*"), cfg.MaxBytes.DeadLetters)
	letters.Description = "Outcomes that failed, for operators to replay or discard"
	letters.Duplicates = letterWindow

	operations := stream(cfg, OperationsStream(cfg.Prefix), OperationSubject(cfg.Prefix, "*"), cfg.MaxBytes.Operations)
	operations.Description = "What operators did, and when settled stopped by itself"
	operations.Duplicates = duplicateWindow
	operations.Discard = jetstream.DiscardNew
	operations.DenyDelete, operations.DenyPurge = true, true
	return []jetstream.StreamConfig{outcomes, letters, operations}
}

// stream is what all three have in common. Direct get stays off: it answers from
// replicas that lag, and what reads here decides by it. A stream with a size refuses
// what is beyond it, for a dropped message would be lost.
func stream(cfg Config, name, subject string, maxBytes int64) jetstream.StreamConfig {
	s := jetstream.StreamConfig{
		Name: name, Subjects: []string{subject}, Replicas: cfg.Replicas,
		Storage: jetstream.FileStorage, Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardOld,
		MaxMsgs: -1, MaxBytes: -1, MaxMsgsPerSubject: -1, MaxConsumers: -1, MaxMsgSize: -1,
	}
	if maxBytes > 0 {
		s.MaxBytes, s.Discard = maxBytes, jetstream.DiscardNew
	}
	return s
}

// DurableConfig is the durable pull consumer as it is created. MaxDeliver is
// unlimited, for a message that ran out of deliveries would stay stuck unseen;
// there is no BackOff, for it distorts the delay of what is given back.
func DurableConfig(cfg Config) jetstream.ConsumerConfig {
	cfg = cfg.withDefaults()
	return jetstream.ConsumerConfig{
		Durable: cfg.Durable, Description: "Takes outcomes to be settled",
		DeliverPolicy: jetstream.DeliverAllPolicy, AckPolicy: jetstream.AckExplicitPolicy,
		AckWait: cfg.AckWait, MaxDeliver: -1, MaxAckPending: maxAckPending,
		FilterSubject: OutcomesFilter(cfg.Prefix),
	}
}

// CreateCommand is the nats CLI command that creates the stream.
func CreateCommand(s jetstream.StreamConfig) string {
	var b strings.Builder
	fmt.Fprintf(&b, "nats stream add %s --subjects '%s' --storage file --retention limits --discard %s --replicas %d --dupe-window %s",
		s.Name, strings.Join(s.Subjects, ","), map[bool]string{true: "new", false: "old"}[s.Discard == jetstream.DiscardNew], s.Replicas, s.Duplicates)
	if s.MaxMsgSize > 0 {
		fmt.Fprintf(&b, " --max-msg-size %d", s.MaxMsgSize)
	}
	if s.MaxBytes > 0 {
		fmt.Fprintf(&b, " --max-bytes %d", s.MaxBytes)
	}
	if s.DenyDelete {
		b.WriteString(" --deny-delete --deny-purge")
	}
	if s.FirstSeq > 0 {
		fmt.Fprintf(&b, " --first-sequence %d", s.FirstSeq)
	}
	b.WriteString(" --no-allow-direct --defaults")
	return b.String()
}

// RefusedError says that a stream or the durable exists with settings that could
// lose outcomes or their results. Nothing is changed; settled doesn't start.
type RefusedError struct {
	What    string   // "stream OUTCOMES"
	Dangers []string // each with what to do
}

func (e *RefusedError) Error() string {
	return e.What + " endangers money: " + strings.Join(e.Dangers, "; ")
}

// DurableCommand is the nats CLI command that creates the durable consumer.
func DurableCommand(stream string, c jetstream.ConsumerConfig) string {
	return fmt.Sprintf("nats consumer add %s %s --pull --filter '%s' --deliver all --replay instant --ack explicit --wait %s --max-deliver=-1 --max-pending=%d --backoff none --no-headers-only --defaults",
		stream, c.Durable, c.FilterSubject, c.AckWait, c.MaxAckPending)
}

// MissingError says that a stream, or the durable, is missing and may not be
// created.
type MissingError struct {
	What    string // "stream OUTCOMES"
	Command string // that creates it
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("%s is missing, and nats.manage_streams is false; create it: %s", e.What, e.Command)
}

// EnsureStreams creates what is missing of OUTCOMES, DEADLETTERS and OPERATIONS,
// or with ManageStreams false says what is missing (*MissingError). It changes
// nothing that exists: it warns of differences and refuses what could lose
// outcomes (*RefusedError). All streams are looked at before it returns. Where
// OUTCOMES was lost while the ledger was not, it begins beyond every sequence that
// the ledger can name, and a warning says what was lost.
func EnsureStreams(ctx context.Context, js jetstream.JetStream, cfg Config) (warnings []string, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("ensure streams: %w", err)
	}
	cfg = cfg.withDefaults()
	var errs []error
	for _, want := range StreamConfigs(cfg) {
		warned, err := ensureStream(ctx, js, want, cfg)
		warnings = append(warnings, warned...)
		if err != nil {
			errs = append(errs, err)
		}
	}
	return warnings, errors.Join(errs...)
}

// ensureStream makes the stream where it is missing, and judges it where it is
// there, also where another replica made it at the same moment.
func ensureStream(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig, cfg Config) ([]string, error) {
	s, err := js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if want.FirstSeq, err = firstSequence(ctx, js, want.Name, cfg.Prefix); err != nil {
			return nil, fmt.Errorf("stream %s: %w", want.Name, err)
		}
		if !cfg.ManageStreams {
			return nil, &MissingError{What: "stream " + want.Name, Command: CreateCommand(want)}
		}
		s, err = createStream(ctx, js, want)
	}
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", want.Name, err)
	}
	warnings, dangers := judgeStream(s.CachedInfo().Config, want, cfg.Prefix)
	if want.FirstSeq > 0 {
		warnings = append(warnings, lostWarning(s.CachedInfo(), cfg.Prefix))
	}
	if len(dangers) > 0 {
		return warnings, &RefusedError{What: "stream " + want.Name, Dangers: dangers}
	}
	return warnings, nil
}

// subjectsOverlap is the API's error where another stream takes some of the subjects.
const subjectsOverlap jetstream.ErrorCode = 10065

func createStream(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig) (jetstream.Stream, error) {
	s, err := js.CreateStream(ctx, want)
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return js.Stream(ctx, want.Name)
	}
	var api *jetstream.APIError
	if errors.As(err, &api) && api.ErrorCode == subjectsOverlap {
		return nil, fmt.Errorf("create: %w; which stream takes %s already?", err, strings.Join(want.Subjects, ", "))
	}
	if err != nil {
		return nil, fmt.Errorf("create: %w", err)
	}
	return s, nil
}

// EnsureDurable creates the durable consumer where it is missing, or with
// ManageStreams false says so (*MissingError). Where it exists, it removes the limit
// max_ack_pending that earlier versions set, if ManageStreams is true, and changes
// nothing else. It warns of differences and refuses what could leave an outcome
// unsettled (*RefusedError).
func EnsureDurable(ctx context.Context, js jetstream.JetStream, cfg Config) (*jetstream.ConsumerInfo, []string, error) {
	cfg = cfg.withDefaults()
	s, err := js.Stream(ctx, OutcomesStream(cfg.Prefix))
	if err != nil {
		return nil, nil, fmt.Errorf("stream %s: %w", OutcomesStream(cfg.Prefix), err)
	}
	info, warnings, err := ensureDurable(ctx, s, cfg)
	if err != nil {
		return nil, warnings, fmt.Errorf("consumer %s of %s: %w", cfg.Durable, OutcomesStream(cfg.Prefix), err)
	}
	return info, warnings, nil
}

func ensureDurable(ctx context.Context, s jetstream.Stream, cfg Config) (*jetstream.ConsumerInfo, []string, error) {
	want := DurableConfig(cfg)
	consumer, err := s.Consumer(ctx, want.Durable)
	if errors.Is(err, jetstream.ErrNotPullConsumer) {
		return nil, nil, &RefusedError{What: "consumer " + want.Durable, Dangers: []string{"it pushes: delete it or set consumer.durable"}}
	}
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		if !cfg.ManageStreams {
			return nil, nil, &MissingError{What: "consumer " + want.Durable, Command: DurableCommand(OutcomesStream(cfg.Prefix), want)}
		}
		consumer, err = s.CreateConsumer(ctx, want)
		if errors.Is(err, jetstream.ErrConsumerExists) {
			consumer, err = s.Consumer(ctx, want.Durable)
		}
	}
	if err != nil {
		return nil, nil, err
	}
	info := consumer.CachedInfo()
	warnings, dangers := judgeDurable(info.Config, want)
	if len(dangers) > 0 {
		return nil, warnings, &RefusedError{What: "consumer " + want.Durable, Dangers: dangers}
	}
	if cfg.ManageStreams && info.Config.MaxAckPending == earlierMaxAckPending {
		return withoutAckLimit(ctx, s, info, want, warnings)
	}
	return info, warnings, nil
}

// withoutAckLimit removes the limit that an earlier version created the durable with.
// Where the server refuses the change, a warning says so: outcomes are settled all the
// same, and those of one session may delay those of others.
func withoutAckLimit(ctx context.Context, s jetstream.Stream, info *jetstream.ConsumerInfo, want jetstream.ConsumerConfig, warnings []string) (*jetstream.ConsumerInfo, []string, error) {
	changed := info.Config
	changed.MaxAckPending = want.MaxAckPending
	consumer, err := s.UpdateConsumer(ctx, changed)
	if err != nil {
		return info, append(warnings, fmt.Sprintf("consumer %s: its max_ack_pending could not be removed: %v", want.Durable, err)), nil
	}
	info = consumer.CachedInfo()
	warnings, _ = judgeDurable(info.Config, want)
	return info, warnings, nil
}
