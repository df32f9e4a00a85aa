package simulate

import (
	"context"
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
