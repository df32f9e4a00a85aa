package consumer

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"settled/settlement"
)

// incident is what a session showed that everybody has to stop for. The same session
// with other figures is another one.
type incident struct {
	session settlement.SessionID
	text    string
	code    settlement.Code
	outcome settlement.Outcome
	at      time.Time
}

func (i incident) key() string { return string(i.session) + " " + i.text }

func (i incident) operation(who string) Operation {
	ref := i.outcome.Ref
	return Operation{
		Action: ActionStop, Who: who, At: i.at, Reason: i.text, Session: i.session, Scenario: i.outcome.Scenario, Code: i.code,
		Origin: ref.Stream + "/" + strconv.FormatUint(ref.Sequence, 10),
	}
}

// stops are all records of stops in the stream of operations, lifted since or not. They
// are few, and each is read once.
type stops struct {
	mu      sync.Mutex
	created time.Time // of the stream they were read from
	read    uint64    // up to this sequence
	readAt  time.Time // when the message there was stored
	keys    map[string]bool
	all     []Operation
}

// has reports whether an incident is on record.
func (i *stops) has(ctx context.Context, o *Operations, wanted incident) (bool, error) {
	s, err := o.stream(ctx)
	if err != nil {
		return false, err
	}
	if err := i.readOn(ctx, o, s); err != nil {
		return false, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.keys[wanted.key()], nil
}

// readOn reads what was recorded since the last time; all where the stream is another
// one, or was set back.
func (i *stops) readOn(ctx context.Context, o *Operations, s jetstream.Stream) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	same, err := i.continues(ctx, o, s)
	if err != nil {
		return fmt.Errorf("stops in %s: %w", OperationsStream(o.cfg.Prefix), err)
	}
	if !same {
		i.created, i.read, i.readAt, i.keys, i.all = s.CachedInfo().Created, 0, time.Time{}, map[string]bool{}, nil
	}
	for {
		raw, err := s.GetMsg(ctx, i.read+1, jetstream.WithGetMsgSubject(OperationSubject(o.cfg.Prefix, ActionStop)))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("stops in %s: %w", OperationsStream(o.cfg.Prefix), err)
		}
		i.read, i.readAt = raw.Sequence, raw.Time
		op, err := parseOperation(raw, ActionStop)
		if err != nil {
			o.cfg.foreign(OperationsStream(o.cfg.Prefix), raw, err)
			continue
		}
		i.keys[incident{session: op.Session, text: op.Reason}.key()] = true
		i.all = append(i.all, op)
	}
}

// continues reports whether the stream is the one that was read, and still has the
// message that was read last. The caller has the lock.
func (i *stops) continues(ctx context.Context, o *Operations, s jetstream.Stream) (bool, error) {
	if i.keys == nil || !s.CachedInfo().Created.Equal(i.created) {
		return false, nil
	}
	if i.read == 0 {
		return true, nil
	}
	raw, err := s.GetMsg(ctx, i.read)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return false, nil
	}
	return err == nil && raw.Time.Equal(i.readAt), err
}

// lastBefore is the last stop below a sequence; nil where there is none.
func (i *stops) lastBefore(sequence uint64) *Operation {
	i.mu.Lock()
	defer i.mu.Unlock()
	for n := len(i.all); n > 0; n-- {
		if op := i.all[n-1]; op.Sequence < sequence {
			return &op
		}
	}
	return nil
}
