// Package ledgertest provides a ledger.Stream in memory for tests: it behaves like a
// JetStream stream, and fails on demand. It proves nothing about servers; the tests of
// package ledger run those.
package ledgertest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"settled/ledger"
	"settled/ledger/streamreader"
)

// Op is an operation of a ledger.Stream.
type Op string

// The operations.
const (
	Publish Op = "publish"
	Get     Op = "get"
)

// Fault is the result of one operation, for tests that plan several.
type Fault struct {
	Apply bool  // the operation takes effect, also where Err is not nil
	Err   error // returned to the caller
}

// Stream is a ledger.Stream in memory. Its zero value is empty and ready.
type Stream struct {
	// FaultFunc returns the error that an operation returns, and whether the operation
	// takes effect in spite of it. Nil: no faults. It is called without locks.
	FaultFunc func(Op) (apply bool, err error)
	// NowFunc is the server's clock. Nil: time.Now.
	NowFunc func() time.Time

	mu       sync.Mutex
	messages []ledger.Message
	ids      map[string]uint64
}

var _ ledger.Stream = (*Stream)(nil)

// ErrConflict is the answer to a publish whose expectation does not hold.
var ErrConflict = errors.New("wrong last sequence")

// Publish implements ledger.Stream. It also rejects what a JetStream server accepts and a
// ledger must never do: an expectation over another filter than the one of the subject's
// session.
func (s *Stream) Publish(ctx context.Context, d ledger.Draft) (ledger.Ack, error) {
	apply, err := s.fault(ctx, Publish)
	if !apply {
		return ledger.Ack{}, err
	}
	ack, applyErr := s.store(d)
	if err == nil {
		err = applyErr
	}
	if err != nil {
		return ledger.Ack{}, err
	}
	return ack, nil
}

// Get implements ledger.Stream.
func (s *Stream) Get(ctx context.Context, filter string, from uint64) (ledger.Message, error) {
	if apply, err := s.fault(ctx, Get); !apply || err != nil {
		return ledger.Message{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if from == 0 {
		return s.last(filter)
	}
	start, _ := slices.BinarySearchFunc(s.messages, from, func(m ledger.Message, from uint64) int { return cmp.Compare(m.Sequence, from) })
	for _, m := range s.messages[start:] {
		if Matches(filter, m.Subject) {
			return m, nil
		}
	}
	return ledger.Message{}, ledger.ErrNoMessage
}

// Gaps implements ledger.Stream.
func (s *Stream) Gaps(ctx context.Context) (bool, error) {
	if apply, err := s.fault(ctx, Get); !apply || err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.messages)
	return n > 0 && s.messages[n-1].Sequence != uint64(n), nil
}

// Put stores a message without an expectation, as another client could.
func (s *Stream) Put(subject string, payload []byte) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.append(subject, payload)
}

// Replace replaces the payload of a stored message.
func (s *Stream) Replace(sequence uint64, payload []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.messages {
		if s.messages[i].Sequence == sequence {
			s.messages[i].Payload = payload
		}
	}
}

// Remove deletes one message, and leaves a gap.
func (s *Stream) Remove(sequence uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.messages = slices.DeleteFunc(s.messages, func(m ledger.Message) bool { return m.Sequence == sequence })
}

// Rewind removes every message after a sequence, as restoring a backup does.
func (s *Stream) Rewind(last uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.messages = slices.DeleteFunc(s.messages, func(m ledger.Message) bool { return m.Sequence > last })
	maps.DeleteFunc(s.ids, func(_ string, sequence uint64) bool { return sequence > last })
}

// Messages returns all messages, oldest first.
func (s *Stream) Messages() []ledger.Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.messages)
}

func (s *Stream) fault(ctx context.Context, op Op) (apply bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if s.FaultFunc == nil {
		return true, nil
	}
	apply, err = s.FaultFunc(op)
	return apply || err == nil, err
}

func (s *Stream) store(d ledger.Draft) (ledger.Ack, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sequence, seen := s.ids[d.ID]; seen && d.ID != "" {
		return ledger.Ack{Sequence: sequence, Duplicate: true}, nil
	}
	if d.Filter != "" {
		if want := filterOf(d.Subject); d.Filter != want {
			return ledger.Ack{}, fmt.Errorf("%s published with an expectation over %s: every writer must use %s", d.Subject, d.Filter, want)
		}
		m, err := s.last(d.Filter)
		if err != nil && !errors.Is(err, ledger.ErrNoMessage) {
			return ledger.Ack{}, err
		}
		if m.Sequence != d.Expect {
			return ledger.Ack{}, fmt.Errorf("%w: %d, expected %d", ErrConflict, m.Sequence, d.Expect)
		}
	}
	sequence := s.append(d.Subject, d.Payload)
	if d.ID != "" {
		if s.ids == nil {
			s.ids = map[string]uint64{}
		}
		s.ids[d.ID] = sequence
	}
	return ledger.Ack{Sequence: sequence}, nil
}

func (s *Stream) append(subject string, payload []byte) uint64 {
	now := time.Now
	if s.NowFunc != nil {
		now = s.NowFunc
	}
	m := ledger.Message{Subject: subject, Sequence: 1, Time: now(), Payload: slices.Clone(payload)}
	if n := len(s.messages); n > 0 {
		m.Sequence = s.messages[n-1].Sequence + 1
	}
	s.messages = append(s.messages, m)
	return m.Sequence
}

func (s *Stream) last(filter string) (ledger.Message, error) {
	for i := range s.messages {
		if m := s.messages[len(s.messages)-1-i]; Matches(filter, m.Subject) {
			return m, nil
		}
	}
	return ledger.Message{}, ledger.ErrNoMessage
}

// filterOf replaces the state, the last token but one, with a wildcard.
func filterOf(subject string) string {
	tokens := strings.Split(subject, ".")
	if len(tokens) < 2 {
		return subject
	}
	tokens[len(tokens)-2] = "*"
	return strings.Join(tokens, ".")
}

// Matches reports whether a filter matches a subject.
var Matches = streamreader.Matches
