package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"settled/settlement"
)

// recognition knows which stream the ledger stands on. A stream that was deleted
// and made again begins empty: what its predecessor recorded of requests that may
// still land is gone, and no sequence shows it once enough was appended anew. The
// servers tell the two apart by when they were made.
type recognition struct {
	origins Origins       // nil: a stream that nobody can replace
	turn    chan struct{} // one looks at a time, and its answer is good for all who waited

	// Whoever has the turn:
	created time.Time // of the stream that is known; zero: none was looked at yet
	weak    []string  // its settings that protected less than configured when it was first looked at
	removed uint64    // how many of its messages were gone at the last look
	began   time.Time // the last look that succeeded

	sure atomic.Bool // what Config.Tail remembered of it was in it
}

// Check looks whether the stream is there, and is the one that this process knows.
// Nil: entries can be appended, and requests sent. *settlement.Waiting with
// settlement.LedgerHeld: it was made anew or lost entries, and no request that
// expires is sent until what it forgot has run out. Any other error says what is
// wrong with it and what to do; nothing is sent either.
func (l *Ledger) Check(ctx context.Context) error {
	if err := l.recognise(ctx); err != nil {
		l.mark.wasAway() // what comes back may be an older copy
		return err
	}
	if err := l.look(ctx); err != nil {
		return err
	}
	return l.mark.held()
}

// recognise compares the stream with the one that is known, by an answer of the
// servers that was asked for after this call began.
func (l *Ledger) recognise(ctx context.Context) error {
	if l.known.origins == nil {
		return nil
	}
	return l.recogniseSince(ctx, l.cfg.SteadyFunc())
}

// recogniseSince does so by an answer that was asked for after that instant.
func (l *Ledger) recogniseSince(ctx context.Context, asked time.Time) error {
	r := &l.known
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if r.began.After(asked) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, readWait)
	defer cancel()
	began := l.cfg.SteadyFunc()
	r.began = time.Time{} // an error outdates what was answered before
	var unsafe *SettingsError
	if err := l.compare(ctx); errors.As(err, &unsafe) {
		return fmt.Errorf("ledger: %w", err)
	} else if err != nil {
		return fmt.Errorf("ledger: stream %s: %w", StreamName(l.cfg.Prefix), err)
	}
	r.began = began
	l.keepTail()
	return nil
}

// Verified reports whether the stream's settings are as they must be, by an answer
// of the servers that is at most that old; where there is none they are asked. Calls
// at the same time share the answer. The error is that of Check, but for the wait
// after lost entries, which concerns requests that expire alone.
func (l *Ledger) Verified(ctx context.Context, within time.Duration) error {
	if l.known.origins == nil {
		return nil
	}
	return l.recogniseSince(ctx, l.cfg.SteadyFunc().Add(-within))
}

// Complete reports whether every entry is in the stream of which a request may still
// land. The errors are those of Check; the stream is verified by an answer of the servers
// that is at most that old, and by a look where the connection was away.
func (l *Ledger) Complete(ctx context.Context, within time.Duration) error {
	if err := l.Verified(ctx, within); err != nil {
		return asWaiting(err)
	}
	if err := l.look(ctx); err != nil {
		return err
	}
	return l.mark.held()
}

// SettingsError says that the stream has settings that endanger money. Nothing is
// sent until they are put back.
type SettingsError struct {
	Stream  string
	Dangers []string // each with the command that puts it back
}

func (e *SettingsError) Error() string {
	return "stream " + e.Stream + " would endanger money:\n  " + strings.Join(e.Dangers, "\n  ")
}

// compare holds the stream to the one that is known. Whoever calls it has the turn.
func (l *Ledger) compare(ctx context.Context) error {
	r, before := &l.known, l.mark.now()
	o, err := r.origins.Origin(ctx)
	switch {
	case errors.Is(err, errMissing):
		return fmt.Errorf("%w: %s", errMissing, l.bringBack())
	case err != nil:
		return err
	}
	if r.created.IsZero() {
		r.weak, r.removed = o.Weak, o.Removed
	}
	if dangers := append(o.Dangers, r.weakened(o)...); len(dangers) > 0 {
		return &SettingsError{Stream: StreamName(l.cfg.Prefix), Dangers: dangers}
	}
	switch {
	case o.Created.Equal(r.created):
		l.count(before, o)
	case o.Created.Before(r.created):
		l.mark.anew(l.cfg.Fence, errFell) // an older copy in the place of the one that is known
	case !r.created.IsZero():
		l.mark.anew(l.cfg.Fence, l.lost(o, "while settled ran", l.cfg.Fence)) // however old it says it is: the servers' clock may have been set
	default:
		if err := l.meet(ctx, o); err != nil {
			return err
		}
		if err := l.recall(ctx, o); err != nil {
			return err
		}
		if o.Counted && o.Removed > 0 && !l.TailFound() {
			l.mark.young(l.cfg.Fence, fmt.Errorf("%d entries are missing from stream %s, and nothing that was remembered of it shows since when: requests that they recorded may still land", o.Removed, StreamName(l.cfg.Prefix)))
		}
	}
	r.created, r.removed = o.Created, o.Removed
	return nil
}

// weakened are the settings that protect less than they did when the stream was
// first looked at.
func (r *recognition) weakened(o Origin) (lines []string) {
	for _, line := range o.Weak {
		if !slices.Contains(r.weak, line) {
			lines = append(lines, line+" (to keep the new setting, start settled again)")
		}
	}
	return lines
}

// count holds all sending of requests that expire for a fence where the stream ends
// before what was known, or messages in it are gone: entries of requests that may
// still land can be among them.
func (l *Ledger) count(before moment, o Origin) {
	if !o.Counted {
		return
	}
	if o.Last < before.sequence {
		l.mark.fellSince(before)
	}
	if o.Removed > l.known.removed {
		l.mark.young(l.cfg.Fence, fmt.Errorf("%d entries were removed from stream %s while settled ran (a limit, a purge or a deletion): requests that they recorded may still land", o.Removed-l.known.removed, StreamName(l.cfg.Prefix)))
	}
}

// meet judges the first stream that this process sees. One that is younger than a
// fence, where work is older than it, was lost and made anew: whatever its
// predecessor recorded may still land. The first stream ever is not waited for.
func (l *Ledger) meet(ctx context.Context, o Origin) error {
	left := l.left(o)
	if left <= 0 {
		return nil
	}
	used, err := l.known.origins.UsedBefore(ctx, o.Created)
	if err != nil {
		return err
	}
	if used {
		l.mark.young(left, l.lost(o, "and is younger than the outcomes", left))
	}
	return nil
}

// left is how long requests may still land that an earlier stream recorded: each
// was recorded before this one was made.
func (l *Ledger) left(o Origin) time.Duration { return l.cfg.Fence - max(0, o.Age) }

func (l *Ledger) lost(o Origin, how string, wait time.Duration) error {
	return fmt.Errorf("STREAM %s WAS LOST: it was made anew at %s, %s. Nothing is sent until %s (message_expiry plus fence_margin after it was lost at the latest), for requests that the lost entries speak of may still land; then outcomes without an entry are settled as if they were new. What was lost comes back only from a copy: stop every settled, delete this stream, nats stream restore",
		StreamName(l.cfg.Prefix), o.Created.UTC().Format(time.RFC3339), how, l.cfg.NowFunc().Add(wait).UTC().Format(time.RFC3339))
}

// bringBack is what to do where the stream is missing. A running settled doesn't
// make it: an empty one would stand in the way of the copy.
func (l *Ledger) bringBack() string {
	begin := "create it"
	if l.cfg.Create {
		begin = "start settled again to begin an empty one"
	}
	return "bring it back from a copy (nats stream restore), or " + begin + " (what was recorded is then lost); nothing is sent or decided meanwhile"
}

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

// Tail remembers the last entry of a stream that a process knew. Its calls may run at
// the same time.
type Tail interface {
	// Recall returns what was kept of the stream of that name that was made at that
	// instant; ok is false where nothing was. A sequence of 0: the stream was known
	// to be empty.
	Recall(stream string, created time.Time) (e TailEntry, ok bool)
	// Keep remembers an entry in the place of an earlier one. again is true after the
	// stream lost entries: then it also takes the place of a later one.
	Keep(stream string, created time.Time, e TailEntry, again bool)
}

// TailEntry is an entry by its sequence and the SHA-256 of its payload in hex, with how
// many of the stream's messages were gone when it was kept.
type TailEntry struct {
	Sequence uint64 `json:"sequence"`
	Digest   string `json:"digest,omitempty"`
	Removed  uint64 `json:"removed,omitempty"`
}

var errSetBack = errors.New("the ledger's stream lost entries while settled was stopped (a copy was put back?): requests it no longer knows of may still land")

// recall holds a stream that this process sees for the first time to what was
// remembered of it, and holds all sending for a fence where that is gone.
func (l *Ledger) recall(ctx context.Context, o Origin) error {
	if l.cfg.Tail == nil {
		return nil
	}
	e, ok := l.cfg.Tail.Recall(StreamName(l.cfg.Prefix), o.Created)
	if !ok {
		return nil
	}
	if e.Sequence > 0 {
		m, err := l.get(ctx, every(l.cfg.Prefix), e.Sequence)
		if err != nil && !errors.Is(err, ErrNoMessage) {
			return fmt.Errorf("looking for the last entry that was known: %w", err)
		}
		if err != nil || m.Sequence != e.Sequence || digest(m.Payload) != e.Digest {
			l.mark.anew(l.cfg.Fence, errSetBack)
			return nil
		}
	}
	if o.Counted && o.Removed > e.Removed { // before the last one, while nobody looked
		l.mark.young(l.cfg.Fence, fmt.Errorf("%d entries were removed from stream %s while settled was stopped (a limit, a purge or a deletion): requests that they recorded may still land", o.Removed-e.Removed, StreamName(l.cfg.Prefix)))
	}
	l.known.sure.Store(e.Sequence > 0 || o.Removed == 0)
	return nil
}

// TailFound reports whether the stream had the last entry that Config.Tail remembered
// when this process saw it first.
func (l *Ledger) TailFound() bool { return l.known.sure.Load() }

// keepTail has what this process knows remembered, unless requests are held: until
// they have expired, a restart must hold them again. Whoever calls it has the turn.
func (l *Ledger) keepTail() {
	if l.cfg.Tail == nil || l.mark.held() != nil {
		return
	}
	at, digest, _ := l.mark.furthest()
	l.cfg.Tail.Keep(StreamName(l.cfg.Prefix), l.known.created, TailEntry{at, digest, l.known.removed}, l.mark.now().epoch > 0)
}
