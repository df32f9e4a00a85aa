package consumer

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// ReplayResult is where a replayed message stands now.
type ReplayResult struct {
	DeadLetter uint64 `json:"dead_letter"` // the letter, which is removed
	Stream     string `json:"stream"`
	Sequence   uint64 `json:"sequence"`
	Duplicate  bool   `json:"duplicate"` // another replay of the same letter had published it a moment ago
}

// Replay publishes the letter's message again and then removes the letter. The
// fresh Nats-Msg-Id comes from the letter, so that replaying it twice, or from two
// terminals at once, publishes it once; and whatever is published twice all the
// same, the ledger settles once. Errors: ErrNoDeadLetter; any other leaves the
// letter where it is, and the replay can be repeated.
func (d *DeadLetters) Replay(ctx context.Context, seq uint64) (ReplayResult, error) {
	l, err := d.Get(ctx, seq)
	if err != nil {
		return ReplayResult{}, fmt.Errorf("replay: %w", err)
	}
	r, err := d.replay(ctx, l, false)
	if err != nil {
		return ReplayResult{}, fmt.Errorf("replay dead letter %d: %w", seq, err)
	}
	return r, nil
}

func (d *DeadLetters) replay(ctx context.Context, l DeadLetter, edited bool) (ReplayResult, error) {
	m, err := d.replayed(l)
	if err != nil {
		return ReplayResult{}, err
	}
	r := ReplayResult{DeadLetter: l.Sequence, Stream: OutcomesStream(d.cfg.Prefix)}
	done, err := d.done.find(ctx, d, l, m, edited)
	if err != nil {
		return ReplayResult{}, err
	}
	if done != nil && edited {
		return ReplayResult{}, fmt.Errorf("it was replayed already, as %d, and only its removal failed: replay it without an edit, which removes it", done.OutcomeSequence)
	}
	if done != nil {
		r.Sequence, r.Duplicate = done.OutcomeSequence, true
		return r, d.remove(ctx, l.Sequence)
	}
	if r.Sequence, r.Duplicate, err = d.publishAgain(ctx, l, m, edited); err != nil {
		return ReplayResult{}, err
	}
	if err := d.record(ctx, ActionReplay, l, Operation{OutcomeSequence: r.Sequence, Edited: edited}); err != nil {
		return ReplayResult{}, err
	}
	return r, d.remove(ctx, l.Sequence)
}

// publishAgain publishes a letter's message under an id of its own.
func (d *DeadLetters) publishAgain(ctx context.Context, l DeadLetter, m *nats.Msg, edited bool) (sequence uint64, duplicate bool, err error) {
	id := fmt.Sprintf("%s/%d/%d", DeadLettersStream(d.cfg.Prefix), l.Sequence, l.Stored.UnixNano())
	ack, err := publishTo(ctx, d.js, OutcomesStream(d.cfg.Prefix), m, id, func(there *jetstream.RawStreamMsg) bool {
		// An edited replay is compared by the caller: another edit may have come first.
		return sameOutcome(m, headerReplay)(there) || edited && there != nil && there.Header.Get(headerReplay) != ""
	})
	if err != nil {
		return 0, false, fmt.Errorf("publish to %s: %w", m.Subject, err)
	}
	if edited && ack.Duplicate {
		return ack.Sequence, true, d.published(ctx, ack.Sequence, m.Data)
	}
	return ack.Sequence, ack.Duplicate, nil
}

// replayed is the message as it is published again.
func (d *DeadLetters) replayed(l DeadLetter) (*nats.Msg, error) {
	if err := l.check(); err != nil {
		return nil, fmt.Errorf("it is not a dead letter (%w): discard it", err)
	}
	scenario, isOutcome := strings.CutPrefix(l.Subject, OutcomeSubject(d.cfg.Prefix, ""))
	if !isOutcome || scenario == "" || strings.ContainsAny(scenario, ".*> \t\r\n") {
		return nil, fmt.Errorf("its %s is %s, no subject of an outcome: publish its payload by hand, or discard it", headerSubject, brief(l.Subject))
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

// Discard removes the letter for good. The reason is recorded, and needed. Errors:
// ErrNoDeadLetter; any other leaves the letter where it is.
func (d *DeadLetters) Discard(ctx context.Context, seq uint64, reason string) error {
	if strings.TrimSpace(reason) == "" {
		return fmt.Errorf("discard dead letter %d: give a reason, it is recorded", seq)
	}
	l, err := d.Get(ctx, seq)
	if err != nil {
		return fmt.Errorf("discard: %w", err)
	}
	if err := d.record(ctx, ActionDiscard, l, Operation{Reason: line(reason, 4<<10)}); err != nil {
		return fmt.Errorf("discard dead letter %d: %w", seq, err)
	}
	if err := d.remove(ctx, seq); err != nil {
		return fmt.Errorf("discard dead letter %d: %w", seq, err)
	}
	return nil
}

// remove deletes the letter; one that somebody else removed is fine.
func (d *DeadLetters) remove(ctx context.Context, seq uint64) error {
	s, err := d.stream(ctx)
	if err != nil {
		return err
	}
	err = s.DeleteMsg(ctx, seq)
	if err == nil {
		return nil
	}
	if _, getErr := s.GetMsg(ctx, seq); errors.Is(getErr, jetstream.ErrMsgNotFound) {
		return nil
	}
	return fmt.Errorf("remove: %w; it was done, repeat it to remove the letter", err)
}

// record appends what is about to happen to the letter, once for each action.
func (d *DeadLetters) record(ctx context.Context, action string, l DeadLetter, op Operation) error {
	op.Action = action
	op.DeadLetter, op.Origin, op.Session, op.Scenario, op.Code = l.Sequence, l.Origin, l.Session, l.Scenario, l.Code
	operations := &Operations{js: d.js, cfg: d.cfg, Who: d.Who}
	_, err := operations.record(ctx, op, recordID(action, l))
	return err
}
