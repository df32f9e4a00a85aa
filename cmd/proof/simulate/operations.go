package simulate

import (
	"context"
	"errors"
	"slices"
	"time"

	"settled/settlement"
)

// letters is the stream of dead letters, and who replays them.
type letters struct {
	w     *world
	count uint64
	kept  []letter
	ids   map[uint64]letter // by the number of the message: its sequence and stored time are the Nats-Msg-Id
}

type letter struct {
	sequence uint64
	message  uint64
	deal     *deal
	at       time.Time
}

// letterWindow is how long the server knows a letter's id.
const letterWindow = time.Hour

// Store implements settlement.DeadLetters.
func (l *letters) Store(_ context.Context, o settlement.Outcome, f settlement.Failure, _ int) (sequence uint64, err error) {
	a := l.w.running
	l.w.laws.letter(a, o)
	away := false
	err = a.remote("letter", func() {
		if away = l.w.stream.away(); away {
			return
		}
		sequence = l.store(l.w.broker.of(o.Ref).number)
		a.note("dead letter %d of message %d: %s", sequence, o.Ref.Sequence, f.Error())
	})
	if away {
		return 0, errLost
	}
	return sequence, err
}

func (l *letters) store(message uint64) uint64 {
	if known, found := l.ids[message]; found && l.w.now.Sub(known.at) < letterWindow {
		return known.sequence
	}
	l.count++
	n := letter{l.count, message, l.w.broker.all[message-1].deal, l.w.now}
	l.ids[message] = n
	l.kept = append(l.kept, n)
	return n.sequence
}

// replay is an operator at work: the letter's message is published again, that is
// recorded, and the letter removed.
func (l *letters) replay() {
	if len(l.kept) == 0 {
		return
	}
	i := l.w.choices.pick(len(l.kept))
	n := l.kept[i]
	l.kept = append(l.kept[:i:i], l.kept[i+1:]...)
	l.w.note("OPERATOR", "replays dead letter %d (message %d)", n.sequence, n.message)
	m := l.w.broker.publish(n.deal)
	m.forged = l.w.broker.all[n.message-1].forged
	if !l.w.weather.trust {
		return
	}
	m.letter = n.sequence
	l.w.after(l.w.choices.between(0, 3*time.Second), func() { m.recorded = true })
}

// brake is the stream of operations: who stopped all sending, and the person who
// looks into it and resumes.
type brake struct {
	w     *world
	on    bool
	stops map[settlement.SessionID]bool // for which it was pulled
}

var _ settlement.EmergencyStop = (*brake)(nil)

// Stopped implements settlement.EmergencyStop. Every replica knows at once: that the news
// takes a moment is another's send that is on its way already.
func (b *brake) Stopped(context.Context) error {
	if b.on {
		return errors.New("stopped for a session that was paid twice")
	}
	return nil
}

// Stop implements settlement.EmergencyStop: once for each session, as it is recorded.
func (b *brake) Stop(_ context.Context, o settlement.Outcome, f settlement.Failure) error {
	if b.stops[o.Session] {
		return nil
	}
	return b.w.running.remote("stop", func() {
		if b.stops[o.Session] {
			return
		}
		b.w.note("OPERATIONS", "everybody stops: %s", f.Message)
		b.on, b.stops[o.Session] = true, true
		b.w.after(b.w.choices.between(time.Minute, 10*time.Minute), b.resume)
	})
}

func (b *brake) resume() {
	b.w.note("OPERATOR", "resumes")
	b.on = false
}

// Where outcomes are signed, an adversary publishes copies of signed messages, and
// messages of its own that have the same source and id.

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
