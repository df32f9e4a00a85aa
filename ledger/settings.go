package ledger

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// smallestMessage is what a stream must take at least, in bytes: an entry holds up to 37 KiB
// of the outcome's text, escaped at worst to six times that, up to settlement.MaxRows rows of
// the allocation, of 200 bytes and more, and the node's answer with the same rows.
const smallestMessage = 1 << 20

// setting is one setting of the stream as it was found.
type setting struct {
	bad  bool
	is   string // the setting and its value
	why  string // what it leads to
	mend string // flags of "nats stream edit"; empty: it can't be changed any more
}

// inspect compares a stream with what the ledger needs. Dangers are complete lines
// for an operator; so are warnings.
func inspect(got, want jetstream.StreamConfig) (dangers, warnings []string) {
	for _, s := range slices.Concat(losing(got), misleading(got, want), refusing(got)) {
		if s.bad {
			dangers = append(dangers, s.line(got.Name))
		}
	}
	for _, s := range slices.Concat(weaker(got, want), bounding(got, want)) {
		if s.bad {
			warnings = append(warnings, s.line(got.Name))
		}
	}
	return dangers, warnings
}

// weaknesses are the lines of settings that are only warned of at the start, and
// hold sending where they appear while settled runs: somebody is changing the stream.
func weaknesses(got, want jetstream.StreamConfig) (lines []string) {
	for _, s := range weaker(got, want) {
		if s.bad {
			lines = append(lines, s.line(got.Name))
		}
	}
	return lines
}

func (s setting) line(stream string) string {
	mend := "it can't be changed on a stream that exists: with settled stopped, keep this stream's entries (nats stream backup) and ask for help before you make a new one"
	if s.mend != "" {
		mend = fmt.Sprintf("mend it with: nats stream edit %s %s", stream, s.mend)
	}
	return fmt.Sprintf("%s: %s; %s", s.is, s.why, mend)
}

// losing are settings by which entries vanish.
func losing(c jetstream.StreamConfig) []setting {
	drops := "drops old entries, and a session whose entries are gone is settled again"
	old := c.Discard == jetstream.DiscardOld
	return []setting{
		{c.MaxAge > 0, fmt.Sprintf("max_age %s", c.MaxAge), drops, "--max-age=0s"},
		{c.MaxMsgs > 0 && old, fmt.Sprintf("max_msgs %d with discard old", c.MaxMsgs), drops, "--max-msgs=-1 --discard=new"},
		{c.MaxBytes > 0 && old, fmt.Sprintf("max_bytes %d with discard old", c.MaxBytes), drops, "--max-bytes=-1 --discard=new"},
		{c.MaxMsgsPerSubject > 0, fmt.Sprintf("max_msgs_per_subject %d", c.MaxMsgsPerSubject), "drops or refuses entries of a session that has more of one kind", "--max-msgs-per-subject=-1 --no-discard-per-subject"},
		{old, "discard old", "drops old entries at the first limit, the account's included", "--discard=new"},
		{!c.DenyDelete, "deny_delete false", "anybody with access can delete entries", "--deny-delete"},
		{!c.DenyPurge, "deny_purge false", "anybody with access can purge entries", "--deny-purge --no-allow-rollup"},
		{c.AllowRollup, "allow_rollup_hdrs true", "one message can replace all entries of a session", "--no-allow-rollup --deny-purge"},
		{c.AllowMsgTTL, "allow_msg_ttl true", "entries can be written that expire", ""},
		{c.SubjectDeleteMarkerTTL > 0, fmt.Sprintf("subject_delete_marker_ttl %s", c.SubjectDeleteMarkerTTL), "the server would write markers where entries were", ""},
		{c.Storage != jetstream.FileStorage, "storage " + c.Storage.String(), "the ledger is gone when the server stops", ""},
		{c.PersistMode == jetstream.AsyncPersistMode, "persist_mode async", "entries are acknowledged before they are written", ""},
		{c.Retention != jetstream.LimitsPolicy, "retention " + strings.ToLower(c.Retention.String()), "entries are removed once they were read", mendRetention(c.Retention)},
	}
}

func mendRetention(r jetstream.RetentionPolicy) string {
	if r == jetstream.InterestPolicy {
		return "--retention=limits"
	}
	return ""
}

// misleading are settings by which what is read is not what was decided.
func misleading(c, want jetstream.StreamConfig) []setting {
	return []setting{
		{!rightSubjects(c, want), fmt.Sprintf("subjects %s", quoted(c.Subjects)), fmt.Sprintf("want exactly %s: foreign messages would stand among the entries, or entries would not be stored", quoted(want.Subjects)), "--subjects='" + want.Subjects[0] + "'"},
		{c.AllowDirect, "allow_direct true", "reads could be answered by a replica that lags behind", "--no-allow-direct"},
		{c.Mirror != nil, "mirror", "the stream is a copy of another one and takes no entries", "--no-mirror"},
		{len(c.Sources) > 0, "sources", "entries of other streams would stand among its own, with other sequences", "--config=FILE, a file of its configuration without sources"},
		{c.SubjectTransform != nil, "subject_transform", "entries would stand under other subjects than they were compared by", "--no-transform"},
		{c.AllowMsgSchedules, "allow_msg_schedules true", "the server itself could write messages among the entries", ""},
		{republishesInto(c, want), "republish", "copies of entries would be published to subjects that settled stores or obeys", "--no-republish"},
	}
}

// rightSubjects: the three-token wildcard, or everything below the kind.
func rightSubjects(c, want jetstream.StreamConfig) bool {
	wide := strings.TrimSuffix(want.Subjects[0], "*.*") + ">"
	return slices.Equal(c.Subjects, want.Subjects) || slices.Equal(c.Subjects, []string{wide})
}

// refusing are settings by which entries can't be written, or are not known to be:
// a session would be closed at the node and never recorded.
func refusing(c jetstream.StreamConfig) []setting {
	small := c.MaxMsgSize > 0 && c.MaxMsgSize < smallestMessage
	return []setting{
		{c.Sealed, "sealed", "it takes no entries any more", ""},
		{c.NoAck, "no_ack true", "nobody would know whether an entry is stored", "--ack"},
		{c.AllowMsgCounter, "allow_msg_counter true", "it takes counts, not entries", ""},
		{small, fmt.Sprintf("max_msg_size %d", c.MaxMsgSize), fmt.Sprintf("the result of a close could be refused: want at least %d", smallestMessage), "--max-msg-size=-1"},
	}
}

// weaker are settings that protect less than those that Open would have made, and
// do no harm to the ledger by themselves.
func weaker(c, want jetstream.StreamConfig) []setting {
	return []setting{
		// More than configured is never worth less: whoever only reads may not know the number.
		{c.Replicas < want.Replicas, fmt.Sprintf("replicas %d", c.Replicas), fmt.Sprintf("configured are %d (nats.replicas)", want.Replicas), fmt.Sprintf("--replicas=%d", want.Replicas)},
		{c.Duplicates < want.Duplicates, fmt.Sprintf("duplicate_window %s", c.Duplicates), fmt.Sprintf("want %s: an entry without a readable session may be stored twice", want.Duplicates), fmt.Sprintf("--dupe-window=%s", want.Duplicates)},
		{c.RePublish != nil && !republishesInto(c, want), "republish", "entries are also sent elsewhere; see that nobody takes those for the ledger", "--no-republish"},
		{c.AllowAtomicPublish, "allow_atomic true", "settled never writes batches; a batch can store two entries of a session on one expectation", "--no-allow-batch"},
		{c.AllowBatchPublish, "allow_batched true", "settled never writes batches", "--config=FILE, a file of its configuration without allow_batched"},
	}
}

// bounding are limits that an operator may set: where one is reached nothing is
// stored any more, and nothing is lost.
func bounding(c, want jetstream.StreamConfig) []setting {
	newOnly := c.Discard == jetstream.DiscardNew
	return []setting{
		{c.MaxMsgs > 0 && newOnly, fmt.Sprintf("max_msgs %d", c.MaxMsgs), "nothing is settled any more once the stream is full", "--max-msgs=-1"},
		{c.MaxBytes > 0 && c.MaxBytes != want.MaxBytes && newOnly, fmt.Sprintf("max_bytes %d", c.MaxBytes), "nothing is settled any more once the stream is full", fmt.Sprintf("--max-bytes=%d", want.MaxBytes)},
		{c.MaxConsumers > 0, fmt.Sprintf("max_consumers %d", c.MaxConsumers), "dashboards and auditors may find no place", "--config=FILE, a file of its configuration with max_consumers -1"},
	}
}

// republishesInto reports whether copies of the stream's messages are published to
// subjects that settled reads, or that the server obeys. A destination whose first
// token is made of the message's subject may be any.
func republishesInto(c, want jetstream.StreamConfig) bool {
	if c.RePublish == nil {
		return false
	}
	prefix := strings.TrimSuffix(want.Subjects[0], "settlement.*.*")
	root, _, _ := strings.Cut(strings.TrimPrefix(c.RePublish.Destination, prefix), ".")
	return strings.ContainsAny(root, "$*>{") || slices.Contains([]string{"settlement", "outcome", "deadletter", "operation", "cosign"}, root)
}

func quoted(subjects []string) string { return fmt.Sprintf("%q", subjects) }
