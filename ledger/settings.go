package ledger

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// StreamConfig returns the configuration with which Open creates the stream. The server
// compresses what it has written, which makes the files of a ledger about six times smaller.
func StreamConfig(cfg Config) jetstream.StreamConfig {
	maxBytes := int64(-1)
	if cfg.MaxBytes > 0 {
		maxBytes = cfg.MaxBytes
	}
	return jetstream.StreamConfig{
		Name:        StreamName(cfg.Prefix),
		Description: "settled: the ledger, append-only",
		Subjects:    []string{allSubjects(cfg.Prefix)},
		Retention:   jetstream.LimitsPolicy,
		Storage:     jetstream.FileStorage,
		Compression: jetstream.S2Compression,
		Replicas:    max(cfg.Replicas, 1),
		Discard:     jetstream.DiscardNew,
		DenyDelete:  true,
		DenyPurge:   true,
		AllowDirect: false,
		Duplicates:  2 * time.Minute,
		MaxMsgs:     -1, MaxBytes: maxBytes, MaxMsgsPerSubject: -1, MaxMsgSize: -1, MaxConsumers: -1,
	}
}

// minMessageSize is the smallest allowed max_msg_size in bytes: an entry holds up to 37 KiB
// of the outcome's text, which escaping makes up to six times as long, up to
// settlement.MaxRows rows of the allocation, of 200 bytes and more, and the node's answer
// with the same rows.
const minMessageSize = 1 << 20

// setting is a setting of the stream that may be wrong.
type setting struct {
	wrong  bool
	is     string // the setting and its value
	effect string
	fix    string // flags of "nats stream edit"; empty: it can't be changed any more
}

type settings []setting

// lines describes the wrong settings of a stream for an operator.
func (all settings) lines(stream string) (lines []string) {
	for _, s := range all {
		if !s.wrong {
			continue
		}
		fix := "it can't be changed on a stream that exists: with settled stopped, keep this stream's entries (nats stream backup) and ask for help before you make a new one"
		if s.fix != "" {
			fix = fmt.Sprintf("fix it with: nats stream edit %s %s", stream, s.fix)
		}
		lines = append(lines, fmt.Sprintf("%s: %s; %s", s.is, s.effect, fix))
	}
	return lines
}

// checkSettings compares a stream's settings with what the ledger needs. Dangers and
// warnings are complete lines for an operator.
func checkSettings(got, want jetstream.StreamConfig) (dangers, warnings []string) {
	dangers = slices.Concat(dropsEntries(got), altersEntries(got, want), refusesEntries(got)).lines(got.Name)
	return dangers, slices.Concat(weakSettings(got, want), lowLimits(got, want)).lines(got.Name)
}

// dropsEntries lists the settings by which entries are lost.
func dropsEntries(c jetstream.StreamConfig) settings {
	drops := "drops old entries, and a session whose entries are gone is settled again"
	old := c.Discard == jetstream.DiscardOld
	retentionFix := ""
	if c.Retention == jetstream.InterestPolicy {
		retentionFix = "--retention=limits"
	}
	return settings{
		{c.MaxAge > 0, fmt.Sprintf("max_age %s", c.MaxAge), drops, "--max-age=0s"},
		{c.MaxMsgs > 0 && old, fmt.Sprintf("max_msgs %d with discard old", c.MaxMsgs), drops, "--max-msgs=-1 --discard=new"},
		{c.MaxBytes > 0 && old, fmt.Sprintf("max_bytes %d with discard old", c.MaxBytes), drops, "--max-bytes=-1 --discard=new"},
		{c.MaxMsgsPerSubject > 0, fmt.Sprintf("max_msgs_per_subject %d", c.MaxMsgsPerSubject), "drops or rejects entries of a session that has more of one kind", "--max-msgs-per-subject=-1 --no-discard-per-subject"},
		{old, "discard old", "drops old entries at the first limit, including the account's", "--discard=new"},
		{!c.DenyDelete, "deny_delete false", "anyone with access can delete entries", "--deny-delete"},
		{!c.DenyPurge, "deny_purge false", "anyone with access can purge entries", "--deny-purge --no-allow-rollup"},
		{c.AllowRollup, "allow_rollup_hdrs true", "one message can replace all entries of a session", "--no-allow-rollup --deny-purge"},
		{c.AllowMsgTTL, "allow_msg_ttl true", "entries can be written that expire", ""},
		{c.SubjectDeleteMarkerTTL > 0, fmt.Sprintf("subject_delete_marker_ttl %s", c.SubjectDeleteMarkerTTL), "the server would write markers in place of entries", ""},
		{c.Storage != jetstream.FileStorage, "storage " + c.Storage.String(), "the ledger is gone when the server stops", ""},
		{c.PersistMode == jetstream.AsyncPersistMode, "persist_mode async", "entries are acknowledged before they are written", ""},
		{c.Retention != jetstream.LimitsPolicy, "retention " + strings.ToLower(c.Retention.String()), "entries are removed once they were read", retentionFix},
	}
}

// altersEntries lists the settings by which other entries are read than were written.
func altersEntries(c, want jetstream.StreamConfig) settings {
	wide := strings.TrimSuffix(want.Subjects[0], "*.*") + ">"
	subjectsOK := slices.Equal(c.Subjects, want.Subjects) || slices.Equal(c.Subjects, []string{wide})
	return settings{
		{!subjectsOK, fmt.Sprintf("subjects %q", c.Subjects), fmt.Sprintf("want exactly %q: foreign messages would be stored among the entries, or entries would not be stored", want.Subjects), "--subjects='" + want.Subjects[0] + "'"},
		{c.AllowDirect, "allow_direct true", "reads could be answered by a replica that lags behind", "--no-allow-direct"},
		{c.Mirror != nil, "mirror", "the stream is a copy of another one and accepts no entries", "--no-mirror"},
		{len(c.Sources) > 0, "sources", "entries of other streams would be stored among its own, with other sequences", "--config=FILE, a file of its configuration without sources"},
		{c.SubjectTransform != nil, "subject_transform", "entries would be stored on other subjects than they were compared by", "--no-transform"},
		{c.AllowMsgSchedules, "allow_msg_schedules true", "the server itself could write messages among the entries", ""},
		{republishesInto(c, want), "republish", "copies of entries would be published to subjects that settled stores or obeys", "--no-republish"},
	}
}

// refusesEntries lists the settings by which entries can't be written, or are not known to
// be: a session would be closed at the node and never recorded.
func refusesEntries(c jetstream.StreamConfig) settings {
	small := c.MaxMsgSize > 0 && c.MaxMsgSize < minMessageSize
	return settings{
		{c.Sealed, "sealed", "it accepts no entries any more", ""},
		{c.NoAck, "no_ack true", "it would not be known whether an entry is stored", "--ack"},
		{c.AllowMsgCounter, "allow_msg_counter true", "it accepts counts, not entries", ""},
		{small, fmt.Sprintf("max_msg_size %d", c.MaxMsgSize), fmt.Sprintf("the result of a close could be rejected: want at least %d", minMessageSize), "--max-msg-size=-1"},
	}
}

// weakSettings lists the settings that protect less than those that Open would have chosen,
// and do no harm to the ledger by themselves. At the start they are warnings; while settled
// runs their appearance holds sending, because someone is changing the stream.
func weakSettings(c, want jetstream.StreamConfig) settings {
	return settings{
		// More replicas than configured are accepted: a command that only reads may not know the number.
		{c.Replicas < want.Replicas, fmt.Sprintf("replicas %d", c.Replicas), fmt.Sprintf("configured are %d (nats.replicas)", want.Replicas), fmt.Sprintf("--replicas=%d", want.Replicas)},
		{c.Duplicates < want.Duplicates, fmt.Sprintf("duplicate_window %s", c.Duplicates), fmt.Sprintf("want %s: an entry without a readable session may be stored twice", want.Duplicates), fmt.Sprintf("--dupe-window=%s", want.Duplicates)},
		{c.RePublish != nil && !republishesInto(c, want), "republish", "entries are also sent elsewhere; make sure that nothing takes those for the ledger", "--no-republish"},
		{c.AllowAtomicPublish, "allow_atomic true", "settled never writes batches; a batch can store two entries of a session on one expectation", "--no-allow-batch"},
		{c.AllowBatchPublish, "allow_batched true", "settled never writes batches", "--config=FILE, a file of its configuration without allow_batched"},
	}
}

// lowLimits lists limits that an operator may set. When one is reached nothing is stored any
// more, and nothing is lost.
func lowLimits(c, want jetstream.StreamConfig) settings {
	discardNew := c.Discard == jetstream.DiscardNew
	return settings{
		{c.MaxMsgs > 0 && discardNew, fmt.Sprintf("max_msgs %d", c.MaxMsgs), "nothing is settled any more once the stream is full", "--max-msgs=-1"},
		{c.MaxBytes > 0 && c.MaxBytes != want.MaxBytes && discardNew, fmt.Sprintf("max_bytes %d", c.MaxBytes), "nothing is settled any more once the stream is full", fmt.Sprintf("--max-bytes=%d", want.MaxBytes)},
		{c.MaxConsumers > 0, fmt.Sprintf("max_consumers %d", c.MaxConsumers), "dashboards and auditors may be unable to create a consumer", "--config=FILE, a file of its configuration with max_consumers -1"},
	}
}

// republishesInto reports whether copies of the stream's messages are published to subjects
// that settled reads, or that the server obeys. A destination whose first token is built
// from the message's subject may be any subject.
func republishesInto(c, want jetstream.StreamConfig) bool {
	if c.RePublish == nil {
		return false
	}
	prefix := strings.TrimSuffix(want.Subjects[0], "settlement.*.*")
	root, _, _ := strings.Cut(strings.TrimPrefix(c.RePublish.Destination, prefix), ".")
	return strings.ContainsAny(root, "$*>{") || slices.Contains([]string{"settlement", "outcome", "deadletter", "operation", "cosign"}, root)
}
