package consumer

import (
	"fmt"
	"slices"
	"strings"

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
	dangers = texts(streamDangers(have, want))
	switch want.Name {
	case OutcomesStream(prefix):
		dangers = append(dangers, texts(outcomeDangers(have))...)
	case DeadLettersStream(prefix):
		dangers = append(dangers, texts(letterDangers(have))...)
	case OperationsStream(prefix):
		dangers = append(dangers, texts(operationDangers(have))...)
	}
	for _, text := range texts(streamDifferences(have, want)) {
		warnings = append(warnings, "stream "+want.Name+": "+text)
	}
	return warnings, dangers
}

// streamDangers hold for all three streams.
func streamDangers(have, want jetstream.StreamConfig) []finding {
	return []finding{
		{!covers(have.Subjects, want.Subjects[0]), fmt.Sprintf("its subjects are %q and don't take %s: nats stream edit %s --subjects '%s'", have.Subjects, want.Subjects[0], want.Name, want.Subjects[0])},
		{have.Storage != jetstream.FileStorage, "it is kept in memory, a restart loses it: delete it and let it be made anew with file storage"},
		{have.Retention != jetstream.LimitsPolicy, fmt.Sprintf("its retention is %s, which removes messages once they are acknowledged: it must be limits", have.Retention)},
		{have.NoAck, "it doesn't confirm what it stores (no_ack): nats stream edit with --ack"},
		{have.Sealed, "it is sealed, nothing can be published to it"},
		{have.Mirror != nil, "it is a mirror, nothing can be published to it"},
		{have.SubjectTransform != nil, "it rewrites subjects (subject_transform), which name the scenario"},
		{have.AllowRollup, "it takes roll-ups, by which one message removes all others: turn allow_rollup_hdrs off"},
	}
}

// outcomeDangers are what could lose an outcome before it is settled.
func outcomeDangers(have jetstream.StreamConfig) []finding {
	return []finding{
		{have.MaxAge > 0, fmt.Sprintf("max_age %s drops outcomes that still wait: nats stream edit %s --max-age 0", have.MaxAge, have.Name)},
		{limited(have) && have.Discard == jetstream.DiscardOld, fmt.Sprintf("a limit with discard old drops outcomes that still wait (%s): lift it", limits(have))},
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
		{(limited(have) || have.MaxMsgsPerSubject > 0) && have.Discard == jetstream.DiscardOld, fmt.Sprintf("a limit with discard old forgets a stop (%s): lift it", limits(have))},
		{have.AllowDirect, fmt.Sprintf("direct get answers from replicas that lag, and a stop would be missed: nats stream edit %s --no-allow-direct", have.Name)},
	}
}

// streamDifferences are worth a warning and no more.
func streamDifferences(have, want jetstream.StreamConfig) []finding {
	differs := func(name string, have, want any) finding {
		return finding{have != want, fmt.Sprintf("%s is %v, it would be created with %v", name, have, want)}
	}
	return []finding{
		{!slices.Equal(have.Subjects, want.Subjects) && covers(have.Subjects, want.Subjects[0]), fmt.Sprintf("takes %q; what isn't %s is never read", have.Subjects, want.Subjects[0])},
		differs("discard", have.Discard, want.Discard),
		{have.Replicas < want.Replicas, fmt.Sprintf("replicas is %d, it would be created with %d", have.Replicas, want.Replicas)}, // more does no harm
		differs("duplicate_window", have.Duplicates, want.Duplicates),
		differs("max_msg_size", unlimited(have.MaxMsgSize), unlimited(want.MaxMsgSize)),
		differs("max_msgs", unlimited(have.MaxMsgs), unlimited(want.MaxMsgs)),
		differs("max_bytes", unlimited(have.MaxBytes), unlimited(want.MaxBytes)),
		differs("max_age", have.MaxAge, want.MaxAge),
		differs("max_msgs_per_subject", unlimited(have.MaxMsgsPerSubject), unlimited(want.MaxMsgsPerSubject)),
		differs("allow_direct", have.AllowDirect, want.AllowDirect),
		differs("allow_msg_ttl", have.AllowMsgTTL, want.AllowMsgTTL),
		differs("deny_delete", have.DenyDelete, want.DenyDelete),
		differs("deny_purge", have.DenyPurge, want.DenyPurge),
		differs("persist_mode", have.PersistMode, want.PersistMode),
		differs("sources", len(have.Sources), len(want.Sources)),
	}
}

// judgeDurable compares the durable with how it would be created.
func judgeDurable(have, want jetstream.ConsumerConfig) (warnings, dangers []string) {
	durable := want.Durable
	filters := filtersOf(have)
	dangers = texts([]finding{
		{have.AckPolicy != jetstream.AckExplicitPolicy, fmt.Sprintf("its ack policy is %s, which answers for outcomes that aren't settled: it must be explicit, delete it", have.AckPolicy)},
		{have.MaxDeliver > 0, fmt.Sprintf("max_deliver %d leaves outcomes unsettled: nats consumer edit with --max-deliver=-1", have.MaxDeliver)},
		{len(filters) > 0 && !covers(filters, want.FilterSubject), fmt.Sprintf("its filter %q leaves outcomes out: it must be %s", filters, want.FilterSubject)},
		{have.DeliverSubject != "", "it pushes: delete it or set consumer.durable"},
		{have.HeadersOnly, "it delivers headers without payload: delete it"},
		{len(have.PriorityGroups) > 0, "it has priority groups, which are not served: delete it"},
	})
	differs := func(name string, have, want any) finding {
		return finding{have != want, fmt.Sprintf("consumer %s: %s is %v, it would be created with %v", durable, name, have, want)}
	}
	warnings = texts([]finding{
		differs("ack_wait", have.AckWait, want.AckWait),
		differs("max_ack_pending", have.MaxAckPending, want.MaxAckPending),
		differs("deliver_policy", have.DeliverPolicy, want.DeliverPolicy),
		differs("backoff", len(have.BackOff), len(want.BackOff)),
		differs("inactive_threshold", have.InactiveThreshold, want.InactiveThreshold),
		differs("mem_storage", have.MemoryStorage, want.MemoryStorage),
		differs("filter", strings.Join(filters, ", "), want.FilterSubject),
		{have.PauseUntil != nil, fmt.Sprintf("consumer %s: paused until %v", want.Durable, have.PauseUntil)},
	})
	return warnings, dangers
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
