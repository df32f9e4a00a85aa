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

// incidents are all that the stream of operations says everybody was stopped for,
// resumed since or not. Stops are few, and each is read once.
type incidents struct {
	mu      sync.Mutex
	created time.Time // of the stream they were read from
	read    uint64    // up to this sequence
	keys    map[string]bool
}

// has reports whether an incident stands in the stream.
func (i *incidents) has(ctx context.Context, o *Operations, wanted incident) (bool, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	s, err := o.stream(ctx)
	if err != nil {
		return false, err
	}
	info := s.CachedInfo()
	if !info.Created.Equal(i.created) || i.read > info.State.LastSeq {
		i.created, i.read, i.keys = info.Created, 0, map[string]bool{}
	}
	if err := i.readOn(ctx, o, s); err != nil {
		return false, fmt.Errorf("stops in %s: %w", info.Config.Name, err)
	}
	return i.keys[wanted.key()], nil
}

func (i *incidents) readOn(ctx context.Context, o *Operations, s jetstream.Stream) error {
	for {
		raw, err := s.GetMsg(ctx, i.read+1, jetstream.WithGetMsgSubject(OperationSubject(o.cfg.Prefix, ActionStop)))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		op := readOperation(raw, ActionStop)
		i.keys[incident{session: op.Session, text: op.Reason}.key()] = true
		i.read = raw.Sequence
	}
}
