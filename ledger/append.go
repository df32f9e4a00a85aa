package ledger

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"settled/settlement"
)

const (
	// attemptBytes is how much randomness tells one append from every other.
	attemptBytes = 16

	// appendBudget is how long an append is tried again: longer than the election
	// of a stream leader, which took 5 to 8 s where it was measured.
	appendBudget = 8 * time.Second
	// publishWait bounds one try.
	publishWait = 2 * time.Second
	// firstPause doubles up to longestPause. A conflict with a proposal that is
	// still in flight is over within a millisecond or two.
	firstPause   = 5 * time.Millisecond
	longestPause = 500 * time.Millisecond
)

// Append stores an entry if the head is still the session's last, and returns the
// new head with the entry as stored. It fills in N, Time, AttemptID and Previous.
//
// settlement.ErrHeadMoved: another entry came first, or came on top of this one before
// it was known to be stored; decide again from the new head. *settlement.Waiting
// with settlement.LedgerHeld: the stream lost entries or has settings that endanger
// money, nothing may be sent yet; a closing entry may be stored all the same and is
// then a dead intent. Any other
// error: not known to be stored; a later read of the head will tell.
//
// An entry of an unknown session is appended to nothing: the head is the zero
// Head, and is returned as such around the stored entry.
func (l *Ledger) Append(ctx context.Context, head settlement.Head, e settlement.Entry) (settlement.Head, error) {
	a, err := l.prepare(head, e)
	if err != nil {
		return settlement.Head{}, fmt.Errorf("ledger: append %s to %s: %w", e.State, e.Session.Token(), err)
	}
	if err := l.mayRecord(ctx, e); err != nil {
		return settlement.Head{}, err
	}
	m, err := l.store(ctx, a)
	if err != nil {
		return settlement.Head{}, fmt.Errorf("ledger: append %s to %s: %w", e.State, e.Session.Token(), err)
	}
	if e.State == settlement.EntryClosing {
		if err := l.stands(ctx, expires(e)); err != nil {
			return settlement.Head{}, err
		}
	}
	stored, err := a.as(m)
	if err != nil {
		return settlement.Head{}, fmt.Errorf("ledger: append %s to %s: stored as entry %d, and that reads: %w", e.State, e.Session.Token(), m.Sequence, err)
	}
	return settlement.Head{Session: e.Session, Last: &stored, Digest: digest(m.Payload)}, nil
}

// expires reports whether an entry is the intent of a request that only its time
// fences. One that the session's version fences needs no ledger for that: of two
// that were made from one version the node carries out one.
func expires(e settlement.Entry) bool {
	return e.State == settlement.EntryClosing && e.ValidUntil != nil
}

// settingsAge is how old the last look at the stream's settings may be when an
// intent is recorded.
const settingsAge = 5 * time.Second

// mayRecord is nil where the entry may be stored: anything but an intent always, for
// what happened must be recorded; an intent where its request could be sent.
func (l *Ledger) mayRecord(ctx context.Context, e settlement.Entry) error {
	if e.State != settlement.EntryClosing {
		return nil
	}
	if err := l.Verified(ctx, settingsAge); err != nil {
		return asWaiting(err)
	}
	if !expires(e) {
		return nil
	}
	if err := l.look(ctx); err != nil {
		return asWaiting(err)
	}
	return l.mark.held()
}

// asWaiting makes a wait of an error about the stream's settings, and keeps others.
func asWaiting(err error) error {
	var unsafe *SettingsError
	if errors.As(err, &unsafe) {
		return &settlement.Waiting{Reason: settlement.LedgerHeld, Err: err}
	}
	return err
}

// stands finds out whether an intent that was stored gives the right to send: the
// stream may have changed, fallen, or been replaced while it was on its way. Only
// requests that expire wait for entries that were lost.
func (l *Ledger) stands(ctx context.Context, expires bool) error {
	var waited time.Duration
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		err := l.recognise(ctx)
		if err == nil && expires {
			err = l.look(ctx)
		}
		var unsafe *SettingsError
		switch {
		case errors.As(err, &unsafe):
			return asWaiting(err)
		case err == nil && expires:
			return l.mark.held()
		case err == nil:
			return nil
		}
		if waited += pause; waited > appendBudget || l.cfg.WaitFunc(ctx, pause) != nil {
			return fmt.Errorf("stored, but not sent: %w", err)
		}
	}
}

// appending is one append on its way: the same bytes in every try.
type appending struct {
	Draft
	head  settlement.Head
	entry settlement.Entry // as Payload reads
}

// as is the entry as it was stored: with other bytes where an earlier delivery of
// an unknown session's outcome had stored it.
func (a appending) as(m Message) (settlement.Entry, error) {
	if !bytes.Equal(m.Payload, a.Payload) {
		return ParseEntry(m.Subject, m.Payload, m.Sequence)
	}
	e := a.entry
	e.Sequence = m.Sequence
	return e, nil
}

// prepare completes an entry and encodes it.
func (l *Ledger) prepare(head settlement.Head, e settlement.Entry) (appending, error) {
	if err := mayFollow(head, e); err != nil {
		return appending{}, err
	}
	e.Time, e.AttemptID = stamp(l.cfg.NowFunc()), l.attemptID()
	if e.ValidUntil != nil {
		until := e.ValidUntil.UTC()
		e.ValidUntil = &until
	}
	e.N, e.Sequence, e.Previous = 0, 0, nil
	a := appending{head: head}
	var filter string
	a.Subject, filter = subjects(l.cfg.Prefix, e.State, e.Session)
	if e.Session == "" {
		a.ID = entryID(e)
	} else {
		e.N, e.Previous = head.N()+1, &head.Digest
		a.Filter, a.Expect = filter, head.LastSequence()
	}
	var err error
	if a.Payload, err = encode(l.cfg.Prefix, e); err != nil {
		return appending{}, err
	}
	if a.entry, err = ParseEntry(a.Subject, a.Payload, 0); err != nil {
		return appending{}, fmt.Errorf("it could not be read back: %w", err)
	}
	return a, readsBack(a.entry, e)
}

func (l *Ledger) attemptID() string {
	b := make([]byte, attemptBytes)
	l.cfg.RandomFunc(b)
	return hex.EncodeToString(b)
}

// mayFollow refuses what would take a session from the outcome that holds it. The
// caller has decided so already; this is the last look before it is written.
func mayFollow(head settlement.Head, e settlement.Entry) error {
	if head.Session != e.Session {
		return fmt.Errorf("the head is of session %s: a defect of settled, please report it", head.Session.Token())
	}
	if e.State == settlement.EntryFailed {
		return nil
	}
	st := head.Standing()
	if st.State == settlement.Closed || st.State == settlement.Closing && !head.HeldBy(e.Outcome) {
		return fmt.Errorf("the session is %s by outcome %.80q of %.80q: a defect of settled, please report it", st.State, st.ID, st.Source)
	}
	return nil
}

// readsBack refuses an entry that would not be read back the same: JSON mends text
// that is not UTF-8 in silence, and an outcome would not know itself again.
func readsBack(got, e settlement.Entry) error {
	if e.Session == "" {
		return nil // nobody looks for it again
	}
	same := got.Outcome == e.Outcome && *got.Standing == *e.Standing
	if e.Node != nil {
		same = same && *got.Node == *e.Node
	}
	if !same {
		return errors.New("it would be read back otherwise: the outcome's source or id, or the node's answer, is not UTF-8")
	}
	return nil
}

// store appends the draft to the stream, or finds out that it can't be appended. After
// any error the head that the leader shows decides; while that is unchanged the same
// bytes are sent again, which the expectation makes safe.
func (l *Ledger) store(ctx context.Context, a appending) (Message, error) {
	begun, deadline := l.mark.now(), l.cfg.SteadyFunc().Add(appendBudget)
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		m, err := l.publish(ctx, a)
		if err == nil {
			err = l.follows(ctx, a, m)
		}
		if err == nil || errors.Is(err, settlement.ErrHeadMoved) {
			return m, err
		}
		expected := a.Expect
		m, found, readErr := l.resolve(ctx, &a, begun)
		if found || errors.Is(readErr, settlement.ErrHeadMoved) {
			return m, readErr
		}
		err = errors.Join(err, readErr)
		if !l.cfg.SteadyFunc().Add(pause).Before(deadline) {
			return Message{}, fmt.Errorf("not known to be stored, tried for %s: %w", appendBudget, err)
		}
		if readErr == nil && a.Expect != expected {
			continue // at once: until the next try more foreign messages may come
		}
		if stopped := l.cfg.WaitFunc(ctx, pause); stopped != nil {
			return Message{}, fmt.Errorf("not known to be stored: %w", errors.Join(stopped, err))
		}
	}
}

// publish tries once. With an acknowledgement the message is stored as returned.
func (l *Ledger) publish(ctx context.Context, a appending) (Message, error) {
	ctx, cancel := context.WithTimeout(ctx, publishWait)
	defer cancel()
	before := l.mark.now()
	ack, err := l.stream.Publish(ctx, a.Draft)
	if err == nil && ack.Duplicate {
		m, same, err := l.duplicate(ctx, a, ack.Sequence)
		if err != nil || same {
			return m, err
		}
		a.ID += "/" + a.entry.AttemptID // the id was used for something else
		ack, err = l.stream.Publish(ctx, a.Draft)
		if err != nil {
			return Message{}, err
		}
	}
	if err != nil {
		return Message{}, err
	}
	m := Message{Subject: a.Subject, Sequence: ack.Sequence, Payload: a.Payload}
	l.mark.stored(before, m)
	return m, nil
}

// follows is nil where a message that was stored now stands on its session's chain. The
// server compares sequences, and a stream that was set back uses them again: the message at
// the expected one may be another than the head. Then the new message is foreign, nothing
// follows from it, and the answer is ErrMoved.
func (l *Ledger) follows(ctx context.Context, a appending, m Message) error {
	switch {
	case a.Filter == "" || a.Expect == 0:
		return nil
	case a.Expect == a.head.Sequence():
		last, err := l.get(ctx, a.Filter, a.Expect)
		if err == nil && last.Sequence == a.Expect && digest(last.Payload) == a.head.Digest {
			return nil
		}
		if err != nil && !errors.Is(err, ErrNoMessage) {
			return fmt.Errorf("stored as message %d, and the entry before it can't be read: %w", m.Sequence, err)
		}
	default: // foreign messages stand between
		now, err := l.head(ctx, a.entry.Session)
		if err != nil {
			return fmt.Errorf("stored as message %d, and the head can't be read: %w", m.Sequence, err)
		}
		if n := a.entry.N; n == now.N() && now.Sequence() == m.Sequence || n < now.N() && now.Entries[n-1].Sequence == m.Sequence {
			return nil
		}
	}
	l.mark.fell(Message{}) // the entry that this one was to follow is gone
	return settlement.ErrHeadMoved
}

// duplicate reads the message for which the server took a draft of an unknown session,
// and reports whether it is the entry of the same outcome's message, stored by an
// earlier delivery in bytes of its own.
func (l *Ledger) duplicate(ctx context.Context, a appending, sequence uint64) (m Message, same bool, err error) {
	m, err = l.get(ctx, every(l.cfg.Prefix), sequence)
	if errors.Is(err, ErrNoMessage) || err == nil && m.Sequence != sequence {
		return Message{}, false, nil
	}
	if err != nil {
		return Message{}, false, err
	}
	e, err := ParseEntry(m.Subject, m.Payload, m.Sequence)
	return m, err == nil && m.Subject == a.Subject && e.Outcome == a.entry.Outcome, nil
}

// resolve reads from the leader what a publish that answered an error led to. found: it
// is stored as returned. ErrMoved: the session has another last entry, so it can never
// be stored. Neither: not known, or not stored yet; where only foreign messages came
// after the head, the next try expects the last of them, and no earlier try can
// succeed any more.
func (l *Ledger) resolve(ctx context.Context, a *appending, begun moment) (m Message, found bool, err error) {
	if a.Filter == "" {
		return Message{}, false, nil
	}
	now, err := l.head(ctx, a.entry.Session)
	if err != nil {
		return Message{}, false, fmt.Errorf("reading the head: %w", err)
	}
	seen := Message{Subject: a.Subject, Sequence: now.Sequence(), Payload: a.Payload}
	switch {
	case now.Digest == digest(a.Payload):
		l.mark.stored(begun, seen)
		return seen, true, nil
	case now.N() > a.head.N():
		return Message{}, false, settlement.ErrHeadMoved
	case now.Digest != a.head.Digest || now.Sequence() != a.head.Sequence() || now.LastSequence() < a.Expect:
		l.mark.fell(Message{}) // the messages that this one was to follow are gone
		return Message{}, false, settlement.ErrHeadMoved
	}
	a.Expect = now.LastSequence()
	return Message{}, false, nil
}
