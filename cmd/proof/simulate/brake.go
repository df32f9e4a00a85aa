package simulate

import (
	"context"
	"errors"
	"time"

	"settled/settlement"
)

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

// braked holds a request to the brake, and the end of an incident to its having
// been pulled.
func (l *laws) braked(f *flight) {
	if l.w.brake.on {
		l.w.violate(Braked, "%s is sent while everybody is stopped", f)
	}
}

func (l *laws) alarmed(e settlement.Entry) {
	if e.Error.Code == settlement.Overpaid && !l.w.brake.stops[e.Session] {
		l.w.violate(Braked, "entry %d says that a session was paid twice, and nobody was stopped", e.Sequence)
	}
}
