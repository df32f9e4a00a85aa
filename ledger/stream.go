package ledger

import (
	"context"
	"errors"
	"time"

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
