package simulate

import (
	"context"
	"errors"
	"slices"
	"time"

	"settled/settlement"
)

// deadLetterStream is the stream of dead letters.
type deadLetterStream struct {
	w      *world
	count  uint64
	stored []deadLetter
	ids    map[uint64]deadLetter // by message number, which stands for the Nats-Msg-Id
}

type deadLetter struct {
	sequence uint64
	message  *message
	at       time.Time
}

// duplicateWindow is how long the server remembers the id of a dead letter.
const duplicateWindow = time.Hour

// Store implements settlement.DeadLetters.
func (d *deadLetterStream) Store(_ context.Context, o settlement.Outcome, f settlement.Failure, _ int) (sequence uint64, err error) {
	a := d.w.running
	d.w.checker.checkDeadLetter(a, o)
	unavailable := false
	err = a.call("dead letter", func() {
		if unavailable = d.w.ledger.unavailable(); unavailable {
			return
		}
		sequence = d.add(d.w.broker.messageOf(o.Ref))
		a.tracef("dead letter %d of message %d: %s", sequence, o.Ref.Sequence, f.Error())
	})
	if unavailable {
		return 0, errNoAnswer
	}
	return sequence, err
}

func (d *deadLetterStream) add(m *message) uint64 {
	if known, found := d.ids[m.number]; found && d.w.now.Sub(known.at) < duplicateWindow {
		return known.sequence
	}
	d.count++
	l := deadLetter{d.count, m, d.w.now}
	d.ids[m.number] = l
	d.stored = append(d.stored, l)
	return l.sequence
}

// replay has an operator replay a dead letter: its message is published again, the
// replay is recorded, and the dead letter removed.
func (d *deadLetterStream) replay() {
	if len(d.stored) == 0 {
		return
	}
	i := d.w.choices.pick(len(d.stored))
	l := d.stored[i]
	d.stored = append(d.stored[:i:i], d.stored[i+1:]...)
	d.w.tracef("OPERATOR", "replays dead letter %d (message %d)", l.sequence, l.message.number)
	m := d.w.broker.publish(l.message.outcome)
	m.forged = l.message.forged
	if d.w.faults.signedOutcomes {
		m.replayOf = l.sequence
		d.w.after(d.w.choices.between(0, 3*time.Second), func() { m.replayRecorded = true })
	}
}

// checkTrust is settlement.Settler's TrustFunc.
func (b *broker) checkTrust(o settlement.Outcome) *settlement.Failure {
	if b.messageOf(o.Ref).forged {
		return settlement.Fail(settlement.UntrustedOutcome, "not signed by a trusted publisher")
	}
	return nil
}

// checkReplay is settlement.Settler's ReplayFunc. It reads the stream of operations.
func (b *broker) checkReplay(_ context.Context, o settlement.Outcome, failed []settlement.Entry) error {
	m := b.messageOf(o.Ref)
	if err := b.w.running.call("operations", func() {}); err != nil {
		return err
	}
	named := slices.ContainsFunc(failed, func(e settlement.Entry) bool { return e.DeadLetter == m.replayOf })
	switch {
	case m.replayOf > 0 && !m.replayRecorded:
		return errors.New("the record of the replay is not stored yet")
	case m.replayOf == 0 || !named:
		return settlement.Fail(settlement.UntrustedOutcome, "the outcome failed, and no operator replayed it")
	}
	return nil
}

// emergencyStop is the stream of operations, and the operator who resumes.
type emergencyStop struct {
	w        *world
	active   bool
	sessions map[settlement.SessionID]bool // that caused a stop
}

// Stopped implements settlement.EmergencyStop. Every replica sees a stop at once: a
// replica that sees it late is the same as a request that is already in flight.
func (s *emergencyStop) Stopped(context.Context) error {
	if s.active {
		return errors.New("stopped because a session was paid twice")
	}
	return nil
}

// Stop implements settlement.EmergencyStop. It is recorded once for each session.
func (s *emergencyStop) Stop(_ context.Context, o settlement.Outcome, f settlement.Failure) error {
	if s.sessions[o.Session] {
		return nil
	}
	return s.w.running.call("stop", func() {
		if s.sessions[o.Session] {
			return
		}
		s.w.tracef("OPERATIONS", "emergency stop: %s", f.Message)
		s.active, s.sessions[o.Session] = true, true
		s.w.after(s.w.choices.between(time.Minute, 10*time.Minute), func() {
			s.w.tracef("OPERATOR", "resumes")
			s.active = false
		})
	})
}
