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

// Stream is the little of a JetStream stream that the ledger stands on. Calls may
// run at the same time.
type Stream interface {
	// Publish stores one message where its expectation holds. An error says
	// nothing: the message may be stored all the same, now or a little later.
	Publish(ctx context.Context, d Draft) (Ack, error)

	// Get reads from the stream's leader: the last message over the filter where
	// from is 0, otherwise the first one at or after that sequence. ErrNoMessage
	// says that there is none.
	Get(ctx context.Context, filter string, from uint64) (Message, error)

	// Gaps reports whether messages that were once in the stream are missing from it
	// now: from its beginning, or between others.
	Gaps(ctx context.Context) (bool, error)
}

// ErrNoMessage says that no message of the stream answers a Get.
var ErrNoMessage = errors.New("no such message in the stream")

// Draft is one message on its way into the stream.
type Draft struct {
	Subject string
	Filter  string // the expectation's subject filter; empty: none, whatever Expect says
	Expect  uint64 // the sequence of the last message over Filter; 0: there is none
	ID      string // Nats-Msg-Id, by which the server drops duplicates; empty: none
	Payload []byte
}

// Ack is the server's word that a message is stored.
type Ack struct {
	Sequence  uint64
	Duplicate bool // nothing was stored: Sequence is an earlier message of the same ID
}

// Message is one message of the stream.
type Message struct {
	Subject  string
	Sequence uint64
	Time     time.Time // when the server stored it
	Payload  []byte
}

// Stored is one entry of the ledger with the bytes it was read from.
type Stored struct {
	Subject  string
	Sequence uint64
	Time     time.Time // when the server stored it
	Payload  []byte
	Entry    settlement.Entry
	Err      error    // why the payload is no entry; Entry is then empty
	Foreign  *Foreign // not nil: the message is not an entry of this ledger, and has no effect
}

// foreign is a message that is not an entry.
func (s Stored) foreign(id settlement.SessionID, why error) Stored {
	s.Entry, s.Err = settlement.Entry{}, why
	s.Foreign = &Foreign{Session: id, Subject: s.Subject, Sequence: s.Sequence, Err: why}
	return s
}

// read takes a message for an entry.
func read(m Message) Stored {
	e, err := ParseEntry(m.Subject, m.Payload, m.Sequence)
	return Stored{Subject: m.Subject, Sequence: m.Sequence, Time: m.Time, Payload: m.Payload, Entry: e, Err: err}
}

// jetStream is Stream on a real one.
type jetStream struct {
	js   jetstream.JetStream
	name string
	// stream reads by STREAM.MSG.GET, which only the leader answers: the client
	// goes by the setting AllowDirect as it was when Open verified it.
	stream jetstream.Stream
}

func (j jetStream) Publish(ctx context.Context, d Draft) (Ack, error) {
	m := &nats.Msg{Subject: d.Subject, Data: d.Payload, Header: nats.Header{"Content-Type": {ContentType}}}
	opts := []jetstream.PublishOpt{
		jetstream.WithExpectStream(j.name),
		jetstream.WithRetryAttempts(0), // the ledger tries again, knowing what to look at first
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
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return Message{}, ErrNoMessage
	}
	if err != nil {
		return Message{}, fmt.Errorf("get %s: %w", filter, err)
	}
	return Message{Subject: m.Subject, Sequence: m.Sequence, Time: m.Time, Payload: m.Data}, nil
}

func (j jetStream) Gaps(ctx context.Context) (bool, error) {
	s, err := j.js.Stream(ctx, j.name)
	if err != nil {
		return false, fmt.Errorf("stream %s: %w", j.name, err)
	}
	state := s.CachedInfo().State
	return state.NumDeleted > 0 || state.Msgs < state.LastSeq, nil
}

// Origin tells one stream from the next that has its name.
type Origin struct {
	Created time.Time     // by the servers' clock: no two streams of one name share it
	Age     time.Duration // when it was asked for, by the same clock
	Dangers []string      // settings that endanger money, as Open words them
	Weak    []string      // settings that protect less than configured

	Counted bool   // Last and Removed are known
	Last    uint64 // sequence of the last message ever stored
	Removed uint64 // how many of the messages up to there are gone
}

// Origins is a Stream that can be replaced, changed and set back, and says so.
type Origins interface {
	// Origin asks the leader.
	Origin(ctx context.Context) (Origin, error)
	// UsedBefore reports whether work was done before that instant which a ledger
	// that began then doesn't know of: outcomes were stored, or dead letters.
	UsedBefore(ctx context.Context, begun time.Time) (bool, error)
}

// errMissing says that the ledger's stream is not there.
var errMissing = errors.New("the stream is missing")

// servers is Origins of a JetStream. It takes a new handle of the stream for each
// look: reads go by the settings that the ledger's own handle had when Open
// verified them.
type servers struct {
	js  jetstream.JetStream
	cfg Config
}

func (s servers) Origin(ctx context.Context) (Origin, error) {
	stream, err := s.js.Stream(ctx, StreamName(s.cfg.Prefix))
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return Origin{}, errMissing
	}
	if err != nil {
		return Origin{}, err
	}
	info := stream.CachedInfo()
	want := StreamConfig(s.cfg)
	dangers, _ := inspect(info.Config, want)
	return Origin{
		Created: info.Created, Age: info.TimeStamp.Sub(info.Created), Dangers: dangers, Weak: weaknesses(info.Config, want),
		Counted: true, Last: info.State.LastSeq, Removed: info.State.LastSeq - min(info.State.Msgs, info.State.LastSeq),
	}, nil
}

func (s servers) UsedBefore(ctx context.Context, begun time.Time) (bool, error) {
	for _, name := range []string{"OUTCOMES", "DEADLETTERS"} {
		name = streamName(s.cfg.Prefix, name)
		stream, err := s.js.Stream(ctx, name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			continue
		}
		if err != nil {
			return false, fmt.Errorf("whether %s is older: %w", name, err)
		}
		if heldBefore(stream.CachedInfo(), begun) {
			return true, nil
		}
	}
	return false, nil
}

// heldBefore reports whether a stream held messages before that instant; also
// where it may have, for its first ones are gone.
func heldBefore(info *jetstream.StreamInfo, begun time.Time) bool {
	switch {
	case info.State.LastSeq == 0 || !info.Created.Before(begun):
		return false
	case info.State.FirstSeq == 1 && info.State.Msgs > 0:
		return info.State.FirstTime.Before(begun)
	default:
		return true
	}
}
