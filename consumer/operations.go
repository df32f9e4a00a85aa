package consumer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"settled/settlement"
)

// The actions that are recorded.
const (
	ActionStop    = "stop"    // all sending, by an operator or by settled itself
	ActionResume  = "resume"  // it goes on
	ActionReplay  = "replay"  // of a dead letter
	ActionDiscard = "discard" // of a dead letter
	ActionRequeue = "requeue" // of an outcome that the broker lost sight of
)

// Operation is the record of something that an operator did, or of settled having
// stopped by itself. Members that don't belong to the action are empty.
type Operation struct {
	Action string    `json:"action"`
	Who    string    `json:"who"`
	At     time.Time `json:"at"`
	Reason string    `json:"reason,omitempty"`

	DeadLetter      uint64               `json:"dead_letter,omitempty"` // sequence of the letter that it was done to
	Origin          string               `json:"origin,omitempty"`      // stream/sequence of the outcome that it is about
	Session         settlement.SessionID `json:"session_id,omitempty"`
	Scenario        settlement.Scenario  `json:"scenario,omitempty"`
	Code            settlement.Code      `json:"code,omitempty"`
	OutcomeSequence uint64               `json:"outcome_sequence,omitempty"` // of the message that a replay published
	Edited          bool                 `json:"edited,omitempty"`           // a replay of another payload than the letter's
	Stop            uint64               `json:"stop,omitempty"`             // sequence of the stop that a resume lifts

	Sequence uint64    `json:"-"` // in the stream of operations
	Stored   time.Time `json:"-"` // by the server's clock
}

// Operations is the stream of what operators did.
type Operations struct {
	js  jetstream.JetStream
	cfg Config

	// Who acts; NewOperations sets user@host.
	Who string

	stops stops // that were read
}

// NewOperations needs Prefix of cfg.
func NewOperations(js jetstream.JetStream, cfg Config) *Operations {
	return &Operations{js: js, cfg: cfg.withDefaults(), Who: whoami()}
}

// record appends an operation. One that was appended under the same id within the
// stream's duplicate window is not appended again.
func (o *Operations) record(ctx context.Context, op Operation, id string, options ...jetstream.PublishOpt) (Operation, error) {
	op.Who, op.At = o.Who, time.Now().UTC()
	data, err := json.Marshal(op)
	if err != nil {
		return op, fmt.Errorf("record: %w", err)
	}
	m := nats.NewMsg(OperationSubject(o.cfg.Prefix, op.Action))
	m.Header.Set("Content-Type", "application/json")
	m.Data = data
	ack, err := publishTo(ctx, o.js, OperationsStream(o.cfg.Prefix), m, id, sameRecord(op), options...)
	if err != nil {
		return op, fmt.Errorf("record in %s: %w", OperationsStream(o.cfg.Prefix), err)
	}
	op.Sequence = ack.Sequence
	return op, nil
}

// sameRecord reports whether a stored message records the same, perhaps by another try
// or another replica.
func sameRecord(op Operation) func(*jetstream.RawStreamMsg) bool {
	return func(there *jetstream.RawStreamMsg) bool {
		if there == nil {
			return false
		}
		got, err := parseOperation(there, op.Action)
		return err == nil && got.DeadLetter == op.DeadLetter && got.Origin == op.Origin && got.Session == op.Session && got.Stop == op.Stop && got.OutcomeSequence == op.OutcomeSequence
	}
}

// parseOperation reads a record of an action. A message that is not one has no effect:
// whoever can have a server publish to the subject (by a reply subject, for one) is not
// an operator. A record says its action; a stop alone may leave that to its subject. A
// resume names the stop that it lifts, a replay or discard its dead letter, and a
// replay or requeue the message that it published.
func parseOperation(raw *jetstream.RawStreamMsg, action string) (Operation, error) {
	var op Operation
	if err := json.Unmarshal(raw.Data, &op); err != nil {
		return Operation{}, fmt.Errorf("not JSON: %w", err)
	}
	if op.Action == "" && action == ActionStop {
		op.Action = action
	}
	missing := ""
	switch {
	case op.Action != action:
		return Operation{}, fmt.Errorf("its action is %.80q, and its subject says %s", op.Action, action)
	case action == ActionStop && strings.TrimSpace(op.Reason) == "":
		missing = "reason"
	case action == ActionResume && op.Stop == 0:
		missing = "stop (the sequence of the stop that it lifts)"
	case (action == ActionReplay || action == ActionDiscard) && op.DeadLetter == 0:
		missing = "dead_letter"
	case (action == ActionReplay || action == ActionRequeue) && op.OutcomeSequence == 0:
		missing = "outcome_sequence"
	}
	if missing != "" {
		return Operation{}, fmt.Errorf("it has no %s", missing)
	}
	op.Sequence, op.Stored = raw.Sequence, raw.Time
	op.Who, op.Reason = line(op.Who, 256), line(op.Reason, 1<<10)
	if op.Who == "" {
		op.Who = "unknown"
	}
	if op.At.IsZero() {
		op.At = raw.Time
	}
	return op, nil
}

// find is the first record of an action from a sequence on that is wanted; nil where
// there is none. Messages that are not records are reported.
func (o *Operations) find(ctx context.Context, s jetstream.Stream, action string, from uint64, want func(Operation) bool) (*Operation, error) {
	for {
		raw, err := s.GetMsg(ctx, from, jetstream.WithGetMsgSubject(OperationSubject(o.cfg.Prefix, action)))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s in %s: %w", action, OperationsStream(o.cfg.Prefix), err)
		}
		op, err := parseOperation(raw, action)
		if err != nil {
			o.cfg.foreign(OperationsStream(o.cfg.Prefix), raw, err)
		} else if want(op) {
			return &op, nil
		}
		from = raw.Sequence + 1
	}
}

// last is the last message of an action, from the stream's leader; nil where there is
// none.
func (o *Operations) last(ctx context.Context, s jetstream.Stream, action string) (*jetstream.RawStreamMsg, error) {
	raw, err := s.GetLastMsgForSubject(ctx, OperationSubject(o.cfg.Prefix, action))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("last %s in %s: %w", action, OperationsStream(o.cfg.Prefix), err)
	}
	return raw, nil
}

// lastStop is the last stop on record, nil where there is none, and the sequence of the
// last message on its subject, which may be a foreign one.
func (o *Operations) lastStop(ctx context.Context, s jetstream.Stream) (stop *Operation, tail uint64, err error) {
	raw, err := o.last(ctx, s, ActionStop)
	if err != nil || raw == nil {
		return nil, 0, err
	}
	if op, err := parseOperation(raw, ActionStop); err == nil {
		return &op, raw.Sequence, nil
	}
	err = o.stops.readOn(ctx, o, s)
	return o.stops.lastBefore(raw.Sequence + 1), raw.Sequence, err
}

// liftedBy is the resume that lifts a stop; nil where none does.
func (o *Operations) liftedBy(ctx context.Context, s jetstream.Stream, stop Operation) (*Operation, error) {
	lifts := func(op Operation) bool { return op.Stop == stop.Sequence && op.Sequence > stop.Sequence }
	raw, err := o.last(ctx, s, ActionResume)
	if err != nil || raw == nil || raw.Sequence < stop.Sequence {
		return nil, err
	}
	if op, err := parseOperation(raw, ActionResume); err == nil && lifts(op) {
		return &op, nil
	}
	return o.find(ctx, s, ActionResume, stop.Sequence+1, lifts)
}

// standing is the last stop and the resume that lifts it; both may be nil.
func (o *Operations) standing(ctx context.Context, s jetstream.Stream) (stop, resume *Operation, err error) {
	if stop, _, err = o.lastStop(ctx, s); err != nil || stop == nil {
		return nil, nil, err
	}
	resume, err = o.liftedBy(ctx, s, *stop)
	return stop, resume, err
}

// inForce: a stop counts until a resume that names it.
func inForce(stop, resume *Operation) bool { return stop != nil && resume == nil }

func (o *Operations) stream(ctx context.Context) (jetstream.Stream, error) {
	name := OperationsStream(o.cfg.Prefix)
	s, err := o.js.Stream(ctx, name)
	return s, wrapStream(name, err)
}

// Stopped is the stop that is in force; nil where there is none.
func (o *Operations) Stopped(ctx context.Context) (*Operation, error) {
	s, err := o.stream(ctx)
	if err != nil {
		return nil, err
	}
	stop, resume, err := o.standing(ctx, s)
	if err != nil || !inForce(stop, resume) {
		return nil, err
	}
	return stop, nil
}

// Stop records that all sending stops, for a reason, which is needed. Every replica
// learns of it within a moment; what is being sent at that moment still is.
func (o *Operations) Stop(ctx context.Context, reason string) (Operation, error) {
	if strings.TrimSpace(reason) == "" {
		return Operation{}, errors.New("stop: give a reason, it is recorded")
	}
	op, err := o.record(ctx, Operation{Action: ActionStop, Reason: line(reason, 4<<10)}, nats.NewInbox())
	if err != nil {
		return op, fmt.Errorf("stop: %w", err)
	}
	return op, nil
}

// Resume records that sending goes on, for a reason, which is needed, and returns
// the stop that it lifted; nil where none was in force, and then nothing is recorded.
// Where another stop comes in that moment nothing is lifted: an error says so.
func (o *Operations) Resume(ctx context.Context, reason string) (*Operation, error) {
	if strings.TrimSpace(reason) == "" {
		return nil, errors.New("resume: give a reason, it is recorded")
	}
	stop, err := o.Stopped(ctx)
	if err != nil || stop == nil {
		return nil, err
	}
	if _, err := o.resume(ctx, Operation{Action: ActionResume, Reason: line(reason, 4<<10), Stop: stop.Sequence}); err != nil {
		return nil, fmt.Errorf("resume: %w; if another stop came in this moment, look at it and resume again", err)
	}
	return stop, nil
}

// resume lifts the stop that op names, where that is still the last.
func (o *Operations) resume(ctx context.Context, op Operation) (Operation, error) {
	s, err := o.stream(ctx)
	if err != nil {
		return op, err
	}
	stop, tail, err := o.lastStop(ctx, s)
	if err != nil {
		return op, err
	}
	if stop == nil || stop.Sequence != op.Stop {
		return op, fmt.Errorf("operation %d is not the last stop", op.Stop)
	}
	last := jetstream.WithExpectLastSequenceForSubject(tail, OperationSubject(o.cfg.Prefix, ActionStop))
	return o.record(ctx, op, nats.NewInbox(), last)
}

// whoami is user@host, as far as the system says.
func whoami() string {
	name, host := "unknown", "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if h, err := os.Hostname(); err == nil {
		host = h
	}
	return name + "@" + host
}
