package consumer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Inspection is the result of examining a stream or the durable consumer.
type Inspection struct {
	Name     string   // "OUTCOMES"
	Create   string   // the nats CLI command that creates it, if it is missing
	Lost     bool     // it is missing and existed before: the ledger has entries
	Dangers  []string // settings with which settled does not start
	Warnings []string
	Err      error // why it could not be examined

	Stream  *jetstream.StreamInfo   // of a stream; nil if it is missing
	Durable *jetstream.ConsumerInfo // of the durable; likewise

	weaknesses    []string // those warnings for which sending is held if they appear while settled runs
	firstSequence uint64   // at which it begins if it is created
}

// InspectStreams checks OUTCOMES, DEADLETTERS and OPERATIONS as EnsureStreams does, but
// creates nothing.
func InspectStreams(ctx context.Context, js jetstream.JetStream, cfg Config) []Inspection {
	cfg = cfg.withDefaults()
	var found []Inspection
	for _, want := range StreamConfigs(cfg) {
		found = append(found, inspectStream(ctx, js, want, cfg.Prefix))
	}
	return found
}

func inspectStream(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig, prefix string) Inspection {
	i := Inspection{Name: want.Name}
	s, err := js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		want.FirstSeq, i.Err = firstSequence(ctx, js, want.Name, prefix)
		i.Create, i.Lost, i.firstSequence = CreateCommand(want), want.FirstSeq > 0, want.FirstSeq
		return i
	}
	if err != nil {
		i.Err = err
		return i
	}
	i.Stream = s.CachedInfo()
	have := i.Stream.Config
	i.Dangers = streamDangers(have, want, prefix)
	for _, text := range streamWeaknesses(have, want, prefix) {
		i.weaknesses = append(i.weaknesses, "stream "+want.Name+": "+text)
	}
	i.Warnings = slices.Clone(i.weaknesses)
	for _, text := range streamDifferences(have, want) {
		i.Warnings = append(i.Warnings, "stream "+want.Name+": "+text)
	}
	return i
}

// InspectDurable checks the durable consumer as EnsureDurable does, but creates nothing.
func InspectDurable(ctx context.Context, js jetstream.JetStream, cfg Config) Inspection {
	cfg = cfg.withDefaults()
	want, stream := DurableConfig(cfg), OutcomesStream(cfg.Prefix)
	i := Inspection{Name: want.Durable}
	c, err := js.Consumer(ctx, stream, want.Durable)
	switch {
	case errors.Is(err, jetstream.ErrNotPullConsumer):
		i.Dangers = []string{"it pushes: delete it or set consumer.durable"}
	case errors.Is(err, jetstream.ErrConsumerNotFound):
		i.Create = DurableCommand(stream, want)
	case err != nil:
		i.Err = fmt.Errorf("consumer %s of %s: %w", want.Durable, stream, err)
	default:
		i.Durable = c.CachedInfo()
		i.Dangers = durableDangers(i.Durable.Config, want, stream)
		i.weaknesses = durableWeaknesses(i.Durable.Config, want, stream)
		i.Warnings = slices.Clone(i.weaknesses)
		if text := pauseText(i.Durable.Config, stream); text != "" {
			i.Warnings = append(i.Warnings, "consumer "+want.Durable+": "+text)
		}
	}
	return i
}

// findings are the texts of the conditions that hold.
type findings []string

func (f *findings) add(holds bool, format string, args ...any) {
	if holds {
		*f = append(*f, fmt.Sprintf(format, args...))
	}
}

// streamDangers returns the settings that could lose an outcome, a dead letter or a stop.
func streamDangers(have, want jetstream.StreamConfig, prefix string) []string {
	var f findings
	edit := "nats stream edit " + have.Name
	discardsOld := have.Discard == jetstream.DiscardOld
	f.add(!covers(have.Subjects, want.Subjects[0]), "its subjects are %q and don't take %s: %s --subjects '%s'", have.Subjects, want.Subjects[0], edit, want.Subjects[0])
	f.add(have.Storage != jetstream.FileStorage, "it is kept in memory, a restart loses it: delete it and have it created again with file storage")
	f.add(have.Retention != jetstream.LimitsPolicy, "its retention is %s, which removes messages once they are acknowledged: it must be limits", have.Retention)
	f.add(have.NoAck, "it doesn't confirm what it stores (no_ack): %s --ack", edit)
	f.add(have.Sealed, "it is sealed, nothing can be published to it")
	f.add(have.Mirror != nil, "it is a mirror, nothing can be published to it")
	f.add(have.SubjectTransform != nil, "it rewrites subjects (subject_transform), which name the scenario: %s --no-transform", edit)
	f.add(have.AllowMsgCounter, "it stores counters, not messages (allow_msg_counter)")
	f.add(republishesInto(have, prefix), "it publishes copies of its messages to %s, which settled or the server reads (republish): %s --no-republish", republishDestination(have), edit)
	f.add(have.AllowRollup, "it accepts roll-ups, by which one message removes all others: %s --no-allow-rollup", edit)
	switch want.Name {
	case OutcomesStream(prefix):
		f.add(have.MaxAge > 0, "max_age %s drops outcomes that still wait: %s --max-age 0", have.MaxAge, edit)
		f.add(isLimited(have) && discardsOld, "a limit with discard old drops outcomes that still wait (%s): %s --discard new", limitsText(have), edit)
		f.add(have.MaxMsgsPerSubject > 0 && !have.DiscardNewPerSubject, "max_msgs_per_subject %d drops outcomes that still wait: %s --max-msgs-per-subject=-1", have.MaxMsgsPerSubject, edit)
	case DeadLettersStream(prefix):
		f.add(have.MaxMsgSize > 0 && have.MaxMsgSize < letterSize, "max_msg_size %d is too small for a dead letter, an outcome that fails would wait for ever: %s --max-msg-size -1", have.MaxMsgSize, edit)
	case OperationsStream(prefix):
		f.add(have.MaxAge > 0, "max_age %s forgets a stop: %s --max-age 0", have.MaxAge, edit)
		f.add((isLimited(have) || have.MaxMsgsPerSubject > 0) && discardsOld, "a limit with discard old forgets a stop (%s): %s --discard new", limitsText(have), edit)
		f.add(have.AllowDirect, "direct get is answered by replicas that lag behind, and a stop would be missed: %s --no-allow-direct", edit)
	}
	return f
}

// streamWeaknesses returns the settings that protect less than those that the stream would
// be created with.
func streamWeaknesses(have, want jetstream.StreamConfig, prefix string) []string {
	var f findings
	edit := "nats stream edit " + have.Name
	weaker := func(wrong bool, name string, is, created any, flags string) {
		text := fmt.Sprintf("%s is %v, it would be created with %v", name, is, created)
		if flags != "" {
			text += ": " + edit + " " + flags
		}
		f.add(wrong, "%s", text)
	}
	tooSmall := have.MaxMsgSize > 0 && (want.MaxMsgSize <= 0 || have.MaxMsgSize < want.MaxMsgSize)
	f.add(!slices.Equal(have.Subjects, want.Subjects) && covers(have.Subjects, want.Subjects[0]), "takes %q; messages on other subjects than %s are never read: %s --subjects '%s'", have.Subjects, want.Subjects[0], edit, want.Subjects[0])
	f.add(have.Discard == jetstream.DiscardOld && isLimited(have), "a limit with discard old drops messages (%s): %s --discard new", limitsText(have), edit)
	f.add(have.RePublish != nil && !republishesInto(have, prefix), "copies of its messages are published to %s (republish): %s --no-republish", republishDestination(have), edit)
	weaker(have.Discard != want.Discard && want.Discard == jetstream.DiscardNew, "discard", have.Discard, want.Discard, "--discard new")
	weaker(have.Replicas < want.Replicas, "replicas", have.Replicas, want.Replicas, fmt.Sprintf("--replicas %d", want.Replicas))
	weaker(have.Duplicates < want.Duplicates, "duplicate_window", have.Duplicates, want.Duplicates, fmt.Sprintf("--dupe-window %s", want.Duplicates))
	weaker(tooSmall, "max_msg_size", have.MaxMsgSize, noLimit(want.MaxMsgSize), fmt.Sprintf("--max-msg-size %d", noLimit(want.MaxMsgSize)))
	weaker(have.MaxAge != want.MaxAge, "max_age", have.MaxAge, want.MaxAge, "--max-age 0")
	weaker(noLimit(have.MaxMsgsPerSubject) != noLimit(want.MaxMsgsPerSubject), "max_msgs_per_subject", have.MaxMsgsPerSubject, want.MaxMsgsPerSubject, "--max-msgs-per-subject=-1")
	weaker(have.AllowDirect != want.AllowDirect, "allow_direct", have.AllowDirect, want.AllowDirect, "--no-allow-direct")
	weaker(have.AllowMsgTTL != want.AllowMsgTTL, "allow_msg_ttl", have.AllowMsgTTL, want.AllowMsgTTL, "")
	weaker(have.AllowMsgSchedules != want.AllowMsgSchedules, "allow_msg_schedules", have.AllowMsgSchedules, want.AllowMsgSchedules, "")
	weaker(have.SubjectDeleteMarkerTTL != want.SubjectDeleteMarkerTTL, "subject_delete_marker_ttl", have.SubjectDeleteMarkerTTL, want.SubjectDeleteMarkerTTL, "")
	weaker(have.DenyDelete != want.DenyDelete, "deny_delete", have.DenyDelete, want.DenyDelete, "--deny-delete")
	weaker(have.DenyPurge != want.DenyPurge, "deny_purge", have.DenyPurge, want.DenyPurge, "--deny-purge")
	weaker(have.PersistMode != want.PersistMode, "persist_mode", have.PersistMode, want.PersistMode, "")
	weaker(len(have.Sources) != len(want.Sources), "sources", len(have.Sources), len(want.Sources), "--config FILE, a file of its configuration without sources")
	return f
}

// streamDifferences returns settings that differ from those that the stream would be
// created with, and lose nothing: a stream refuses messages once it reaches a limit.
func streamDifferences(have, want jetstream.StreamConfig) []string {
	var f findings
	differs := func(differs bool, name string, have, want any) {
		f.add(differs, "%s is %v, it would be created with %v", name, have, want)
	}
	differs(have.Discard != want.Discard && want.Discard == jetstream.DiscardOld, "discard", "new", "old")
	differs(have.Duplicates > want.Duplicates, "duplicate_window", have.Duplicates, want.Duplicates)
	differs(want.MaxMsgSize > 0 && (have.MaxMsgSize <= 0 || have.MaxMsgSize > want.MaxMsgSize), "max_msg_size", noLimit(have.MaxMsgSize), want.MaxMsgSize)
	differs(noLimit(have.MaxMsgs) != noLimit(want.MaxMsgs), "max_msgs", noLimit(have.MaxMsgs), noLimit(want.MaxMsgs))
	differs(noLimit(have.MaxBytes) != noLimit(want.MaxBytes), "max_bytes", noLimit(have.MaxBytes), noLimit(want.MaxBytes))
	return f
}

// republishesInto reports whether copies of the stream's messages are published to
// subjects that settled or the server reads. A destination whose first token is derived
// from the message's subject may be any.
func republishesInto(s jetstream.StreamConfig, prefix string) bool {
	root, _, _ := strings.Cut(strings.TrimPrefix(republishDestination(s), prefix), ".")
	return strings.ContainsAny(root, "$*>{") || slices.Contains([]string{"settlement", "outcome", "deadletter", "operation", "cosign"}, root)
}

func republishDestination(s jetstream.StreamConfig) string {
	if s.RePublish == nil {
		return ""
	}
	return s.RePublish.Destination
}

// durableDangers returns the settings that could leave an outcome unsettled.
func durableDangers(have, want jetstream.ConsumerConfig, stream string) []string {
	var f findings
	edit := "nats consumer edit " + stream + " " + want.Durable
	filters := filtersOf(have)
	f.add(have.AckPolicy != jetstream.AckExplicitPolicy, "its ack policy is %s, which acknowledges outcomes that aren't settled: it must be explicit, delete it", have.AckPolicy)
	f.add(have.MaxDeliver > 0, "max_deliver %d leaves outcomes unsettled: %s --max-deliver=-1", have.MaxDeliver, edit)
	f.add(len(filters) > 0 && !covers(filters, want.FilterSubject), "its filter %q leaves outcomes out: %s --filter '%s'", filters, edit, want.FilterSubject)
	f.add(have.DeliverSubject != "", "it pushes: delete it or set consumer.durable")
	f.add(have.HeadersOnly, "it delivers headers without payload: delete it")
	f.add(have.MaxRequestExpires > 0 && have.MaxRequestExpires < pullExpiry, "max_expires %s refuses every request for messages, which stays open for %s, and no outcome is delivered: %s --max-pull-expire=%s", have.MaxRequestExpires, pullExpiry, edit, pullExpiry)
	f.add(len(have.PriorityGroups) > 0, "it has priority groups, which are not supported: delete it")
	return f
}

// durableWeaknesses is streamWeaknesses for the durable consumer.
func durableWeaknesses(have, want jetstream.ConsumerConfig, stream string) []string {
	var f findings
	weaker := func(wrong bool, name string, is, created any, flags string) {
		action := "delete it, and it is created again (outcomes are delivered again, the ledger knows those that are settled)"
		if flags != "" {
			action = "nats consumer edit " + stream + " " + want.Durable + " " + flags
		}
		f.add(wrong, "consumer %s: %s is %v, it would be created with %v: %s", want.Durable, name, is, created, action)
	}
	filters := filtersOf(have)
	coversMore := !slices.Equal(filters, filtersOf(want)) && (len(filters) == 0 || covers(filters, want.FilterSubject))
	weaker(have.AckWait != want.AckWait, "ack_wait", have.AckWait, want.AckWait, fmt.Sprintf("--wait %s", want.AckWait))
	weaker(have.MaxAckPending > 0, "max_ack_pending", have.MaxAckPending, want.MaxAckPending, fmt.Sprintf("--max-pending=%d", want.MaxAckPending))
	weaker(have.DeliverPolicy != want.DeliverPolicy, "deliver_policy", have.DeliverPolicy, want.DeliverPolicy, "")
	weaker(have.ReplayPolicy != want.ReplayPolicy, "replay_policy", have.ReplayPolicy, want.ReplayPolicy, "")
	weaker(have.RateLimit != want.RateLimit, "rate_limit_bps", have.RateLimit, want.RateLimit, "")
	weaker(len(have.BackOff) != len(want.BackOff), "backoff", have.BackOff, want.BackOff, "--backoff none")
	weaker(have.InactiveThreshold != want.InactiveThreshold, "inactive_threshold", have.InactiveThreshold, want.InactiveThreshold, "--inactive-threshold 0s")
	weaker(have.MemoryStorage != want.MemoryStorage, "mem_storage", have.MemoryStorage, want.MemoryStorage, "")
	weaker(coversMore, "filter", strings.Join(filters, ", "), want.FilterSubject, fmt.Sprintf("--filter '%s'", want.FilterSubject))
	return f
}

// pauseText says until when the durable consumer is paused; empty if it is not.
func pauseText(c jetstream.ConsumerConfig, stream string) string {
	if c.PauseUntil == nil || !c.PauseUntil.After(time.Now()) {
		return ""
	}
	return fmt.Sprintf("paused until %s, and no outcome is delivered: nats consumer resume %s %s", c.PauseUntil.UTC().Format(time.RFC3339), stream, c.Durable)
}

func filtersOf(c jetstream.ConsumerConfig) []string {
	if c.FilterSubject != "" {
		return []string{c.FilterSubject}
	}
	return c.FilterSubjects
}

func isLimited(s jetstream.StreamConfig) bool { return s.MaxMsgs > 0 || s.MaxBytes > 0 }

func limitsText(s jetstream.StreamConfig) string {
	return fmt.Sprintf("max_msgs %d, max_bytes %d, max_msgs_per_subject %d", s.MaxMsgs, s.MaxBytes, s.MaxMsgsPerSubject)
}

// noLimit maps the two ways to state no limit to one.
func noLimit[N int32 | int64](n N) N {
	if n <= 0 {
		return -1
	}
	return n
}

// covers reports whether one of the patterns matches every subject that another pattern
// matches.
func covers(patterns []string, subject string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		have, want := strings.Split(pattern, "."), strings.Split(subject, ".")
		for i, token := range have {
			if token == ">" {
				return i < len(want)
			}
			if i >= len(want) || token != "*" && token != want[i] {
				return false
			}
		}
		return len(have) == len(want)
	})
}
