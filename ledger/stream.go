package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"settled/settlement"
)

// Stream is the part of a JetStream stream that the ledger needs. It must be safe for
// concurrent use.
type Stream interface {
	// Publish stores one message if its expectation holds. After an error the message
	// may have been stored, or may be stored a little later.
	Publish(ctx context.Context, d Draft) (Ack, error)

	// Get reads from the stream's leader: the last message that matches the filter if
	// from is 0, otherwise the first one at or after that sequence. Errors: ErrNoMessage
	// if there is none.
	Get(ctx context.Context, filter string, from uint64) (Message, error)

	// Gaps reports whether messages that were once in the stream are missing from it now,
	// at its beginning or between others.
	Gaps(ctx context.Context) (bool, error)
}

// ErrNoMessage is returned by Stream.Get if no message matches.
var ErrNoMessage error = jetstream.ErrMsgNotFound

// Draft is a message to be published.
type Draft struct {
	Subject string
	Filter  string // the expectation's subject filter; empty: none, whatever Expect says
	Expect  uint64 // the sequence of the last message that matches Filter; 0: there is none
	ID      string // Nats-Msg-Id, by which the server drops duplicates; empty: none
	Payload []byte
}

// Ack is the server's acknowledgement that a message is stored.
type Ack struct {
	Sequence  uint64
	Duplicate bool // nothing was stored: Sequence is an earlier message with the same ID
}

// Message is a message of the stream.
type Message struct {
	Subject  string
	Sequence uint64
	Time     time.Time // when the server stored it
	Payload  []byte
}

// Stored is an entry of the ledger with the message that holds it.
type Stored struct {
	Message
	Entry   settlement.Entry
	Err     error    // why the payload is not an entry; Entry is empty then
	Foreign *Foreign // not nil: the message is not an entry of this ledger, and has no effect

	skimmed bool // not decoded yet: Entry and Err are not known
}

// asForeign returns the message as one that is not an entry.
func (s Stored) asForeign(id settlement.SessionID, why error) Stored {
	s.Entry, s.Err, s.skimmed = settlement.Entry{}, why, false
	s.Foreign = &Foreign{Session: id, Subject: s.Subject, Sequence: s.Sequence, Err: why}
	return s
}

// parse decodes a message as an entry. It does not decide whether the entry is foreign.
func parse(m Message) Stored {
	e, err := ParseEntry(m.Subject, m.Payload, m.Sequence)
	return Stored{Message: m, Entry: e, Err: err}
}

// Origins is implemented by a Stream that can be replaced, changed and restored from an
// older copy.
type Origins interface {
	// Origin asks the leader.
	Origin(ctx context.Context) (Origin, error)
	// UsedBefore reports whether outcomes or dead letters were stored before that time. A
	// ledger that was created then doesn't know their entries.
	UsedBefore(ctx context.Context, created time.Time) (bool, error)
}

// Origin identifies a stream among all that ever had its name, and describes its state.
type Origin struct {
	Created time.Time     // by the servers' clock: no two streams of one name share it
	Age     time.Duration // when the servers answered, by the same clock
	Dangers []string      // settings that endanger money, as in SettingsError
	Weak    []string      // settings that protect less than configured

	Counted bool   // Last and Removed are known
	Last    uint64 // sequence of the last message ever stored
	Removed uint64 // number of the messages up to there that are missing
}

// errMissing says that the ledger's stream does not exist.
var errMissing = errors.New("the stream is missing")

// jetStream implements Stream and Origins on a real stream.
type jetStream struct {
	js  jetstream.JetStream
	cfg Config
	// stream reads by STREAM.MSG.GET, which only the leader answers: the client
	// goes by the setting AllowDirect as it was when Open verified it. Origin uses a new
	// handle each time.
	stream jetstream.Stream
}

func (j jetStream) Publish(ctx context.Context, d Draft) (Ack, error) {
	m := &nats.Msg{Subject: d.Subject, Data: d.Payload, Header: nats.Header{"Content-Type": {ContentType}}}
	opts := []jetstream.PublishOpt{
		jetstream.WithExpectStream(StreamName(j.cfg.Prefix)),
		jetstream.WithRetryAttempts(0), // the ledger retries, after it has read the head
	}
	if d.Filter != "" {
		opts = append(opts, jetstream.WithExpectLastSequenceForSubject(d.Expect, d.Filter))
	}
	if d.ID != "" {
		opts = append(opts, jetstream.WithMsgID(d.ID))
	}
	ack, err := j.js.PublishMsg(ctx, m, opts...)
	if err != nil {
		return Ack{}, fmt.Errorf("publish %s: %w", d.Subject, err)
	}
	return Ack{Sequence: ack.Sequence, Duplicate: ack.Duplicate}, nil
}

func (j jetStream) Get(ctx context.Context, filter string, from uint64) (Message, error) {
	var m *jetstream.RawStreamMsg
	var err error
	if from == 0 {
		m, err = j.stream.GetLastMsgForSubject(ctx, filter)
	} else {
		m, err = j.stream.GetMsg(ctx, from, jetstream.WithGetMsgSubject(filter))
	}
	if err != nil {
		return Message{}, fmt.Errorf("get %s: %w", filter, err)
	}
	return messageOf(m), nil
}

func messageOf(m *jetstream.RawStreamMsg) Message {
	return Message{Subject: m.Subject, Sequence: m.Sequence, Time: m.Time, Payload: m.Data}
}

func (j jetStream) Gaps(ctx context.Context) (bool, error) {
	info, err := j.info(ctx)
	if err != nil {
		return false, fmt.Errorf("stream %s: %w", StreamName(j.cfg.Prefix), err)
	}
	return hasGaps(info), nil
}

func (j jetStream) info(ctx context.Context) (*jetstream.StreamInfo, error) {
	s, err := j.js.Stream(ctx, StreamName(j.cfg.Prefix))
	if err != nil {
		return nil, err
	}
	return s.CachedInfo(), nil
}

func hasGaps(info *jetstream.StreamInfo) bool {
	return info.State.NumDeleted > 0 || info.State.Msgs < info.State.LastSeq
}

func (j jetStream) Origin(ctx context.Context) (Origin, error) {
	info, err := j.info(ctx)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return Origin{}, errMissing
	}
	if err != nil {
		return Origin{}, err
	}
	want := StreamConfig(j.cfg)
	dangers, _ := checkSettings(info.Config, want)
	return Origin{
		Created: info.Created, Age: info.TimeStamp.Sub(info.Created), Dangers: dangers, Weak: weakSettings(info.Config, want).lines(info.Config.Name),
		Counted: true, Last: info.State.LastSeq, Removed: info.State.LastSeq - min(info.State.Msgs, info.State.LastSeq),
	}, nil
}

func (j jetStream) UsedBefore(ctx context.Context, created time.Time) (bool, error) {
	for _, name := range []string{"OUTCOMES", "DEADLETTERS"} {
		name = streamName(j.cfg.Prefix, name)
		stream, err := j.js.Stream(ctx, name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			continue
		}
		if err != nil {
			return false, fmt.Errorf("whether %s is older: %w", name, err)
		}
		if mayHaveMessagesBefore(stream.CachedInfo(), created) {
			return true, nil
		}
	}
	return false, nil
}

// mayHaveMessagesBefore reports whether a stream had messages before that time, or may have
// had because its first ones are missing.
func mayHaveMessagesBefore(info *jetstream.StreamInfo, t time.Time) bool {
	switch {
	case info.State.LastSeq == 0 || !info.Created.Before(t):
		return false
	case info.State.FirstSeq == 1 && info.State.Msgs > 0:
		return info.State.FirstTime.Before(t)
	default:
		return true
	}
}
