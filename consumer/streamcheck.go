package consumer

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// finding is one thing that may be wrong with a stream or consumer.
type finding struct {
	wrong bool
	text  string
}

func texts(findings []finding) []string {
	var found []string
	for _, f := range findings {
		if f.wrong {
			found = append(found, f.text)
		}
	}
	return found
}

// judgeStream compares a stream with how it would be created.
func judgeStream(have, want jetstream.StreamConfig, prefix string) (warnings, dangers []string) {
	dangers = texts(streamDangers(have, want, prefix))
	switch want.Name {
	case OutcomesStream(prefix):
		dangers = append(dangers, texts(outcomeDangers(have))...)
	case DeadLettersStream(prefix):
		dangers = append(dangers, texts(letterDangers(have))...)
	case OperationsStream(prefix):
		dangers = append(dangers, texts(operationDangers(have))...)
	}
	for _, text := range append(streamWeaknesses(have, want, prefix), texts(streamBounds(have, want))...) {
		warnings = append(warnings, "stream "+want.Name+": "+text)
	}
	return warnings, dangers
}

// streamDangers hold for all three streams.
func streamDangers(have, want jetstream.StreamConfig, prefix string) []finding {
	return []finding{
		{!covers(have.Subjects, want.Subjects[0]), fmt.Sprintf("its subjects are %q and don't take %s: nats stream edit %s --subjects '%s'", have.Subjects, want.Subjects[0], want.Name, want.Subjects[0])},
		{have.Storage != jetstream.FileStorage, "it is kept in memory, a restart loses it: delete it and let it be made anew with file storage"},
		{have.Retention != jetstream.LimitsPolicy, fmt.Sprintf("its retention is %s, which removes messages once they are acknowledged: it must be limits", have.Retention)},
		{have.NoAck, "it doesn't confirm what it stores (no_ack): nats stream edit " + have.Name + " --ack"},
		{have.Sealed, "it is sealed, nothing can be published to it"},
		{have.Mirror != nil, "it is a mirror, nothing can be published to it"},
		{have.SubjectTransform != nil, "it rewrites subjects (subject_transform), which name the scenario: nats stream edit " + have.Name + " --no-transform"},
		{have.AllowMsgCounter, "it takes counts, not messages (allow_msg_counter)"},
		{republishesInto(have, prefix), fmt.Sprintf("it publishes copies of its messages to %s, which settled or the server reads (republish): nats stream edit %s --no-republish", destination(have), have.Name)},
		{have.AllowRollup, "it takes roll-ups, by which one message removes all others: nats stream edit " + have.Name + " --no-allow-rollup"},
	}
}

// outcomeDangers are what could lose an outcome before it is settled.
func outcomeDangers(have jetstream.StreamConfig) []finding {
	return []finding{
		{have.MaxAge > 0, fmt.Sprintf("max_age %s drops outcomes that still wait: nats stream edit %s --max-age 0", have.MaxAge, have.Name)},
		{limited(have) && have.Discard == jetstream.DiscardOld, fmt.Sprintf("a limit with discard old drops outcomes that still wait (%s): nats stream edit %s --discard new", limits(have), have.Name)},
		{have.MaxMsgsPerSubject > 0 && !have.DiscardNewPerSubject, fmt.Sprintf("max_msgs_per_subject %d drops outcomes that still wait: nats stream edit %s --max-msgs-per-subject=-1", have.MaxMsgsPerSubject, have.Name)},
	}
}

func letterDangers(have jetstream.StreamConfig) []finding {
	return []finding{
		{have.MaxMsgSize > 0 && have.MaxMsgSize < letterSize, fmt.Sprintf("max_msg_size %d is too small for a dead letter, an outcome that fails would wait for ever: nats stream edit %s --max-msg-size -1", have.MaxMsgSize, have.Name)},
	}
}

// operationDangers are what could forget a stop, or read past it.
func operationDangers(have jetstream.StreamConfig) []finding {
	return []finding{
		{have.MaxAge > 0, fmt.Sprintf("max_age %s forgets a stop: nats stream edit %s --max-age 0", have.MaxAge, have.Name)},
		{(limited(have) || have.MaxMsgsPerSubject > 0) && have.Discard == jetstream.DiscardOld, fmt.Sprintf("a limit with discard old forgets a stop (%s): nats stream edit %s --discard new", limits(have), have.Name)},
		{have.AllowDirect, fmt.Sprintf("direct get answers from replicas that lag, and a stop would be missed: nats stream edit %s --no-allow-direct", have.Name)},
	}
}

// streamWeaknesses are settings that protect less than those that the stream would be
// created with: worth a warning at the start, and sending is held where one appears
// while settled runs.
func streamWeaknesses(have, want jetstream.StreamConfig, prefix string) []string {
	weaker := func(wrong bool, name string, is, created any, flags string) finding {
		text := fmt.Sprintf("%s is %v, it would be created with %v", name, is, created)
		if flags != "" {
			text += fmt.Sprintf(": nats stream edit %s %s", have.Name, flags)
		}
		return finding{wrong, text}
	}
	drops := have.Discard == jetstream.DiscardOld && limited(have)
	small := unlimited(have.MaxMsgSize) != -1 && (want.MaxMsgSize <= 0 || have.MaxMsgSize < want.MaxMsgSize)
	return texts([]finding{
		{!slices.Equal(have.Subjects, want.Subjects) && covers(have.Subjects, want.Subjects[0]), fmt.Sprintf("takes %q; what isn't %s is never read: nats stream edit %s --subjects '%s'", have.Subjects, want.Subjects[0], have.Name, want.Subjects[0])},
		{drops, fmt.Sprintf("a limit with discard old drops messages (%s): nats stream edit %s --discard new", limits(have), have.Name)},
		{have.RePublish != nil && !republishesInto(have, prefix), fmt.Sprintf("copies of its messages are published to %s (republish): nats stream edit %s --no-republish", destination(have), have.Name)},
		weaker(have.Discard != want.Discard && want.Discard == jetstream.DiscardNew, "discard", have.Discard, want.Discard, "--discard new"),
		weaker(have.Replicas < want.Replicas, "replicas", have.Replicas, want.Replicas, fmt.Sprintf("--replicas %d", want.Replicas)), // more does no harm
		weaker(have.Duplicates < want.Duplicates, "duplicate_window", have.Duplicates, want.Duplicates, fmt.Sprintf("--dupe-window %s", want.Duplicates)),
		weaker(small, "max_msg_size", have.MaxMsgSize, unlimited(want.MaxMsgSize), fmt.Sprintf("--max-msg-size %d", unlimited(want.MaxMsgSize))),
		weaker(have.MaxAge != want.MaxAge, "max_age", have.MaxAge, want.MaxAge, "--max-age 0"),
		weaker(unlimited(have.MaxMsgsPerSubject) != unlimited(want.MaxMsgsPerSubject), "max_msgs_per_subject", have.MaxMsgsPerSubject, want.MaxMsgsPerSubject, "--max-msgs-per-subject=-1"),
		weaker(have.AllowDirect != want.AllowDirect, "allow_direct", have.AllowDirect, want.AllowDirect, "--no-allow-direct"),
		weaker(have.AllowMsgTTL != want.AllowMsgTTL, "allow_msg_ttl", have.AllowMsgTTL, want.AllowMsgTTL, ""),
		weaker(have.AllowMsgSchedules != want.AllowMsgSchedules, "allow_msg_schedules", have.AllowMsgSchedules, want.AllowMsgSchedules, ""),
		weaker(have.SubjectDeleteMarkerTTL != want.SubjectDeleteMarkerTTL, "subject_delete_marker_ttl", have.SubjectDeleteMarkerTTL, want.SubjectDeleteMarkerTTL, ""),
		weaker(have.DenyDelete != want.DenyDelete, "deny_delete", have.DenyDelete, want.DenyDelete, "--deny-delete"),
		weaker(have.DenyPurge != want.DenyPurge, "deny_purge", have.DenyPurge, want.DenyPurge, "--deny-purge"),
		weaker(have.PersistMode != want.PersistMode, "persist_mode", have.PersistMode, want.PersistMode, ""),
		weaker(len(have.Sources) != len(want.Sources), "sources", len(have.Sources), len(want.Sources), "--config FILE, a file of its configuration without sources"),
	})
}

// streamBounds differ from what the stream would be created with, and lose nothing:
// where a limit is reached the stream takes no more.
func streamBounds(have, want jetstream.StreamConfig) []finding {
	differs := func(name string, have, want any) finding {
		return finding{have != want, fmt.Sprintf("%s is %v, it would be created with %v", name, have, want)}
	}
	return []finding{
		{have.Discard != want.Discard && want.Discard == jetstream.DiscardOld, "discard is new, it would be created with old"},
		{have.Duplicates > want.Duplicates, fmt.Sprintf("duplicate_window is %s, it would be created with %s", have.Duplicates, want.Duplicates)},
		{want.MaxMsgSize > 0 && (have.MaxMsgSize <= 0 || have.MaxMsgSize > want.MaxMsgSize), fmt.Sprintf("max_msg_size is %d, it would be created with %d", unlimited(have.MaxMsgSize), want.MaxMsgSize)},
		differs("max_msgs", unlimited(have.MaxMsgs), unlimited(want.MaxMsgs)),
		differs("max_bytes", unlimited(have.MaxBytes), unlimited(want.MaxBytes)),
	}
}

// republishesInto reports whether copies of the stream's messages are published to
// subjects that settled reads, or that the server obeys. A destination whose first
// token is made of the message's subject may be any.
func republishesInto(s jetstream.StreamConfig, prefix string) bool {
	root, _, _ := strings.Cut(strings.TrimPrefix(destination(s), prefix), ".")
	return strings.ContainsAny(root, "$*>{") || slices.Contains([]string{"settlement", "outcome", "deadletter", "operation", "cosign"}, root)
}

func destination(s jetstream.StreamConfig) string {
	if s.RePublish == nil {
		return ""
	}
	return s.RePublish.Destination
}

// judgeDurable compares the durable with how it would be created.
func judgeDurable(have, want jetstream.ConsumerConfig) (warnings, dangers []string) {
	durable, edit := want.Durable, editDurable(want)
	filters := filtersOf(have)
	dangers = texts([]finding{
		{have.AckPolicy != jetstream.AckExplicitPolicy, fmt.Sprintf("its ack policy is %s, which answers for outcomes that aren't settled: it must be explicit, delete it", have.AckPolicy)},
		{have.MaxDeliver > 0, fmt.Sprintf("max_deliver %d leaves outcomes unsettled: %s --max-deliver=-1", have.MaxDeliver, edit)},
		{len(filters) > 0 && !covers(filters, want.FilterSubject), fmt.Sprintf("its filter %q leaves outcomes out: %s --filter '%s'", filters, edit, want.FilterSubject)},
		{have.DeliverSubject != "", "it pushes: delete it or set consumer.durable"},
		{have.HeadersOnly, "it delivers headers without payload: delete it"},
		{have.MaxRequestExpires > 0 && have.MaxRequestExpires < pullExpiry, fmt.Sprintf("max_expires %s refuses every request for messages, which stays open for %s, and no outcome is delivered: %s --max-pull-expire=%s", have.MaxRequestExpires, pullExpiry, edit, pullExpiry)},
		{len(have.PriorityGroups) > 0, "it has priority groups, which are not served: delete it"},
	})
	warnings = append(durableWeaknesses(have, want), texts([]finding{
		{paused(have, time.Now()), fmt.Sprintf("consumer %s: %s", durable, pausedText(have, want))},
	})...)
	return warnings, dangers
}

// durableWeaknesses are to the durable what streamWeaknesses are to a stream.
func durableWeaknesses(have, want jetstream.ConsumerConfig) []string {
	weaker := func(wrong bool, name string, is, created any, flags string) finding {
		text := fmt.Sprintf("consumer %s: %s is %v, it would be created with %v", want.Durable, name, is, created)
		if flags != "" {
			text += ": " + editDurable(want) + " " + flags
		} else {
			text += ": delete it, and it is created as it must be (outcomes are delivered again, the ledger knows those that are settled)"
		}
		return finding{wrong, text}
	}
	filters := filtersOf(have)
	return texts([]finding{
		weaker(have.AckWait != want.AckWait, "ack_wait", have.AckWait, want.AckWait, fmt.Sprintf("--wait %s", want.AckWait)),
		weaker(have.MaxAckPending > 0, "max_ack_pending", have.MaxAckPending, want.MaxAckPending, fmt.Sprintf("--max-pending=%d", want.MaxAckPending)),
		weaker(have.DeliverPolicy != want.DeliverPolicy, "deliver_policy", have.DeliverPolicy, want.DeliverPolicy, ""),
		weaker(have.ReplayPolicy != want.ReplayPolicy, "replay_policy", have.ReplayPolicy, want.ReplayPolicy, ""),
		weaker(have.RateLimit != want.RateLimit, "rate_limit_bps", have.RateLimit, want.RateLimit, ""),
		weaker(len(have.BackOff) != len(want.BackOff), "backoff", have.BackOff, want.BackOff, "--backoff none"),
		weaker(have.InactiveThreshold != want.InactiveThreshold, "inactive_threshold", have.InactiveThreshold, want.InactiveThreshold, "--inactive-threshold 0s"),
		weaker(have.MemoryStorage != want.MemoryStorage, "mem_storage", have.MemoryStorage, want.MemoryStorage, ""),
		weaker(!slices.Equal(filters, filtersOf(want)) && (len(filters) == 0 || covers(filters, want.FilterSubject)), "filter", strings.Join(filters, ", "), want.FilterSubject, fmt.Sprintf("--filter '%s'", want.FilterSubject)),
	})
}

func paused(c jetstream.ConsumerConfig, now time.Time) bool {
	return c.PauseUntil != nil && c.PauseUntil.After(now)
}

func pausedText(have, want jetstream.ConsumerConfig) string {
	if have.PauseUntil == nil {
		return ""
	}
	return fmt.Sprintf("paused until %s, and no outcome is delivered: nats consumer resume %s %s", have.PauseUntil.UTC().Format(time.RFC3339), outcomesOf(want), want.Durable)
}

func editDurable(want jetstream.ConsumerConfig) string {
	return "nats consumer edit " + outcomesOf(want) + " " + want.Durable
}

// outcomesOf is the name of the stream that the durable is of.
func outcomesOf(want jetstream.ConsumerConfig) string {
	return OutcomesStream(strings.TrimSuffix(want.FilterSubject, OutcomesFilter("")))
}

func filtersOf(c jetstream.ConsumerConfig) []string {
	if c.FilterSubject != "" {
		return []string{c.FilterSubject}
	}
	return c.FilterSubjects
}

func limited(s jetstream.StreamConfig) bool { return s.MaxMsgs > 0 || s.MaxBytes > 0 }

func limits(s jetstream.StreamConfig) string {
	return fmt.Sprintf("max_msgs %d, max_bytes %d, max_msgs_per_subject %d", s.MaxMsgs, s.MaxBytes, s.MaxMsgsPerSubject)
}

// unlimited brings the two ways to say "no limit" together.
func unlimited[N int32 | int64](n N) N {
	if n <= 0 {
		return -1
	}
	return n
}

// covers reports whether one of the patterns takes everything that subject, a
// pattern itself, takes.
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
