package ledger

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"settled/settlement"
)

// watermark knows the furthest message of the stream that this process has seen,
// and so notices when the stream falls behind it: the server came back from a
// backup, or lost its disk. Entries of requests that may still land are then
// gone, so nothing is sent for a fence. A fresh process knows what Config.Tail
// remembers; that the stream is another one than it was, recognition tells it.
type watermark struct {
	nowFunc func() time.Time
	fence   time.Duration

	mu        sync.Mutex
	epoch     uint64 // how often the stream fell
	sequence  uint64
	digest    string // of the payload at sequence
	heldUntil time.Time
	why       error  // it is held
	away      uint64 // how often the connection was away
	looked    uint64 // up to which of these it was looked whether the stream fell
	since     mark   // the furthest message seen since then
}

// moment is what was known before a request to the stream began.
type moment struct{ epoch, sequence uint64 }

func (w *watermark) now() moment {
	w.mu.Lock()
	defer w.mu.Unlock()
	return moment{w.epoch, w.sequence}
}

// saw takes note of a message that a read returned. What was under way when the
// stream fell is no news. While it is not known whether the stream fell during an
// absence, the furthest message before it stays: only that one can show a fall.
func (w *watermark) saw(before moment, m Message) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.epoch != before.epoch || m.Sequence <= w.sequence:
	case w.away == w.looked:
		w.sequence, w.digest = m.Sequence, digest(m.Payload)
	case m.Sequence > w.since.Sequence:
		w.since = mark{m.Sequence, digest(m.Payload)}
	}
}

// stored takes note of a message of ours that was not in the stream before that
// moment. At or below what was known then, it proves that the stream fell.
func (w *watermark) stored(before moment, m Message) {
	if m.Sequence <= before.sequence {
		w.fell(m)
		return
	}
	w.saw(before, m)
}

// fell begins to wait, and starts over with what the stream has now.
func (w *watermark) fell(m Message) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.epoch++
	w.sequence, w.digest = m.Sequence, digest(m.Payload)
	w.hold(w.fence, errFell)
}

// fellSince does so where the stream ends before that moment, unless somebody has
// noticed already.
func (w *watermark) fellSince(before moment) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.epoch == before.epoch {
		w.epoch++
		w.sequence, w.digest = 0, ""
		w.hold(w.fence, errFell)
	}
}

// anew starts over with a stream that took the place of the one that was known,
// and holds it so long.
func (w *watermark) anew(d time.Duration, why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.epoch++
	w.sequence, w.digest = 0, ""
	w.hold(d, why)
}

// young holds a stream that this process found so young that requests may be
// under way of which it doesn't know.
func (w *watermark) young(d time.Duration, why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hold(d, why)
}

// hold never shortens a wait. The caller has the lock.
func (w *watermark) hold(d time.Duration, why error) {
	if until := w.nowFunc().Add(d); until.After(w.heldUntil) {
		w.heldUntil, w.why = until, why
	}
}

var errFell = errors.New("the ledger's stream lost entries while settled ran (restored from a backup?): requests it no longer knows of may still land")

// held is nil, or says how long nothing may be sent.
func (w *watermark) held() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	left := w.heldUntil.Sub(w.nowFunc())
	if left <= 0 {
		return nil
	}
	return &settlement.Waiting{
		Reason: settlement.LedgerHeld, Delay: left,
		Err: w.why,
	}
}

// wasAway asks for a look.
func (w *watermark) wasAway() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.away++
}

// lookAsked says which absence nobody has looked after yet.
func (w *watermark) lookAsked() (absence uint64, asked bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.away, w.away > w.looked
}

func (w *watermark) lookDone(absence uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.looked = max(w.looked, absence)
	if w.looked == w.away && w.since.Sequence > w.sequence {
		w.sequence, w.digest = w.since.Sequence, w.since.digest
	}
	if w.looked == w.away {
		w.since = mark{}
	}
}

// furthest is the furthest message seen; ok is false where none was.
func (w *watermark) furthest() (at uint64, digest string, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sequence, w.digest, w.sequence > 0
}

// Reconnected is to be called whenever the connection to NATS was away. It doesn't
// block: the next Check, or the next append of a closing entry, looks whether the
// furthest entry that this process knows is still in the stream, and holds all
// sending for a fence where it is not.
func (l *Ledger) Reconnected() { l.mark.wasAway() }

// look finds out whether the stream fell, if nobody has since the connection was
// away. Entries that others appended after the fall don't hide it.
func (l *Ledger) look(ctx context.Context) error {
	absence, asked := l.mark.lookAsked()
	if !asked {
		return nil
	}
	if err := l.recognise(ctx); err != nil {
		return err
	}
	if at, known, ok := l.mark.furthest(); ok {
		m, err := l.get(ctx, every(l.cfg.Prefix), at)
		switch {
		case errors.Is(err, ErrNoMessage):
			l.mark.fell(Message{})
		case err != nil:
			return fmt.Errorf("ledger: looking whether the stream lost entries: %w", err)
		case m.Sequence != at || digest(m.Payload) != known:
			l.mark.fell(m)
		}
	}
	l.mark.lookDone(absence)
	return nil
}
