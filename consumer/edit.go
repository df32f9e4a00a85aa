package consumer

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"settled/settlement"
)

// Outcome is what the letter's message says, as a replay would publish it.
func (d *DeadLetters) Outcome(l DeadLetter) settlement.Outcome {
	o, _ := settlement.ParseOutcome(d.envelope(l)) // its error stands in o.Invalid
	return o
}

func (d *DeadLetters) envelope(l DeadLetter) settlement.Envelope {
	return ReadEnvelope(l.Subject, restoredHeaders(l.Header), l.Payload, OutcomesStream(d.cfg.Prefix), 0, d.cfg.Prefix)
}

// Edited is the letter with another payload. Where that says another type of outcome
// it goes to that type's subject. The error says why it would be invalid.
func (d *DeadLetters) Edited(l DeadLetter, payload []byte) (DeadLetter, error) {
	l.Payload = payload
	name, isOutcome := strings.CutPrefix(d.envelope(l).Type, "outcome.")
	if scenario, err := settlement.ParseScenario(name); isOutcome && err == nil {
		l.Subject = OutcomeSubject(d.cfg.Prefix, scenario)
	}
	if invalid := d.Outcome(l).Invalid; invalid != nil {
		return l, invalid
	}
	return l, nil
}

// ReplayEdited is Replay with another payload, for a letter from Edited; its headers
// are kept. What is no valid outcome is refused. Where another replay of the letter
// published something else a moment ago, nothing is published and an error says so.
func (d *DeadLetters) ReplayEdited(ctx context.Context, edited DeadLetter) (ReplayResult, error) {
	if invalid := d.Outcome(edited).Invalid; invalid != nil {
		return ReplayResult{}, fmt.Errorf("replay dead letter %d: %w", edited.Sequence, invalid)
	}
	if _, err := d.Get(ctx, edited.Sequence); err != nil {
		return ReplayResult{}, fmt.Errorf("replay: %w", err)
	}
	r, err := d.replay(ctx, edited, true)
	if err != nil {
		return ReplayResult{}, fmt.Errorf("replay dead letter %d: %w", edited.Sequence, err)
	}
	return r, nil
}

// published is nil where the outcome at this sequence has this payload: an edited
// replay that was cut off, and is repeated.
func (d *DeadLetters) published(ctx context.Context, seq uint64, payload []byte) error {
	raw, err := storedOutcome(ctx, d.js, OutcomesStream(d.cfg.Prefix), seq)
	if err != nil {
		return fmt.Errorf("read outcome %d again: %w", seq, err)
	}
	if !bytes.Equal(raw.Data, payload) {
		return fmt.Errorf("another replay of it was published a moment ago, as %d, and the edited one was not: see what comes of that", seq)
	}
	return nil
}
