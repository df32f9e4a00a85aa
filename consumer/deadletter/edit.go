package deadletter

import (
	"context"
	"fmt"
	"strings"

	"settled/consumer"
	"settled/consumer/cloudevent"
	"settled/settlement"
)

// Outcome returns the outcome in the dead letter's message, as a replay would publish it.
func (q *Queue) Outcome(l Letter) settlement.Outcome {
	o, _ := settlement.ParseOutcome(q.envelope(l)) // the error is in o.Invalid
	return o
}

func (q *Queue) envelope(l Letter) settlement.Envelope {
	return cloudevent.Read(l.Subject, restoredHeaders(l.Header), l.Payload, consumer.OutcomesStream(q.cfg.Prefix), 0, q.cfg.Prefix)
}

// Edit returns the dead letter with another payload. If the payload names another type of
// outcome, the subject becomes that type's. The error says why the outcome is invalid.
func (q *Queue) Edit(l Letter, payload []byte) (Letter, error) {
	l.Payload = payload
	name, isOutcome := strings.CutPrefix(q.envelope(l).Type, "outcome.")
	if scenario, err := settlement.ParseScenario(name); isOutcome && err == nil {
		l.Subject = consumer.OutcomeSubject(q.cfg.Prefix, scenario)
	}
	if invalid := q.Outcome(l).Invalid; invalid != nil {
		return l, invalid
	}
	return l, nil
}

// ReplayEdited is Replay with the payload and subject of a dead letter from Edit; its
// headers are kept. It refuses an invalid outcome. If another replay of the dead letter
// published something else a moment ago, nothing is published and it returns an error.
func (q *Queue) ReplayEdited(ctx context.Context, edited Letter) (ReplayResult, error) {
	if invalid := q.Outcome(edited).Invalid; invalid != nil {
		return ReplayResult{}, fmt.Errorf("replay dead letter %d: %w", edited.Sequence, invalid)
	}
	if _, err := q.Get(ctx, edited.Sequence); err != nil {
		return ReplayResult{}, fmt.Errorf("replay: %w", err)
	}
	r, err := q.replay(ctx, edited, true)
	if err != nil {
		return ReplayResult{}, fmt.Errorf("replay dead letter %d: %w", edited.Sequence, err)
	}
	return r, nil
}
