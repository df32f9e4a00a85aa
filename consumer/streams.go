package consumer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"settled/ledger/streamreader"
)

const (
	outcomeSize   = 256 << 10 // the largest outcome message in bytes, headers included
	letterSize    = 512 << 10 // bytes that a stream of dead letters must accept at least
	maxAckPending = -1        // no limit: messages that were returned with a delay count too, and those of one session could block all others

	// earlierMaxAckPending is the limit that earlier versions created the durable with.
	earlierMaxAckPending = 10000

	// DuplicateWindow is the time in which OUTCOMES and OPERATIONS remember message ids.
	DuplicateWindow = 2 * time.Minute
	letterWindow    = time.Hour // the same of DEADLETTERS: a failure whose entry can't be stored for so long still has one dead letter
)

// StreamConfigs returns the streams as they are created: outcomes, dead letters,
// operations.
func StreamConfigs(cfg Config) []jetstream.StreamConfig {
	cfg = cfg.withDefaults()
	outcomes := streamConfig(cfg, OutcomesStream(cfg.Prefix), OutcomesFilter(cfg.Prefix), cfg.MaxBytes.Outcomes)
	outcomes.Description = "Outcomes of ClearNode app sessions, to be settled"
	outcomes.MaxMsgSize = outcomeSize
	outcomes.Duplicates = DuplicateWindow

	letters := streamConfig(cfg, DeadLettersStream(cfg.Prefix), DeadLetterSubject(cfg.Prefix, "*"), cfg.MaxBytes.DeadLetters)
	letters.Description = "Outcomes that failed, for operators to replay or discard"
	letters.Duplicates = letterWindow

	operations := streamConfig(cfg, OperationsStream(cfg.Prefix), OperationSubject(cfg.Prefix, "*"), cfg.MaxBytes.Operations)
	operations.Description = "What operators did, and when settled stopped by itself"
	operations.Duplicates = DuplicateWindow
	operations.Discard = jetstream.DiscardNew
	operations.DenyDelete, operations.DenyPurge = true, true
	return []jetstream.StreamConfig{outcomes, letters, operations}
}

// streamConfig is what the three have in common. Direct get is off: it is answered by
// replicas that lag behind, and decisions depend on the answers. A stream with a size
// limit refuses messages beyond it, because a discarded message would be lost.
func streamConfig(cfg Config, name, subject string, maxBytes int64) jetstream.StreamConfig {
	s := jetstream.StreamConfig{
		Name: name, Subjects: []string{subject}, Replicas: cfg.Replicas,
		Storage: jetstream.FileStorage, Compression: jetstream.S2Compression,
		Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardOld,
		MaxMsgs: -1, MaxBytes: -1, MaxMsgsPerSubject: -1, MaxConsumers: -1, MaxMsgSize: -1,
	}
	if maxBytes > 0 {
		s.MaxBytes, s.Discard = maxBytes, jetstream.DiscardNew
	}
	return s
}

// DurableConfig returns the durable pull consumer as it is created. MaxDeliver is
// unlimited, because a message without deliveries left would never be settled; there is no
// BackOff, because it changes the delay of messages that are returned.
func DurableConfig(cfg Config) jetstream.ConsumerConfig {
	cfg = cfg.withDefaults()
	return jetstream.ConsumerConfig{
		Durable: cfg.Durable, Description: "Takes outcomes to be settled",
		DeliverPolicy: jetstream.DeliverAllPolicy, AckPolicy: jetstream.AckExplicitPolicy,
		AckWait: cfg.AckWait, MaxDeliver: -1, MaxAckPending: maxAckPending,
		FilterSubject: OutcomesFilter(cfg.Prefix),
	}
}

// CreateCommand returns the nats CLI command that creates the stream.
func CreateCommand(s jetstream.StreamConfig) string {
	var b strings.Builder
	fmt.Fprintf(&b, "nats stream add %s --subjects '%s' --storage file --compression s2 --retention limits --discard %s --replicas %d --dupe-window %s",
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

// DurableCommand returns the nats CLI command that creates the durable consumer.
func DurableCommand(stream string, c jetstream.ConsumerConfig) string {
	return fmt.Sprintf("nats consumer add %s %s --pull --filter '%s' --deliver all --replay instant --ack explicit --wait %s --max-deliver=-1 --max-pending=%d --backoff none --no-headers-only --defaults",
		stream, c.Durable, c.FilterSubject, c.AckWait, c.MaxAckPending)
}

// RefusedError says that a stream or the durable consumer has settings that could lose
// outcomes or their results. Nothing is changed, and settled does not start.
type RefusedError struct {
	What    string   // "stream OUTCOMES"
	Dangers []string // each with what to do
}

func (e *RefusedError) Error() string {
	return e.What + " endangers money: " + strings.Join(e.Dangers, "; ")
}

// MissingError says that a stream or the durable consumer is missing and may not be
// created.
type MissingError struct {
	What    string // "stream OUTCOMES"
	Command string // that creates it
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("%s is missing, and nats.manage_streams is false; create it: %s", e.What, e.Command)
}

// EnsureStreams creates OUTCOMES, DEADLETTERS and OPERATIONS if they are missing, or
// returns *MissingError if ManageStreams is false. It does not change streams that exist:
// it warns of differences and refuses settings that could lose outcomes (*RefusedError).
// The error covers all streams. If OUTCOMES was lost and the ledger was not, it begins
// beyond every sequence that the ledger can name, and a warning says what was lost.
func EnsureStreams(ctx context.Context, js jetstream.JetStream, cfg Config) (warnings []string, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("ensure streams: %w", err)
	}
	cfg = cfg.withDefaults()
	var errs []error
	for _, want := range StreamConfigs(cfg) {
		i := inspectStream(ctx, js, want, cfg.Prefix)
		lost := i.Lost
		if i.Err == nil && i.Create != "" && cfg.ManageStreams {
			want.FirstSeq = i.firstSequence
			if _, err := createStream(ctx, js, want); err != nil {
				errs = append(errs, fmt.Errorf("stream %s: %w", want.Name, err))
				continue
			}
			i = inspectStream(ctx, js, want, cfg.Prefix)
		}
		warnings = append(warnings, i.Warnings...)
		switch {
		case i.Err != nil:
			errs = append(errs, fmt.Errorf("stream %s: %w", want.Name, i.Err))
		case i.Create != "":
			errs = append(errs, &MissingError{What: "stream " + want.Name, Command: i.Create})
		case len(i.Dangers) > 0:
			errs = append(errs, &RefusedError{What: "stream " + want.Name, Dangers: i.Dangers})
		case lost:
			warnings = append(warnings, fmt.Sprintf("STREAM %s WAS LOST: it was missing while the ledger %s has entries. It was created again, empty, beginning at sequence %d, so that no sequence in the ledger is used again. Outcomes in it that had no result are lost: publish them again",
				want.Name, ledgerStream(cfg.Prefix), i.Stream.State.FirstSeq))
		}
	}
	return warnings, errors.Join(errs...)
}

// subjectsOverlap is the API's error if another stream has some of the subjects.
const subjectsOverlap jetstream.ErrorCode = 10065

// createStream creates a stream, unless another replica has created it at the same moment.
func createStream(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig) (jetstream.Stream, error) {
	s, err := js.CreateStream(ctx, want)
	var api *jetstream.APIError
	switch {
	case errors.Is(err, jetstream.ErrStreamNameAlreadyInUse):
		return js.Stream(ctx, want.Name)
	case errors.As(err, &api) && api.ErrorCode == subjectsOverlap:
		return nil, fmt.Errorf("create: %w; which stream has %s already?", err, strings.Join(want.Subjects, ", "))
	case err != nil:
		return nil, fmt.Errorf("create: %w", err)
	}
	return s, nil
}

// EnsureDurable creates the durable consumer if it is missing, or returns *MissingError if
// ManageStreams is false. If ManageStreams is true, it removes the max_ack_pending that
// earlier versions set; it changes nothing else. It warns of differences and refuses
// settings that could leave an outcome unsettled (*RefusedError).
func EnsureDurable(ctx context.Context, js jetstream.JetStream, cfg Config) (*jetstream.ConsumerInfo, []string, error) {
	cfg = cfg.withDefaults()
	want, stream := DurableConfig(cfg), OutcomesStream(cfg.Prefix)
	i := InspectDurable(ctx, js, cfg)
	if i.Create != "" && cfg.ManageStreams {
		if _, err := js.CreateConsumer(ctx, stream, want); err != nil && !errors.Is(err, jetstream.ErrConsumerExists) {
			return nil, nil, fmt.Errorf("consumer %s of %s: %w", want.Durable, stream, err)
		}
		i = InspectDurable(ctx, js, cfg)
	}
	switch {
	case i.Err != nil:
		return nil, nil, i.Err
	case i.Create != "":
		return nil, nil, fmt.Errorf("consumer %s of %s: %w", want.Durable, stream, &MissingError{What: "consumer " + want.Durable, Command: i.Create})
	case len(i.Dangers) > 0:
		return nil, i.Warnings, fmt.Errorf("consumer %s of %s: %w", want.Durable, stream, &RefusedError{What: "consumer " + want.Durable, Dangers: i.Dangers})
	case cfg.ManageStreams && i.Durable.Config.MaxAckPending == earlierMaxAckPending:
		changed := i.Durable.Config
		changed.MaxAckPending = want.MaxAckPending
		if _, err := js.UpdateConsumer(ctx, stream, changed); err != nil {
			// Outcomes are settled nevertheless, but those of one session may delay others.
			return i.Durable, append(i.Warnings, fmt.Sprintf("consumer %s: its max_ack_pending could not be removed: %v", want.Durable, err)), nil
		}
		i = InspectDurable(ctx, js, cfg)
	}
	return i.Durable, i.Warnings, i.Err
}

// ReadOutcome reads one message of the stream of outcomes. The error is
// jetstream.ErrMsgNotFound if it was removed.
func ReadOutcome(ctx context.Context, js jetstream.JetStream, stream string, sequence uint64) (*jetstream.RawStreamMsg, error) {
	raw, err := streamreader.New(js, stream).Get(ctx, sequence)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, fmt.Errorf("%w: it is no longer in the stream; have its publisher publish it again", err)
	}
	return raw, err
}

// firstSequence returns the sequence at which a missing stream begins; 0 is the server's
// choice. If the ledger has entries, the stream of outcomes existed before and was lost.
// Then it begins beyond the sequences in those entries, and if that is unknown, it must
// not be created: settlement tells a redelivery from a replay by the sequence, and a reused
// sequence could alias another outcome.
//
// What the lost stream had can't be found out. It begins at the microseconds since 1970: no
// stream stores a message in each of them, so one that begins like this stays behind the
// clock too. A double, as many JSON readers use, represents the number exactly.
func firstSequence(ctx context.Context, js jetstream.JetStream, name, prefix string) (uint64, error) {
	if name != OutcomesStream(prefix) {
		return 0, nil
	}
	ledger, err := js.Stream(ctx, ledgerStream(prefix))
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("is missing, and it is not known whether the ledger %s has entries: %w", ledgerStream(prefix), err)
	case ledger.CachedInfo().State.Msgs == 0:
		return 0, nil
	}
	return uint64(time.Now().UnixMicro()), nil
}
