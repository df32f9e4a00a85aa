package operations

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"settled/consumer"
	"settled/settlement"
)

// The actions that are recorded.
const (
	ActionStop    = "stop"    // all sending stopped, by an operator or by settled itself
	ActionResume  = "resume"  // sending resumed
	ActionReplay  = "replay"  // a dead letter was replayed
	ActionDiscard = "discard" // a dead letter was discarded
	ActionRequeue = "requeue" // an outcome that the broker no longer delivers was published again
)

// Record describes one action of an operator, or a stop by settled itself. Members that
// do not belong to the action are empty.
type Record struct {
	Action string    `json:"action"`
	Who    string    `json:"who"`
	At     time.Time `json:"at"`
	Reason string    `json:"reason,omitempty"`

	DeadLetter      uint64               `json:"dead_letter,omitempty"` // sequence of the dead letter concerned
	Origin          string               `json:"origin,omitempty"`      // stream/sequence of the outcome concerned
	Session         settlement.SessionID `json:"session_id,omitempty"`
	Scenario        settlement.Scenario  `json:"scenario,omitempty"`
	Code            settlement.Code      `json:"code,omitempty"`
	OutcomeSequence uint64               `json:"outcome_sequence,omitempty"` // of the message that a replay or requeue published
	Edited          bool                 `json:"edited,omitempty"`           // the replay published another payload than the dead letter's
	Stop            uint64               `json:"stop,omitempty"`             // sequence of the stop that a resume lifts

	Sequence uint64    `json:"-"` // in the stream of operations
	Stored   time.Time `json:"-"` // by the server's clock
}

// Parse reads a record of an action. A message that is not a record has no effect: being
// able to make a server publish to the subject (with a reply subject, for example) does
// not make anybody an operator. A record states its action; only a stop may leave that to
// its subject. A resume names the stop that it lifts, a replay or discard its dead letter,
// and a replay or requeue the message that it published.
func Parse(raw *jetstream.RawStreamMsg, action string) (Record, error) {
	var r Record
	if err := json.Unmarshal(raw.Data, &r); err != nil {
		return Record{}, fmt.Errorf("not JSON: %w", err)
	}
	if r.Action == "" && action == ActionStop {
		r.Action = action
	}
	missing := ""
	switch {
	case r.Action != action:
		return Record{}, fmt.Errorf("its action is %.80q, and its subject says %s", r.Action, action)
	case action == ActionStop && strings.TrimSpace(r.Reason) == "":
		missing = "reason"
	case action == ActionResume && r.Stop == 0:
		missing = "stop (the sequence of the stop that it lifts)"
	case (action == ActionReplay || action == ActionDiscard) && r.DeadLetter == 0:
		missing = "dead_letter"
	case (action == ActionReplay || action == ActionRequeue) && r.OutcomeSequence == 0:
		missing = "outcome_sequence"
	}
	if missing != "" {
		return Record{}, fmt.Errorf("it has no %s", missing)
	}
	r.Sequence, r.Stored = raw.Sequence, raw.Time
	r.Who, r.Reason = consumer.OneLine(r.Who, 256), consumer.OneLine(r.Reason, 1<<10)
	if r.Who == "" {
		r.Who = "unknown"
	}
	if r.At.IsZero() {
		r.At = raw.Time
	}
	return r, nil
}

// matches reports whether a stored message records the same action on the same object,
// perhaps stored by an earlier attempt or another replica.
func (r Record) matches(stored *jetstream.RawStreamMsg) bool {
	if stored == nil {
		return false
	}
	got, err := Parse(stored, r.Action)
	return err == nil && got.DeadLetter == r.DeadLetter && got.Origin == r.Origin && got.Session == r.Session &&
		got.Stop == r.Stop && got.OutcomeSequence == r.OutcomeSequence
}
