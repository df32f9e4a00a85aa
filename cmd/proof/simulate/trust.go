package simulate

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"settled/settlement"
)

// Where outcomes are signed, an adversary publishes copies of signed messages, and
// messages of its own that have the same source and id.

// copied publishes an outcome's message again, as it is or with other data.
func (b *broker) copied() {
	if len(b.all) == 0 {
		return
	}
	m := b.all[b.w.choices.pick(len(b.all))]
	d := m.deal
	if b.w.choices.pick(2) == 0 {
		b.w.note("ADVERSARY", "publishes a copy of %s", d)
		b.publish(d).forged = m.forged
		return
	}
	other := *d
	other.name += "x"
	other.provider = 0
	other.payload = other.event(b.w.dialect)
	b.w.note("ADVERSARY", "publishes %s, with other data", d)
	b.publish(&other).forged = true
}

// trusted is settlement.Settler's TrustFunc.
func (b *broker) trusted(o settlement.Outcome) *settlement.Failure {
	if b.of(o.Ref).forged {
		return settlement.Fail(settlement.UntrustedOutcome, "nobody signed it")
	}
	return nil
}

// approved is settlement.Settler's ReplayFunc: it reads the stream of operations.
func (b *broker) approved(_ context.Context, o settlement.Outcome, failed []settlement.Entry) error {
	m := b.of(o.Ref)
	if err := b.w.running.remote("operations", func() {}); err != nil {
		return err
	}
	named := slices.ContainsFunc(failed, func(e settlement.Entry) bool { return e.DeadLetter == m.letter })
	switch {
	case m.letter > 0 && !m.recorded:
		return errors.New("the record of the replay is not stored yet")
	case m.letter == 0 || !named:
		return settlement.Fail(settlement.UntrustedOutcome, "the outcome failed, and no operator replayed it")
	}
	return nil
}

// signed holds what begins or closes a session to a signature, and to an operator's
// replay where the outcome had failed. What holds the session already may go on.
func (l *laws) signed(r *record, m *message, e settlement.Entry) {
	if !l.w.weather.trust || l.holders[e.Session] == r {
		return
	}
	why := ""
	switch {
	case m.forged:
		why = "nobody signed it"
	case len(r.failed) > 0 && !m.recorded:
		why = fmt.Sprintf("it failed with entry %d, and no operator replayed it", r.failed[len(r.failed)-1].entry)
	default:
		return
	}
	l.w.violate(Signed, "entry %d: %s by message %d of %s: %s", e.Sequence, e.State, m.sequence, m.deal, why)
}
