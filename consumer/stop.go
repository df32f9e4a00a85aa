package consumer

import "time"

// drain withdraws the open request and takes what is under way, until the deadline:
// a server that is silent never says that it was all.
func (f *feed) drain(until time.Time) {
	if f.pull == nil {
		return
	}
	if !f.leaving {
		f.leaving = true
		f.pull.withdraw()
	}
	deadline := time.NewTimer(time.Until(until))
	defer deadline.Stop()
	for f.pull != nil {
		select {
		case m := <-f.pull.arrived:
			f.take(m)
		case <-f.pull.closed:
			f.left()
		case <-f.finished:
			f.inHand--
		case <-deadline.C:
			f.pull.abandon()
			f.left()
		}
	}
}

// giveBack answers what is not begun, so that whoever can may begin it.
func (f *feed) giveBack(delay time.Duration) {
	waiting := f.turns.takeAll()
	for _, m := range f.queue {
		f.turns.ended(m, time.Now())
		f.answerUnbegun(m, delay)
	}
	for _, m := range waiting {
		f.answerUnbegun(m, delay)
	}
	f.queue = nil
}

func (f *feed) answerUnbegun(m *message, delay time.Duration) {
	if err := f.c.held.answer(m, Verdict{Disposition: Requeued, Delay: delay}); err != nil {
		f.c.cfg.Log.Debug().Err(err).Uint64("sequence", m.meta.Sequence.Stream).Msg("not given back")
	}
}

func (f *feed) giveBackAll() { f.giveBack(0) }

// awaitWorkers waits until the workers have ended, or until the deadline.
func (f *feed) awaitWorkers(all <-chan struct{}, until time.Time) bool {
	deadline := time.NewTimer(time.Until(until))
	defer deadline.Stop()
	for {
		select {
		case <-f.finished:
			f.inHand--
		case <-all:
			return true
		case <-deadline.C:
			return false
		}
	}
}
