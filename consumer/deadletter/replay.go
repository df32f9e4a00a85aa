package deadletter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"settled/consumer"
	"settled/consumer/internal/publish"
	"settled/consumer/operations"
)

// ReplayResult says where a replayed message is now.
type ReplayResult struct {
	DeadLetter uint64 `json:"dead_letter"` // the dead letter, which is removed
	Stream     string `json:"stream"`
	Sequence   uint64 `json:"sequence"`
	Duplicate  bool   `json:"duplicate"` // another replay of the same dead letter had published it already
}

// Replay publishes the dead letter's message again and then removes the dead letter. The
// new Nats-Msg-Id is derived from the dead letter, so replaying it twice, or from two
// terminals at once, publishes it once; if it is published twice nevertheless, the ledger
// settles it once. Errors: ErrNotFound; any other leaves the dead letter in place, and the
// replay can be repeated.
func (q *Queue) Replay(ctx context.Context, seq uint64) (ReplayResult, error) {
	l, err := q.Get(ctx, seq)
	if err != nil {
		return ReplayResult{}, fmt.Errorf("replay: %w", err)
	}
	r, err := q.replay(ctx, l, false)
	if err != nil {
		return ReplayResult{}, fmt.Errorf("replay dead letter %d: %w", seq, err)
	}
	return r, nil
}

// replay publishes the message of a dead letter, records that, and removes the dead
// letter. If the record of an earlier replay exists, only the removal is left to do.
func (q *Queue) replay(ctx context.Context, l Letter, edited bool) (ReplayResult, error) {
	m, err := q.replayMessage(l)
	if err != nil {
		return ReplayResult{}, err
	}
	r := ReplayResult{DeadLetter: l.Sequence, Stream: consumer.OutcomesStream(q.cfg.Prefix)}
	earlier, err := q.replayed.find(ctx, q, l, m, edited)
	switch {
	case err != nil:
		return ReplayResult{}, err
	case earlier != nil && edited:
		return ReplayResult{}, fmt.Errorf("it was replayed already, as %d, and only its removal failed: replay it without an edit, which removes it", earlier.OutcomeSequence)
	case earlier != nil:
		r.Sequence, r.Duplicate = earlier.OutcomeSequence, true
		return r, q.remove(ctx, l.Sequence)
	}
	if r.Sequence, r.Duplicate, err = q.publishReplay(ctx, l, m, edited); err != nil {
		return ReplayResult{}, err
	}
	if err := q.record(ctx, l, operations.Record{Action: operations.ActionReplay, OutcomeSequence: r.Sequence, Edited: edited}); err != nil {
		return ReplayResult{}, err
	}
	return r, q.remove(ctx, l.Sequence)
}

// publishReplay publishes the message under an id derived from the dead letter.
func (q *Queue) publishReplay(ctx context.Context, l Letter, m *nats.Msg, edited bool) (sequence uint64, duplicate bool, err error) {
	stream := consumer.OutcomesStream(q.cfg.Prefix)
	id := fmt.Sprintf("%s/%d/%d", consumer.DeadLettersStream(q.cfg.Prefix), l.Sequence, l.Stored.UnixNano())
	ack, err := publish.Once(ctx, q.js, stream, m, id, func(stored *jetstream.RawStreamMsg) bool {
		// The payload of an edited replay is compared below: another edit may have been first.
		return isSameOutcome(m, headerReplay)(stored) || edited && stored != nil && stored.Header.Get(headerReplay) != ""
	})
	if err != nil {
		return 0, false, fmt.Errorf("publish to %s: %w", m.Subject, err)
	}
	if edited && ack.Duplicate {
		stored, err := consumer.ReadOutcome(ctx, q.js, stream, ack.Sequence)
		if err != nil {
			return 0, false, fmt.Errorf("read outcome %d again: %w", ack.Sequence, err)
		}
		if !bytes.Equal(stored.Data, m.Data) {
			return 0, false, fmt.Errorf("another replay of it was published a moment ago, as %d, and the edited one was not: wait for the result of that one", ack.Sequence)
		}
	}
	return ack.Sequence, ack.Duplicate, nil
}

// replayMessage returns the message of a dead letter as it is published again.
func (q *Queue) replayMessage(l Letter) (*nats.Msg, error) {
	if err := l.validate(); err != nil {
		return nil, fmt.Errorf("it is not a dead letter (%w): discard it", err)
	}
	scenario, isOutcome := strings.CutPrefix(l.Subject, consumer.OutcomeSubject(q.cfg.Prefix, ""))
	if !isOutcome || scenario == "" || strings.ContainsAny(scenario, ".*> \t\r\n") {
		return nil, fmt.Errorf("its %s is %.80q, no subject of an outcome: publish its payload by hand, or discard it", headerSubject, l.Subject)
	}
	if l.Header.Get(headerTruncated) != "" {
		return nil, fmt.Errorf("it was too big to be kept whole: publish the message at %s again by hand, then discard it", l.Origin)
	}
	m := nats.NewMsg(l.Subject)
	m.Header = restoredHeaders(l.Header)
	for name := range m.Header {
		if strings.EqualFold(name, headerReplay) {
			delete(m.Header, name)
		}
	}
	m.Header.Set(headerReplay, strconv.Itoa(l.Replays+1))
	m.Data = l.Payload
	return m, nil
}

// Discard removes the dead letter for good. The reason is recorded and required. Errors:
// ErrNotFound; any other leaves the dead letter in place.
func (q *Queue) Discard(ctx context.Context, seq uint64, reason string) error {
	if strings.TrimSpace(reason) == "" {
		return fmt.Errorf("discard dead letter %d: give a reason, it is recorded", seq)
	}
	l, err := q.Get(ctx, seq)
	if err != nil {
		return fmt.Errorf("discard: %w", err)
	}
	err = q.record(ctx, l, operations.Record{Action: operations.ActionDiscard, Reason: consumer.OneLine(reason, 4<<10)})
	if err == nil {
		err = q.remove(ctx, seq)
	}
	if err != nil {
		return fmt.Errorf("discard dead letter %d: %w", seq, err)
	}
	return nil
}

// remove deletes the dead letter. It is no error if it was removed already.
func (q *Queue) remove(ctx context.Context, seq uint64) error {
	s, err := q.js.Stream(ctx, consumer.DeadLettersStream(q.cfg.Prefix))
	if err != nil {
		return fmt.Errorf("stream %s: %w", consumer.DeadLettersStream(q.cfg.Prefix), err)
	}
	err = s.DeleteMsg(ctx, seq)
	if err == nil {
		return nil
	}
	if _, getErr := s.GetMsg(ctx, seq); errors.Is(getErr, jetstream.ErrMsgNotFound) {
		return nil
	}
	return fmt.Errorf("remove: %w; the message was handled, but its dead letter is still there: repeat the command to remove it", err)
}

// record records an action on a dead letter, once for each action.
func (q *Queue) record(ctx context.Context, l Letter, r operations.Record) error {
	r.DeadLetter, r.Origin, r.Session, r.Scenario, r.Code = l.Sequence, l.Origin, l.Session, l.Scenario, l.Code
	log := *q.operations
	log.Who = q.Who
	_, err := log.Append(ctx, r, recordID(r.Action, l))
	return err
}
